"""How long the fault suite took in a run of the tests, and in CI a failure where that is too long.

Its cases wait for deadlines, so it grows by seconds with each of them, and nobody notices one that waits too long. What
counts is the time of its tests, spread over the workers: the rest of a run may be beside it.
"""

from __future__ import annotations

__all__ = ["LIMIT", "Clock"]

import os

import pytest

LIMIT = 480.0
"""Seconds. On two quiet cores it takes 250."""
FOLDER = "tests/faults/"


class Clock:
    """A plugin of the process that gets the reports: the one that starts the workers, or the only one.

    :param limit: seconds that the tests of ``FOLDER`` may take.
    """

    def __init__(self, config: pytest.Config, limit: float = LIMIT) -> None:
        self._workers = getattr(config.option, "numprocesses", None) or 1
        self._limit = limit
        self._sum = 0.0

    @property
    def seconds(self) -> float:
        return self._sum / self._workers

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.nodeid.startswith(FOLDER):
            self._sum += report.duration

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._too_long and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._sum:
            workers = f"{self._workers} worker{'s' if self._workers > 1 else ''}"
            text = f"the fault suite took {self.seconds:.1f} s on {workers}, of {self._limit:.0f} at most"
            terminalreporter.write_line(text, red=self._too_long)

    @property
    def _too_long(self) -> bool:
        # A soak takes longer on purpose, and outside CI a machine may be as slow as it likes.
        judged = bool(os.environ.get("CI")) and not os.environ.get("AZSTORAGETORCH_SOAK")
        return judged and self.seconds > self._limit


def pytest_configure(config: pytest.Config) -> None:
    """Begin to count; a worker of pytest-xdist does not, because its reports go to who started it."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Clock(config))
