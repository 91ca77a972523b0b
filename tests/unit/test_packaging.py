"""What pip gets: the wheel, its dependencies, and the same in the test environments."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import azstoragetorch

REPOSITORY = Path(__file__).parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by the build backend without a network."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.DEVNULL)
    [path] = folder.glob("*.whl")
    return path


def test_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    """A module left out breaks every installation; a `tests` package put in breaks other projects."""
    modules = {str(path.relative_to(REPOSITORY)) for path in REPOSITORY.glob("azstoragetorch/**/*.py")}
    with zipfile.ZipFile(wheel) as opened:
        packed = {name for name in opened.namelist() if ".dist-info/" not in name}

    assert packed == modules | {"azstoragetorch/py.typed"}


def test_wheel_has_the_version_of_the_package(wheel: Path) -> None:
    """Bug reports quote either."""
    assert wheel.name == f"azstoragetorch-{azstoragetorch.__version__}-py3-none-any.whl"


def test_test_environments_have_the_dependencies_of_the_package() -> None:
    """tox installs the group `core` instead of the package, so that it can leave torch out."""
    core = PROJECT["dependency-groups"]["core"]
    torch = [name for name in PROJECT["dependency-groups"]["torch"] if str(name).startswith("torch>")]

    assert sorted(PROJECT["project"]["dependencies"]) == sorted(core + torch)


def test_torch_is_constrained_everywhere() -> None:
    """Another torch brings gigabytes of CUDA packages into every environment."""
    assert re.search(r"^torch==[\d.]+$", (REPOSITORY / "constraints.txt").read_text(), re.MULTILINE)
    base = (REPOSITORY / "tox.ini").read_text().partition("[testenv]")[2].partition("\n[")[0]
    assert "constraints = {tox_root}{/}constraints.txt" in base
    assert "PIP_CONSTRAINT = {tox_root}{/}constraints.txt" in base
