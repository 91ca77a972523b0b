"""The fault suite's time is counted wherever its tests run, and in CI it has a limit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

CONFTEST = """
from tests.faults import clock

def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(clock.Clock(config, limit=float({limit!r})))
"""

TEST = """
import pytest

@pytest.mark.parametrize("number", range(2))
def test_that_passes(number):
    pass
"""


def run_of(folder: Path, tests: str, limit: float, *options: str, **environment: str) -> tuple[int, str]:
    """Run tests of a folder under that path with that limit; return the exit status and what was printed."""
    (folder / tests).mkdir(parents=True)
    (folder / tests / "test_it.py").write_text(TEST, encoding="utf-8")
    (folder / "conftest.py").write_text(CONFTEST.format(limit=str(limit)), encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib\n", encoding="utf-8")
    inherited = {name: value for name, value in os.environ.items() if name not in ("CI", "AZSTORAGETORCH_SOAK")}
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, tests],
        cwd=folder,
        env={**inherited, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return run.returncode, run.stdout


@pytest.mark.parametrize("workers", [1, 2])
def test_suite_that_takes_too_long_fails_in_ci(tmp_path: Path, workers: int) -> None:
    """Each case passes, and together they make a run too long to be waited for: nobody else would say so."""
    options = ("-p", "xdist", "-n", "2") if workers > 1 else ()
    status, printed = run_of(tmp_path, "tests/faults", 0.0, *options, CI="true")

    assert "2 passed" in printed, printed
    assert f"s on {workers} worker" in printed
    assert status == pytest.ExitCode.TESTS_FAILED


def test_suite_within_the_limit_passes(tmp_path: Path) -> None:
    """The line is there all the same: a suite that grows shall be seen growing."""
    status, printed = run_of(tmp_path, "tests/faults", 60.0, CI="true")

    assert "the fault suite took 0.0 s on 1 worker, of 60 at most" in printed
    assert status == pytest.ExitCode.OK


@pytest.mark.parametrize(
    ("tests", "environment"),
    [
        ("tests/unit", {"CI": "true"}),
        ("tests/faults", {}),
        ("tests/faults", {"CI": "true", "AZSTORAGETORCH_SOAK": "1"}),
    ],
    ids=["others", "not in CI", "soak"],
)
def test_nothing_else_is_judged(tmp_path: Path, tests: str, environment: dict[str, str]) -> None:
    """A developer's machine may be busy, and a soak plays the same tests for longer on purpose."""
    status, printed = run_of(tmp_path, tests, 0.0, **environment)

    assert status == pytest.ExitCode.OK, printed
