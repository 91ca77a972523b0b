"""The suite itself, with sizes that take no time: figures are judged only where they do not depend on the machine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.benchmarks import dataset_pieces, file_pieces, watching_pieces
from tests.benchmarks.cases import CASES, GOALS, chosen
from tests.benchmarks.kinds import Samples, Sizes
from tests.benchmarks.report import outcomes, table, write_json
from tests.benchmarks.rivals import OLD_VERSION, Rival, old_rival, our_rival
from tests.benchmarks.runner import Runner, WrongContentError
from tests.benchmarks.runs import Run
from tests.benchmarks.tuning_cases import TUNING_CASES

KIB = 1024
TINY = Sizes(
    blob=3 << 20,
    state=400_000,
    tensors=10,
    large=4 << 20,
    small=100 * KIB,
    containers={name: Samples(3, samples.size and KIB) for name, samples in Sizes().containers.items()},
)
# Of an option's values one is enough to show that it can be set.
TUNED = {(case.piece, *case.options): case.name for case in TUNING_CASES}.values()
WITHOUT_TORCH = [
    case
    for case in CASES
    if case.piece in ("read", "readinto", "random-reads", "write", "list", *watching_pieces.PIECES)
    and (case not in TUNING_CASES or case.name in TUNED)
]


def _run(rival: str, wall: float) -> Run:
    return Run(
        case="read",
        rival=rival,
        wall=wall,
        cpu=wall,
        peak=0,
        check=1,
        methods={"GET": 1},
        bytes_down=0,
        bytes_up=0,
        connections=1,
        peak_requests=1,
        server_cpu=0.0,
        load=0.0,
    )


@pytest.mark.timeout(180)  # a process for each of two dozen cases
def test_every_case_without_torch_runs_for_this_library(tmp_path: Path) -> None:
    """A change of the library that breaks the suite has to show here, not on the day somebody measures."""
    (tmp_path / "tls").mkdir()

    with Runner([our_rival()], TINY, tmp_path / "tls", note=lambda text: None) as runner:
        runs = runner.run(WITHOUT_TORCH, repeat=1)

    judged = outcomes([goal for goal in GOALS if goal.case in {case.name for case in WITHOUT_TORCH}], runs, TINY)
    assert {run.case for run in runs if run.rival == "ours"} == {case.name for case in WITHOUT_TORCH}
    # Counts do not depend on the machine, so these goals hold at every run of the tests.
    assert [one.reached for one in judged if one.goal in ("P11", "R1")] == [True] * 4
    assert all(run.bytes_up >= TINY.blob for run in runs if run.case == "write")
    assert all(run.bytes_down >= TINY.blob for run in runs if run.case in ("read", "readinto"))
    assert all(run.check == TINY.containers["million"].count for run in runs if run.case == "list 1,000,000")

    write_json(tmp_path / "runs.json", judged, runs, TINY)
    text = (tmp_path / "runs.json").read_text()
    assert len(json.loads(text)["runs"]) == len(runs)
    assert os.uname().nodename not in text
    assert str(tmp_path) not in text
    assert "write() of one blob, https: CPU" in table(judged, runs)


def test_a_ratio_is_judged_by_medians() -> None:
    """One slow run on a shared machine must decide nothing; one goal missed must be told."""
    goal = next(goal for goal in GOALS if goal.name == "P2")
    runs = [_run(OLD_VERSION, 4.0)] * 3 + [_run("ours", 1.0), _run("ours", 1.0), _run("ours", 9.0)]

    (reached,) = outcomes([goal], runs, TINY)
    (missed,) = outcomes([replace(goal, least=4.5)], runs, TINY)

    assert (reached.ratio, reached.reached) == (4.0, True)
    assert (missed.ratio, missed.reached) == (4.0, False)


def test_a_ratio_without_the_old_version_has_no_verdict() -> None:
    """Measuring this library alone must not look like a goal reached or missed."""
    (judged,) = outcomes([next(goal for goal in GOALS if goal.name == "P1")], [_run("ours", 1.0)], TINY)

    assert (judged.ratio, judged.reached) == (None, None)


def test_rivals_that_read_different_content_are_an_error(tmp_path: Path) -> None:
    """A version that is fast because it reads something else must not win."""
    case = next(case for case in CASES if case.name == "small")
    (tmp_path / "azstoragetorch").mkdir()
    (tmp_path / "azstoragetorch" / "__init__.py").write_text('__version__ = "0"\n')
    (tmp_path / "azstoragetorch" / "io.py").write_text("import io\ndef BlobIO(*a, **k): return io.BytesIO(b'wrong')\n")
    liar = Rival("liar", sys.executable, {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"})

    with (
        Runner([liar, our_rival()], TINY, tmp_path, note=lambda text: None) as runner,
        pytest.raises(WrongContentError),
    ):
        runner.run([replace(case, scheme="http")], repeat=1)


def test_an_interpreter_without_the_old_version_is_refused() -> None:
    """Comparing this library with itself would print ratios of 1 that mean nothing."""
    with pytest.raises(RuntimeError, match=OLD_VERSION):
        old_rival(sys.executable)


def test_goals_are_chosen_by_name() -> None:
    """``--only`` measures what it names and nothing more; a typing error is not an empty, successful run."""
    goals, cases = chosen(["P10"])

    assert [goal.name for goal in goals] == ["P10"]
    assert [case.name for case in cases] == ["write"]
    assert {goal.case for goal in GOALS} == {case.name for case in CASES}
    with pytest.raises(ValueError, match="no goal P99"):
        chosen(["P99"])


def test_every_case_names_what_exists() -> None:
    """The cases that the tests are too short for must not be the ones that break on the day somebody measures."""
    modules = (file_pieces, dataset_pieces, watching_pieces)
    pieces = {name for module in modules for name in module.PIECES}

    assert len(pieces) == sum(len(module.PIECES) for module in modules)
    assert len({case.name for case in CASES}) == len(CASES)
    for case in CASES:
        assert case.piece in pieces
        assert case.floor is None or case.floor in pieces
        assert (case.blob is None) != (case.container is None)
        assert case.container is None or case.container in Sizes().containers
    assert not [goal for goal in GOALS if goal.least is not None and goal.most is not None]


def test_the_command_line_explains_itself() -> None:
    """It is what people run first."""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-W", "error", "-m", "tests.benchmarks"]

    helped = subprocess.run([*command, "--help"], cwd=root, capture_output=True, text=True, check=False)
    wrong = subprocess.run([*command, "--only", "P99"], cwd=root, capture_output=True, text=True, check=False)

    assert (helped.returncode, helped.stderr) == (0, "")
    assert "--old-python" in helped.stdout
    for name in {goal.name for goal in GOALS}:
        assert re.search(rf"^  {name} +\w", helped.stdout, re.MULTILINE), "what the name stands for"
    assert wrong.returncode == 2
    assert "no goal P99" in wrong.stderr
