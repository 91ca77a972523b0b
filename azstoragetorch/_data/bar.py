"""Count aloud: a progress bar for what is not known to end, shown if asked for."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any

__all__ = ["Counter", "bar_class"]


class Counter:
    """Shows how many blobs were found while the ``with`` block lasts; of use once.

    :param doing: what the line starts with.
    :param shown: show it on stderr; otherwise this does nothing.
    :raises ImportError: if it is to be shown and tqdm is not installed.
    """

    def __init__(self, doing: str, *, shown: bool) -> None:
        self._doing = doing
        self._make = bar_class() if shown else None
        if shown and self._make is None:
            raise ImportError("progress=True needs an extra: pip install 'azstoragetorch[progress]'")
        self._bar: Any = None

    def add(self, count: int) -> None:
        """Count on by ``count``."""
        if self._bar is not None:
            self._bar.update(count)

    def __enter__(self) -> Counter:
        if self._make is not None:
            self._bar = self._make(desc=self._doing, unit=" blobs", unit_scale=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()


def bar_class() -> Any:
    """Return tqdm's bar, made harmless for worker processes; ``None`` where it is not installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        return None

    class Bar(tqdm):  # type: ignore[misc]  # it has no types
        monitor_interval = 0  # no thread that refreshes it

    # A lock of its own: tqdm's is one of multiprocessing, too, which may start a process to keep track of it.
    Bar.set_lock(threading.RLock())
    return Bar
