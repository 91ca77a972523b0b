"""The cases of the benchmark suite that need torch, with sizes that take no time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.cases import CASES, GOALS
from tests.benchmarks.dataset_pieces import PIECES
from tests.benchmarks.kinds import Samples, Sizes
from tests.benchmarks.measure import Figures, Parameters, sample_blob
from tests.benchmarks.report import outcomes
from tests.benchmarks.rivals import our_rival
from tests.benchmarks.runner import Runner
from tests.blobserver import BlobServer

pytestmark = pytest.mark.timeout(180)

COUNT = 70  # more than two batches of a DataLoader
TINY = Sizes(
    state=400_000,
    tensors=10,
    containers={name: Samples(COUNT, samples.size and 1000) for name, samples in Sizes().containers.items()},
)


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


@pytest.mark.parametrize("name", ["iterate http", "batches far http"])
def test_dataset_cases_run_for_this_library(tmp_path: Path, name: str) -> None:
    """The same for datasets, here and in workers. What is counted and not timed is judged at every run of the tests."""
    cases = [case for case in CASES if case.name == name]

    with Runner([our_rival()], TINY, tmp_path, note=lambda text: None) as runner:
        runs = runner.run(cases, repeat=1)

    (ours,) = (run for run in runs if run.rival == "ours")
    assert ours.listings == 1
    assert ours.bytes_down > COUNT * 1000
    judged = outcomes([goal for goal in GOALS if goal.name == "P11" and goal.case == name], runs, TINY)
    assert [one.reached for one in judged] == [True, True]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("iterate", {"burn": 0.0002}),
        ("iterate", {"spinning": True}),
        ("load-iterable", {}),
        ("load-map", {"burn": 0.0002}),
    ],
)
def test_dataset_pieces_read_what_a_bare_socket_reads(server: BlobServer, name: str, changes: dict[str, Any]) -> None:
    """The pieces that no case above needs; a process for each would cost seconds, most of them for importing torch."""
    for number in range(COUNT):
        server.put_synthetic(*sample_blob(number, 1000))
    parameters = Parameters(server.container_url, 1000, count=COUNT, **changes)
    bare, read = Figures(), Figures()

    PIECES["floor-receive-samples"](parameters, bare)
    PIECES[name](parameters, read)

    assert read.check == bare.check is not None
    assert read.cpu > COUNT * changes.get("burn", 0)


def test_dataset_pieces_that_list(server: BlobServer) -> None:
    """What is kept and pickled is of a whole container."""
    for number in range(COUNT):
        server.put_synthetic(*sample_blob(number, 1000))
    parameters = Parameters(server.container_url, 1000, count=COUNT)
    made, packed, one = Figures(), Figures(), Figures()

    PIECES["make-map"](parameters, made)
    PIECES["pickle-map"](parameters, packed)
    PIECES["one-sample"](parameters, one)

    assert made.check == packed.check == COUNT
    assert packed.pickled > COUNT * len(sample_blob(0, 0)[0])
    assert one.check
