"""The cases of the benchmark suite that need torch, with sizes that take no time."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.cases import CASES, GOALS, Sizes
from tests.benchmarks.report import outcomes
from tests.benchmarks.rivals import our_rival
from tests.benchmarks.runner import Runner

TINY = Sizes(state=400_000, tensors=10)


def test_load_and_save_run_for_this_library(tmp_path: Path) -> None:
    """A change of the library that breaks the suite has to show here, not on the day somebody measures."""
    cases = [case for case in CASES if case.name in ("load http", "save http")]

    with Runner([our_rival()], TINY, tmp_path, note=lambda text: None) as runner:
        runs = runner.run(cases, repeat=1)

    assert {(run.case, run.rival) for run in runs} == {
        ("load http", "ours"),
        ("load http", "floor"),
        ("save http", "ours"),
        ("save http", "floor"),
    }
    judged = outcomes([goal for goal in GOALS if goal.name in ("P3", "P4") and "https" not in goal.case], runs, TINY)
    assert all(one.ours is not None and one.floor is not None for one in judged)
