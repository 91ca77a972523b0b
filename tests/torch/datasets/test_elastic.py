"""What some ranks and workers have consumed of an epoch, others complete: a count of batches is all that they need."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.blobserver import BlobServer
from tests.torch.datasets.child import names
from tests.torch.datasets.program import flat, put, results

pytestmark = pytest.mark.timeout(120)

LISTED = names(23)
BLOCKED: dict[str, Any] = {"kind": "iterable", "shuffle": True, "seed": 11, "batch_size": 4}

Run = dict[str, Any]


@pytest.fixture(autouse=True)
def blobs(server: BlobServer) -> None:
    put(server, *LISTED)


def of_rank(dataset: Run, rank: int, world: int) -> Run:
    return {**dataset, "rank": rank, "world_size": world}


@pytest.mark.parametrize("uneven", ["none", "drop", "pad"])
@pytest.mark.parametrize(
    ("world", "batches", "new_world"), [(1, 3, 2), (2, 1, 1), (2, 2, 3), (3, 1, 2), (2, 0, 4), (1, 6, 2)]
)
def test_other_ranks_read_exactly_the_rest(
    world: int, batches: int, new_world: int, uneven: str, server: BlobServer, tmp_path: Path
) -> None:
    """A preempted job comes back with the machines that are free then."""
    dataset = {**BLOCKED, "uneven": uneven}
    consumed: list[Any] = []
    for _, part in results(
        server,
        tmp_path,
        *(
            {"dataset": of_rank(dataset, rank, world), "loader": {}, "steps": [["set_epoch", 3], ["read", batches]]}
            for rank in range(world)
        ),
    ):
        consumed += flat(part)

    resume = ["resume", {"epoch": 3, "batches": batches, "world_size": world}]
    parts = results(
        server,
        tmp_path,
        *(
            {"dataset": of_rank(dataset, rank, new_world), "loader": {}, "steps": [resume, ["read"], ["read"]]}
            for rank in range(new_world)
        ),
    )

    rest = [name for _, part, _ in parts for name in flat(part)]
    following = [name for *_, part in parts for name in flat(part)]
    left = 23 - len(consumed)
    counts = [len(flat(part)) for _, part, _ in parts]
    if uneven == "none":
        assert sorted(consumed + rest) == LISTED
        assert sorted(following) == LISTED
    elif uneven == "drop":
        assert len(set(consumed + rest)) == len(consumed + rest)
        assert counts == [left // new_world] * new_world
    else:
        assert sorted(set(consumed + rest)) == LISTED
        assert counts == [-(-left // new_world)] * new_world


def test_other_workers_read_exactly_the_rest(server: BlobServer, tmp_path: Path) -> None:
    """With a plain DataLoader, whose batches the trainer counts; the order stays that of the interrupted epoch."""
    loaders: list[Run] = [{}, {"workers": 1}, {"workers": 3, "persistent": True}, {"workers": 4}]
    (whole,) = results(server, tmp_path, {"dataset": BLOCKED, "loader": {}, "steps": [["read"]] * 4})

    found = results(
        server,
        tmp_path,
        *(
            {"dataset": BLOCKED, "loader": loader, "steps": [["resume", arguments], ["read"], ["read"]]}
            for loader in loaders
            for arguments in [{"epoch": 2, "batches": batches} for batches in (0, 1, 4, 6)]
        ),
    )

    for number, (_, rest, next_epoch) in enumerate(found):
        assert rest == whole[2][(0, 1, 4, 6)[number % 4] :]
        assert next_epoch == whole[3]


def test_resume_reaches_persistent_workers_that_are_busy(server: BlobServer, tmp_path: Path) -> None:
    """After a bad step a trainer goes back to its last checkpoint without making the loader anew."""
    steps = [["read", 3], ["abandon"], ["resume", {"epoch": 0, "batches": 1}], ["read"], ["read"]]
    loader = {"workers": 2, "persistent": True}

    (found,) = results(server, tmp_path, {"dataset": BLOCKED, "loader": loader, "steps": steps})
    (whole,) = results(server, tmp_path, {"dataset": BLOCKED, "loader": {}, "steps": [["read"]] * 2})

    assert found[3] == whole[0][1:]
    assert found[4] == whole[1]


REFUSALS: dict[str, tuple[Run, Run, str]] = {
    "no batch size": ({"batch_size": None}, {"epoch": 0, "batches": 1}, "batch_size="),
    "skip": ({"on_error": "skip"}, {"epoch": 0, "batches": 1}, "skip"),
    "too many": ({}, {"epoch": 0, "batches": 7}, "6 batches"),
    "negative": ({}, {"epoch": 0, "batches": -1}, "batches"),
    "negative epoch": ({}, {"epoch": -1, "batches": 1}, "epoch"),
    "no ranks": ({}, {"epoch": 0, "batches": 1, "world_size": 0}, "world_size"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_resume_that_means_nothing_is_refused(what: str, server: BlobServer, tmp_path: Path) -> None:
    """Rather than to begin anywhere."""
    more, arguments, message = REFUSALS[what]

    ((refused,),) = results(server, tmp_path, {"dataset": BLOCKED | more, "steps": [["resume", arguments]]})

    assert refused["error"][0] == "ValueError"
    assert message in refused["error"][2]
