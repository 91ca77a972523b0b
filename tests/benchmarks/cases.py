"""All that is measured, and which figures have to be reached."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tests.benchmarks.dataset_cases import DATASET_CASES, DATASET_GOALS
from tests.benchmarks.file_cases import FILE_CASES, FILE_GOALS
from tests.benchmarks.kinds import Case, Goal
from tests.benchmarks.tuning_cases import TUNING_CASES, TUNING_GOALS
from tests.benchmarks.watching_cases import WATCHING_CASES, WATCHING_GOALS

__all__ = ["CASES", "GOALS", "chosen"]

CASES: Sequence[Case] = (*FILE_CASES, *DATASET_CASES, *WATCHING_CASES, *TUNING_CASES)

GOALS: Sequence[Goal] = (*FILE_GOALS, *DATASET_GOALS, *WATCHING_GOALS, *TUNING_GOALS)


def chosen(names: Collection[str]) -> tuple[list[Goal], list[Case]]:
    """Return the goals of these names, all of them if there are none, and the cases they need.

    :raises ValueError: if there is no goal of one of the names.
    """
    unknown = set(names) - {goal.name for goal in GOALS}
    if unknown:
        raise ValueError(
            f"no goal {', '.join(sorted(unknown))}; there are {', '.join(dict.fromkeys(g.name for g in GOALS))}"
        )
    goals = [goal for goal in GOALS if not names or goal.name in names]
    needed = {goal.case for goal in goals}
    return goals, [case for case in CASES if case.name in needed]
