"""What counters, log lines and traces cost. There is no goal to reach: it is there to be known."""

from __future__ import annotations

from collections.abc import Sequence

from tests.benchmarks.kinds import Case, Goal, Sizes
from tests.benchmarks.runs import Run

__all__ = ["WATCHING_CASES", "WATCHING_GOALS"]

OFTEN = 100_000
"""A tenth of a second of what takes a microsecond."""
FILES = 500


def _case(name: str, piece: str, reads: int, floor: str | None = None) -> Case:
    return Case(name, piece, "http", "small", floor, reads=reads, alone=True)


WATCHING_CASES: Sequence[Case] = (
    _case("counters", "counters", OFTEN, "floor-loop"),
    _case("silent line", "silent-line", OFTEN, "floor-loop"),
    _case("look for tracing", "look-for-tracing", OFTEN, "floor-loop"),
    _case("untraced", "untraced", OFTEN, "floor-await"),
    _case("small files", "small-files", FILES),
    _case("traced files", "traced-files", FILES),
)


def _each(run: Run, often: int) -> float:
    return run.cpu / often * 1e6


def _us(run: Run, sizes: Sizes) -> float:
    return _each(run, OFTEN)


def _us_per_file(run: Run, sizes: Sizes) -> float:
    return _each(run, FILES)


WATCHING_GOALS: Sequence[Goal] = (
    Goal("O1", "counters", "counters of one request: CPU", "us", _us),
    Goal("O1", "silent line", "one log line that nobody listens to: CPU", "us", _us),
    Goal("O1", "look for tracing", "one read while tracing is off: CPU", "us", _us),
    Goal("O1", "untraced", "one other operation while tracing is off: CPU", "us", _us),
    Goal("O1", "small files", "beside it, one small blob, opened, read and closed: CPU", "us", _us_per_file),
    Goal("O1", "traced files", "the same with tracing on: CPU", "us", _us_per_file),
)
