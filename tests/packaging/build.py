"""Build the package as pip would get it, and lay out a wheel for those that only read it."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path
from typing import Any, Literal

__all__ = ["PROJECT", "REPOSITORY", "bare_venv", "build", "layered_venv"]

REPOSITORY = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))


def build(target: Literal["sdist", "wheel"], folder: Path, *, source: Path = REPOSITORY) -> Path:
    """Build ``source`` into ``folder`` and return the file; the build backend needs no network.

    :raises subprocess.CalledProcessError: if it cannot be built.
    """
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(folder)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    [built] = folder.glob("*.whl" if target == "wheel" else "*.tar.gz")
    return built


def layered_venv(wheel: Path, folder: Path) -> Path:
    """Make a virtual environment with the wheel, and all that this interpreter has below it; return its interpreter.

    Nothing is downloaded. It is for programs that read installed packages: the ``.pth`` file that names the other
    environment is what an interpreter follows, and what type checkers follow.
    """
    python = bare_venv(folder, with_pip=False)
    command = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(packages)
    (packages / "below.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return python


def bare_venv(folder: Path, *, with_pip: bool) -> Path:
    """Make an empty virtual environment and return its interpreter."""
    venv.create(folder, with_pip=with_pip)
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
