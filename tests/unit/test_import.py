"""Importing costs little, loads no more than it must, and starts nothing."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

import azstoragetorch

ROOT = Path(__file__).parents[2]


def run(script: str) -> str:
    """Run ``script`` in a fresh interpreter in the repository root and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()


def test_package_loads_neither_torch_nor_azure() -> None:
    """A program that only asks for the version, or sets options, must not pay seconds for torch."""
    loaded = run("import sys, azstoragetorch; azstoragetorch.__version__; print(*sys.modules)").split()

    assert [name for name in loaded if name.startswith("azstoragetorch")] == ["azstoragetorch"]
    assert not {"torch", "azure", "aiohttp", "anyio", "asyncio", "ssl"} & set(loaded)


def test_options_load_neither_torch_nor_azure() -> None:
    """Options are built in configuration code, long before any blob is opened."""
    loaded = run(
        "import sys; from azstoragetorch import TransferOptions; TransferOptions(); print(*sys.modules)"
    ).split()

    assert not {"torch", "azure", "aiohttp"} & set(loaded)


def test_package_imports_within_50_ms() -> None:
    """Command line tools and DataLoader workers import it too; counted are its own, whatever else the machine does."""
    script = "import time; a = time.process_time(); import azstoragetorch; print(time.process_time() - a)"

    assert min(float(run(script)) for _ in range(5)) < 0.05  # 7 ms on two shared cores


@pytest.mark.parametrize("module", ["io", "aio", "exceptions"])
def test_core_imports_without_torch(module: str) -> None:
    """Files, sync and async, are of use without torch; None in sys.modules makes its import fail."""
    assert find_spec(f"azstoragetorch.{module}") is not None, f"azstoragetorch.{module} is missing"

    loaded = run(
        f"import sys; sys.modules['torch'] = None; import azstoragetorch.{module}; import threading;"
        "print(threading.active_count(), *[name for name in sys.modules if name.startswith('azstoragetorch')])"
    ).split()

    assert loaded[0] == "1", "the import started a thread"
    assert f"azstoragetorch.{module}" in loaded


def test_version_is_written_once() -> None:
    """The build reads it from the package, because a checkout has no installed metadata to read it from."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))

    assert "version" in settings["project"]["dynamic"]
    assert Path(azstoragetorch.__file__).samefile(ROOT / settings["tool"]["hatch"]["version"]["path"])
    assert re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+((a|b|rc|\.dev)[0-9]+)?", azstoragetorch.__version__)


def test_every_name_is_found_when_it_is_asked_for() -> None:
    """They are loaded then, so that a wrong entry in the table of their homes would show only at a user's."""
    assert (
        run("from azstoragetorch import *; import azstoragetorch; print({*azstoragetorch.__all__} - {*dir()})")
        == "set()"
    )


def test_unknown_name_is_an_attribute_error() -> None:
    """``hasattr`` and ``from azstoragetorch import typo`` go by it."""
    with pytest.raises(AttributeError, match="module 'azstoragetorch' has no attribute 'BlobOI'"):
        azstoragetorch.BlobOI  # type: ignore[attr-defined]  # noqa: B018
    assert not hasattr(azstoragetorch, "nothing")
