"""What the program says: lines on stdout, and while it measures a bar on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from azstoragetorch._data.bar import bar_class

__all__ = ["line", "measuring", "shown_rate", "shown_size", "shown_time"]

WIDTH = 12
"""Characters of the first column."""


def line(label: str, text: str) -> None:
    """Print one line, or several: what follows in ``text`` is indented below it."""
    first, *others = text.splitlines() or [""]
    print(f"{label:<{WIDTH}}{first}")
    for other in others:
        print(f"{'':<{WIDTH}}{other.strip()}")
    sys.stdout.flush()


@contextmanager
def measuring(what: str, seconds: float) -> Iterator[Callable[[int], None]]:
    """Show that something is measured for about ``seconds``; what it gives is told the bytes that arrive.

    A bar where tqdm is installed and stderr is a terminal, a line of text on a terminal without tqdm, else nothing:
    the result is printed in any case.
    """
    if not sys.stderr.isatty():
        yield lambda size: None
        return
    make = bar_class()
    if make is None:
        print(f"{'':<{WIDTH}}measuring {what} for {seconds:g} s ...", file=sys.stderr)
        yield lambda size: None
        return
    began, moved = time.monotonic(), 0
    format = "{desc}: {percentage:3.0f}%|{bar}| {postfix}"
    with make(total=seconds, desc=f"{'':<{WIDTH}}{what}", bar_format=format, leave=False) as bar:

        def moved_on(size: int) -> None:
            nonlocal moved
            moved += size
            passed = time.monotonic() - began
            bar.set_postfix_str(shown_rate(moved / max(passed, 1e-9)), refresh=False)
            bar.update(min(passed, seconds) - bar.n)

        yield moved_on


def shown_size(size: float) -> str:
    """Return a number of bytes in a unit in which it has few digits: ``97 KiB``, ``1.5 GiB``."""
    return _scaled(size, 1024, ("bytes", "KiB", "MiB", "GiB", "TiB"))


def shown_rate(rate: float) -> str:
    """Return bytes a second in decimal units, as networks are sold: ``60 MB/s``."""
    return _scaled(rate, 1000, ("B/s", "KB/s", "MB/s", "GB/s"))


def _scaled(value: float, step: int, units: tuple[str, ...]) -> str:
    unit = 0
    while value >= 1000 and unit + 1 < len(units):
        value, unit = value / step, unit + 1
    return f"{value:.{1 if unit and value < 10 else 0}f} {units[unit]}"


def shown_time(seconds: float) -> str:
    """Return a short time: ``0.8 ms``, ``21 ms``, ``3.2 s``."""
    if seconds >= 1:
        return f"{seconds:.1f} s"
    return f"{seconds * 1000:.{0 if seconds >= 0.01 else 1}f} ms"
