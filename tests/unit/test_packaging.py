"""What pip gets: the wheel, its dependencies, and the same in the test environments."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest

import azstoragetorch
from tests.packaging.__main__ import PackageError, declares_dependencies, same_from_sdist
from tests.packaging.build import PROJECT, REPOSITORY, build


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by the build backend without a network."""
    return build("wheel", tmp_path_factory.mktemp("dist"))


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


def test_dependencies_that_the_wheel_does_not_name_are_noticed(wheel: Path, tmp_path: Path) -> None:
    """The environment where they would be missed has them for other reasons."""
    declares_dependencies(wheel)
    with zipfile.ZipFile(wheel) as opened, zipfile.ZipFile(tmp_path / "short.whl", "w") as archive:
        for name in opened.namelist():
            archive.writestr(name, opened.read(name).replace(b"Requires-Dist: anyio>=4.5\n", b""))

    with pytest.raises(PackageError, match=r"pyproject\.toml for .*anyio>=4\.5"):
        declares_dependencies(tmp_path / "short.whl")


def test_sdist_that_builds_another_wheel_is_noticed(wheel: Path, tmp_path: Path) -> None:
    """A module that only the checkout has would be missing for those who build from the sdist."""
    with zipfile.ZipFile(wheel) as opened, zipfile.ZipFile(tmp_path / "more.whl", "w") as archive:
        for name in [*opened.namelist(), "azstoragetorch/only_here.py"]:
            archive.writestr(name, b"" if name.endswith("only_here.py") else opened.read(name))

    with pytest.raises(PackageError, match=r"differs in azstoragetorch/only_here\.py$"):
        same_from_sdist(build("sdist", tmp_path / "dist"), tmp_path / "more.whl", tmp_path)


@pytest.mark.parametrize("program", ["azurite", "pyright"])
def test_lock_file_names_no_registry(program: str) -> None:
    """npm must use the registry that the machine is set up with, and check what it gets."""
    lock = (REPOSITORY / "tests" / program / "package-lock.json").read_text("utf-8")

    assert '"resolved"' not in lock
    assert lock.count('"integrity": "sha512-') == len(re.findall(r'^    "node_modules/', lock, re.MULTILINE)) > 0


def test_torch_is_constrained_everywhere() -> None:
    """Another torch brings gigabytes of CUDA packages into every environment."""
    assert re.search(r"^torch==[\d.]+$", (REPOSITORY / "constraints.txt").read_text(), re.MULTILINE)
    base = (REPOSITORY / "tox.ini").read_text().partition("[testenv]")[2].partition("\n[")[0]
    assert "constraints = {tox_root}{/}constraints.txt" in base
    assert "PIP_CONSTRAINT = {tox_root}{/}constraints.txt" in base
