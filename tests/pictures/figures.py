"""The medians of a file that the benchmark suite wrote."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.cases import GOALS
from tests.benchmarks.kinds import Samples, Sizes
from tests.benchmarks.report import Outcome, outcomes
from tests.benchmarks.rivals import OLD_VERSION
from tests.benchmarks.runs import Run

__all__ = ["FILE", "OLD", "Figures", "amount", "times"]

OLD = OLD_VERSION
FILE = Path(__file__).resolve().parents[2] / "docs" / "performance.json"


@dataclass(frozen=True, slots=True)
class Figures:
    """:ivar date: of the run, as ``2026-11-21``. :ivar machine: what it ran on."""

    date: str
    machine: dict[str, Any]
    sizes: Sizes
    runs: tuple[Run, ...]

    @classmethod
    def read(cls, path: Path = FILE) -> Figures:
        content = json.loads(path.read_text(encoding="utf-8"))
        sizes = content["sizes"]
        sizes["containers"] = {name: Samples(**samples) for name, samples in sizes["containers"].items()}
        runs = tuple(Run(**run) for run in content["runs"])
        return cls(content["date"][:10], content["machine"], Sizes(**sizes), runs)

    def of(self, case: str, rival: str, what: Callable[[Run], float]) -> float | None:
        """Return the median of what is taken from the runs of a case; ``None`` if it was not run.

        :param rival: ``"0.2.0"``, ``"ours"`` or ``"floor"``.
        """
        values = [what(run) for run in self.runs if (run.case, run.rival) == (case, rival)]
        return median(values) if values else None

    def need(self, case: str, rival: str, what: Callable[[Run], float]) -> float:
        """Return the same.

        :raises LookupError: if the case was not run.
        """
        value = self.of(case, rival, what)
        if value is None:
            raise LookupError(f"there is no run of {case!r} for {rival}; was the whole suite measured?")
        return value

    def outcome(self, case: str, unit: str, title: str = "") -> Outcome:
        """Return how the goal of a case came out.

        :param unit: of the goal. :param title: what it begins with, where a case has several goals of a unit.
        """
        named = [goal for goal in GOALS if (goal.case, goal.unit) == (case, unit) and goal.title.startswith(title)]
        [outcome] = outcomes(named, self.runs, self.sizes)
        return outcome

    def turns(self) -> int:
        """Return how many runs the medians are of."""
        return sum((run.case, run.rival) == (self.runs[0].case, "ours") for run in self.runs)

    def versions(self, rival: str) -> dict[str, str]:
        """Return the versions of the packages that a rival ran with."""
        return {name: version for run in self.runs if run.rival == rival for name, version in run.versions.items()}


def amount(value: float) -> str:
    """Write a figure in three digits at most: ``23.4``, ``1.02``, ``0.21``, ``1,280``."""
    if value >= 1000:
        return f"{round(value, 2 - math.floor(math.log10(value))):,.0f}"
    digits = 0 if value >= 99.5 else 1 if value >= 9.95 else 2
    return f"{value:.{digits}f}"


def times(ratio: float) -> str:
    """Write a ratio in two digits, rounded down, so that a goal that is missed never looks reached: ``23``, ``2.4``."""
    return f"{math.floor(ratio)}" if ratio >= 10 else f"{math.floor(ratio * 10) / 10:.1f}"
