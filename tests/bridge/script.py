"""Run a piece of Python in an interpreter of its own and hand back what it printed."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import azstoragetorch

__all__ = ["INTERRUPTIBLE", "output_of"]

ROOT = Path(azstoragetorch.__file__).resolve().parents[1]

# Everything that Python can complain about, except its own remark (3.12 on) on forking a process with threads.
WARNINGS = ["-W", "default", "-W", "ignore:This process:DeprecationWarning"]
# A DataLoader whose spawned workers persist races with multiprocessing's tracker of semaphores when the program ends.
# This package makes none: a test of the listing's progress bar shows that no tracker is started.
WARNINGS += ["-W", "ignore:resource_tracker:UserWarning"]


# A process that was started in the background of a shell ignores SIGINT, and so do its children, these scripts.
INTERRUPTIBLE = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"


def output_of(source: str, folder: Path, *, seconds: float = 40, complaint: str = "") -> list[str]:
    """Return the lines that ``source`` prints; it must end by itself, with status 0 and a silent stderr.

    :param complaint: the last line that stderr must have instead.

    A file and not ``-c``, because multiprocessing's spawn imports the main module.
    """
    script = folder / "script.py"
    script.write_text(INTERRUPTIBLE + textwrap.dedent(source), encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, *WARNINGS, str(script)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    if complaint and ended.stderr:
        assert ended.stderr.splitlines()[-1] == complaint, ended.stderr
    else:
        assert ended.stderr == complaint, ended.stderr
    assert ended.returncode == 0, ended.stdout
    return ended.stdout.splitlines()
