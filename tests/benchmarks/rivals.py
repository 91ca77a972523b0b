"""The interpreters that run the pieces, and what they see of this machine.

Both versions have the same import name, so each needs an interpreter of its own: this library's is the running one with
the checkout on its path, 0.2.0's is a virtual environment made here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["OLD_VERSION", "Rival", "old_rival", "our_rival"]

OLD_VERSION = "0.2.0"
ROOT = Path(__file__).resolve().parents[2]
FOLDER_VARIABLE = "AZSTORAGETORCH_BENCH_DIR"

_OWN = ("PYTHONPATH", "PYTHONHOME", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")


@dataclass(frozen=True, slots=True)
class Rival:
    """One version of the library.

    :ivar name: as in `Run.rival`.
    :ivar python: its interpreter.
    :ivar variables: of the environment, added to what `environment` hands on.
    """

    name: str
    python: str
    variables: dict[str, str] = field(default_factory=dict)

    def environment(self, ca_file: Path) -> dict[str, str]:
        """Return the environment of a piece: ``ca_file`` is trusted, and nothing goes through a proxy."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if name not in _OWN and not name.lower().endswith("_proxy")
        }
        trust = {"SSL_CERT_FILE": str(ca_file), "REQUESTS_CA_BUNDLE": str(ca_file)}
        return {**inherited, **trust, **self.variables}


def our_rival() -> Rival:
    """Return this checkout under the running interpreter."""
    return Rival("ours", sys.executable, {"PYTHONPATH": str(ROOT)})


def old_rival(python: str | None = None) -> Rival:
    """Return 0.2.0 under ``python``, by default from an environment that is made now if it is not there.

    :raises RuntimeError: if ``python`` does not have exactly that version.
    :raises subprocess.CalledProcessError: if the environment cannot be made.
    """
    if python is None:
        python = _made()
    elif (found := _version(python)) != OLD_VERSION:
        raise RuntimeError(f"{python} has azstoragetorch {found or 'not at all'}, {OLD_VERSION} is needed")
    return Rival(OLD_VERSION, python)


def _made() -> str:
    """Make 0.2.0's environment, 1 GB with torch, unless a whole one is there."""
    folder = Path(os.environ.get(FOLDER_VARIABLE) or ROOT / ".tox" / f"benchmark-{OLD_VERSION}")
    python = str(folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
    if _version(python) != OLD_VERSION:
        print(f"making an environment for azstoragetorch {OLD_VERSION}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        wanted = [f"azstoragetorch=={OLD_VERSION}", "torch"]
        subprocess.run([*install, "--constraint", str(ROOT / "constraints.txt"), *wanted], check=True)
    return python


def _version(python: str) -> str:
    """Return the version installed there, empty if the interpreter, the library or torch is missing."""
    # torch is the last to be there in an installation that was cut: pip writes metadata package by package.
    source = "from importlib.metadata import version; version('torch'); print(version('azstoragetorch'))"
    try:
        found = subprocess.run([python, "-P", "-c", source], capture_output=True, text=True, cwd="/", check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return found.stdout.strip()
