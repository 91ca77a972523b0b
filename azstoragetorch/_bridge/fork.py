"""Let files notice that they crossed a fork."""

from __future__ import annotations

__all__ = ["advance", "generation"]

_generation = 0


def generation() -> int:
    """Return a number that differs between a process and the children forked from it (no system call)."""
    return _generation


def advance() -> None:
    """Enter the next generation: only for the hook that runs in a forked child."""
    global _generation
    _generation += 1
