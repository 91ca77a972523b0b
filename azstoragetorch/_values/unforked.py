"""Work in one thread that must not be under way when another one forks.

A child has no copy of the parent's other threads, but one of every lock that they held. Nobody resets those of OpenSSL:
a child that is forked while a thread reads certificates or gets a token hangs for ever in its own first TLS handshake.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["unforked", "wait_until_forkable"]

_inside: dict[threading.Lock, int] = {}  # and by which thread


@contextmanager
def unforked() -> Iterator[None]:
    """Let the forks of other threads wait until this has been left."""
    lock = threading.Lock()
    lock.acquire()
    _inside[lock] = threading.get_ident()
    try:
        yield
    finally:
        _inside.pop(lock, None)  # a child that its own thread forked in here has none
        lock.release()


def wait_until_forkable(seconds: float) -> None:
    """Wait, at most so long, until all that other threads have begun under `unforked` so far has ended."""
    stop = time.monotonic() + seconds
    for lock, thread in tuple(_inside.items()):
        if thread != threading.get_ident() and lock.acquire(timeout=max(0, stop - time.monotonic())):
            lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_inside.clear)
