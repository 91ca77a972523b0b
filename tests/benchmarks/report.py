"""Tables for people and a file for machines."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.benchmarks.kinds import Goal, Sizes
from tests.benchmarks.rivals import OLD_VERSION
from tests.benchmarks.runs import Run

__all__ = ["Outcome", "outcomes", "table", "write_json"]

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """Medians of a goal's figure. Who did not run has none.

    :ivar reached: whether the goal is reached; ``None`` if there is none, or it is a ratio and 0.2.0 did not run.
    """

    goal: str
    title: str
    unit: str
    old: float | None
    ours: float | None
    floor: float | None
    ratio: float | None
    floor_ratio: float | None
    target: str
    reached: bool | None


def outcomes(goals: Iterable[Goal], runs: Sequence[Run], sizes: Sizes) -> list[Outcome]:
    """Judge every goal by the medians of its runs."""
    return [_outcome(goal, runs, sizes) for goal in goals]


def _outcome(goal: Goal, runs: Sequence[Run], sizes: Sizes) -> Outcome:
    def median(rival: str) -> float | None:
        return _median(runs, goal.case, rival, lambda run: goal.figure(run, sizes))

    old, ours = median(OLD_VERSION), median("ours")
    floor = median("floor") if goal.most is None else None
    ratio = old / ours if old is not None and ours and goal.least is not None else None
    reached = None
    if goal.most is not None and ours is not None:
        target, reached = f"<= {goal.most:g} {goal.unit}".rstrip(), ours <= goal.most
    elif goal.least is not None:
        target = f">= {goal.least:g}x"
        if ratio is not None:
            reached = ratio >= goal.least
    else:
        target = ""
    floor_ratio = ours / floor if ours is not None and floor else None
    return Outcome(goal.name, goal.title, goal.unit, old, ours, floor, ratio, floor_ratio, target, reached)


def table(judged: Iterable[Outcome], runs: Sequence[Run]) -> str:
    """Return two tables: the goals, and what the medians of every case were made of."""
    goals: list[tuple[str, ...]] = [("goal", "what", OLD_VERSION, "ours", "ratio", "target", "", "floor", "of floor")]
    for one in judged:
        verdict = {True: "reached", False: "MISSED", None: "-"}[one.reached]
        numbers = [_number(one.old, one.unit), _number(one.ours, one.unit), _number(one.ratio, "x")]
        floors = [_number(one.floor, one.unit), _number(one.floor_ratio, "x")]
        goals.append((one.goal, one.title, *numbers, one.target, verdict, *floors))
    header = (
        "case",
        "who",
        "wall s",
        "cpu s",
        "peak MiB",
        "requests",
        "lists",
        "at once",
        "conns",
        "MB down",
        "MB up",
        "server cpu s",
    )
    cases: list[tuple[str, ...]] = [header]
    for case, rival in dict.fromkeys((run.case, run.rival) for run in runs):
        columns: list[tuple[Callable[[Run], float], str]] = [
            (lambda run: run.wall, ".3f"),
            (lambda run: run.cpu, ".3f"),
            (lambda run: run.peak / MIB, ".1f"),
            (lambda run: run.requests, ".0f"),
            (lambda run: run.listings, ".0f"),
            (lambda run: run.peak_requests, ".0f"),
            (lambda run: run.connections, ".0f"),
            (lambda run: run.bytes_down / 1e6, ".3f"),
            (lambda run: run.bytes_up / 1e6, ".3f"),
            (lambda run: run.server_cpu, ".2f"),
        ]
        cases.append((case, rival, *(format(_median(runs, case, rival, figure), how) for figure, how in columns)))
    return f"{_aligned(goals, left=2)}\n\n{_aligned(cases, left=2)}"


def write_json(path: Path, judged: Iterable[Outcome], runs: Iterable[Run], sizes: Sizes) -> None:
    """Write every single run with what it ran on; nothing in it names a person, a machine or a folder."""
    content = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "system": platform.system(),
            "kernel": ".".join(platform.release().split(".")[:2]),  # what follows may name whose machine it is
            "architecture": platform.machine(),
            "python": platform.python_version(),
        },
        "sizes": asdict(sizes),
        "goals": [asdict(one) for one in judged],
        "runs": [asdict(run) for run in runs],
    }
    path.write_text(_lines(content), encoding="utf-8")


def _lines(content: dict[str, Any]) -> str:
    """Return JSON with one goal or run on each line, so that the file of a new measurement can be compared."""
    parts = []
    for name, value in content.items():
        if isinstance(value, list):
            text = "[\n" + ",\n".join(f"  {json.dumps(item)}" for item in value) + "\n ]"
        else:
            text = json.dumps(value)
        parts.append(f" {json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _median(runs: Iterable[Run], case: str, rival: str, figure: Callable[[Run], float]) -> float | None:
    figures = [figure(run) for run in runs if (run.case, run.rival) == (case, rival)]
    return statistics.median(figures) if figures else None


def _number(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:.3g} {unit}".rstrip() if value < 1000 else f"{value:.0f} {unit}".rstrip()


def _aligned(rows: Sequence[Sequence[str]], left: int) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )
