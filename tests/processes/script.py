"""Run a script in an interpreter of its own and talk to it by lines while it runs.

The script starts with ``from tests.processes.child import *``, which gives it files on the test's server. It prints a
line when it got somewhere, and waits for a line where the test has to act first: no side ever guesses how long the
other takes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tests.blobserver import BlobServer
from tests.bridge.script import INTERRUPTIBLE, ROOT, WARNINGS

__all__ = ["Ended", "Script"]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a script ended: status, remaining lines, stderr, seconds since the last line or signal."""

    status: int
    lines: list[str]
    stderr: str
    seconds: float

    def silently(self) -> list[str]:
        """Return the remaining lines of a script that ended well and wrote nothing to stderr."""
        assert self.stderr == ""
        assert self.status == 0, self.lines
        return self.lines


class Script:
    """A running script; leaving the ``with`` block kills it, with all its children.

    :param source: the text after the import of `tests.processes.child`.
    :param flags: interpreter flags instead of those that show every warning.
    """

    def __init__(self, source: str, folder: Path, server: BlobServer, *, flags: list[str] | None = None) -> None:
        path = folder / "script.py"
        path.write_text(
            INTERRUPTIBLE + "from tests.processes.child import *\n" + textwrap.dedent(source), encoding="utf-8"
        )
        self._errors = folder / "stderr"
        with self._errors.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, *(WARNINGS if flags is None else flags), str(path)],
                env={
                    **os.environ,
                    "PYTHONPATH": str(ROOT),
                    "TEST_CONTAINER_URL": server.container_url,
                    "TEST_CA_FILE": getattr(server, "ca_file", ""),
                },
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self._since = time.monotonic()
        self.took = 0.0
        """Seconds from the line or signal before the last line to that line."""

    def __enter__(self) -> Script:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._stdin.close()
        self._stdout.close()
        if kind is not None:
            sys.stderr.write(self.stderr)  # pytest shows it with the failure

    @property
    def pid(self) -> int:
        """Process id of the script, and of the group that it and its children are."""
        return self._process.pid

    @property
    def stderr(self) -> str:
        """What the script has written to stderr so far."""
        return self._errors.read_text(encoding="utf-8")

    def line(self) -> str:
        """Wait for the next line that the script prints."""
        line = self._stdout.readline()
        assert line, f"the script ended with {self._process.wait()}: {self.stderr}"
        now = time.monotonic()
        self.took, self._since = now - self._since, now
        return line.rstrip("\n")

    def go(self) -> None:
        """Let the script pass the `wait` it is at or comes to."""
        self._stdin.write("go\n")
        self._stdin.flush()

    def signal(self, number: int) -> None:
        """Send a signal to the script alone, not to its children."""
        self._since = time.monotonic()
        self._process.send_signal(number)

    def end(self) -> Ended:
        """Wait for the end of the script and of everything it started."""
        status = self._process.wait()
        seconds = time.monotonic() - self._since
        return Ended(status, self._stdout.read().splitlines(), self.stderr, seconds)
