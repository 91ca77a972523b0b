"""The order of samples: a function of seed, epoch and length, and of nothing else where that is promised."""

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


@pytest.fixture(autouse=True)
def blobs(server: BlobServer) -> None:
    put(server, *LISTED)


def test_workers_do_not_change_the_order_of_batches(server: BlobServer, tmp_path: Path) -> None:
    """With ``batch_size=``, a run that is repeated on a machine with more cores sees the same batches."""
    loaders: list[Any] = [
        {},
        {"workers": 1},
        {"workers": 2},
        {"workers": 4, "persistent": True},
        {"workers": 3, "persistent": True, "method": "spawn"},
    ]
    steps = [["read"], ["read"], ["set_epoch", 7], ["read"], ["read"], ["set_epoch", 0], ["read"]]

    first, *others = results(
        server, tmp_path, *({"dataset": BLOCKED, "loader": loader, "steps": steps} for loader in loaders)
    )

    zero, one, _, seven, eight, _, zero_again = first
    assert all(sorted(flat(epoch)) == LISTED for epoch in (zero, one, seven, eight))
    assert [len(batch) for batch in zero] == [4, 4, 4, 4, 4, 3]
    assert len({str(epoch) for epoch in (zero, one, seven, eight, LISTED)}) == 5
    assert zero_again == zero
    for other in others:
        assert other == first


def test_set_epoch_reaches_workers_that_are_busy(server: BlobServer, tmp_path: Path) -> None:
    """Persistent workers still read ahead in an abandoned epoch when the next one is set."""
    loader = {"workers": 2, "persistent": True}
    steps = [["read", 2], ["abandon"], ["set_epoch", 7], ["read"], ["read", 1], ["abandon"], ["set_epoch", 7], ["read"]]

    busy, calm = results(
        server,
        tmp_path,
        {"dataset": BLOCKED, "loader": loader, "steps": steps},
        {"dataset": BLOCKED, "loader": {}, "steps": [["set_epoch", 7], ["read"], ["read", 1]]},
    )

    assert busy[3] == busy[7] == calm[1]
    assert busy[4] == calm[2]


def test_seeds_differ_and_lengths_are_right(server: BlobServer, tmp_path: Path) -> None:
    """Another seed is another order; `len` is what a progress bar and a sampler believe."""
    runs = [
        {"dataset": BLOCKED | {"seed": seed}, "loader": {"workers": 2}, "steps": [["len"], ["loader_len"], ["read"]]}
        for seed in (1, 2)
    ]

    one, two = results(server, tmp_path, *runs)

    assert one[:2] == two[:2] == [23, 6]
    assert sorted(flat(one[2])) == sorted(flat(two[2])) == LISTED
    assert one[2] != two[2]


def test_without_batch_size_samples_go_to_workers_in_turn(server: BlobServer, tmp_path: Path) -> None:
    """What 0.2.0 does, and what a program that was tuned to it expects."""
    spec = {"kind": "iterable"}

    one, three = results(
        server,
        tmp_path,
        {"dataset": spec, "loader": {}, "steps": [["read"]]},
        {"dataset": spec, "loader": {"workers": 3}, "steps": [["read"]]},
    )

    assert flat(one[0]) == LISTED
    shares = [LISTED[worker::3] for worker in range(3)]
    batches = [[share[start : start + 4] for share in shares] for start in (0, 4)]
    assert three[0] == [batch for turn in batches for batch in turn]


def test_map_dataset_has_the_order_of_the_listing(server: BlobServer, tmp_path: Path) -> None:
    """Indices are stored in splits and metrics, and mean the same blob next time."""
    steps = [["len"], ["item", 0], ["item", 22], ["item", -1], ["item", 23], ["item", -24], ["read"]]

    (found,) = results(server, tmp_path, {"dataset": {"kind": "map"}, "steps": steps})

    assert found[:4] == [23, LISTED[0], LISTED[22], LISTED[22]]
    assert "IndexError" in found[4]["error"][1]
    assert "IndexError" in found[5]["error"][1]
    assert found[6] == LISTED


def test_sharding_none_gives_every_worker_everything(server: BlobServer, tmp_path: Path) -> None:
    """For programs that shard by themselves, with their own slice of URLs in each worker."""
    spec: dict[str, Any] = {"kind": "iterable", "source": "urls", "names": LISTED, "sharding": "none"}

    found = results(
        server,
        tmp_path,
        *(
            {"dataset": spec | {"batch_size": batch_size}, "loader": {"workers": 2}, "steps": [["read"]]}
            for batch_size in (None, 4)
        ),
    )

    assert [sorted(flat(epoch)) for (epoch,) in found] == [sorted(LISTED * 2)] * 2


@pytest.mark.parametrize("workers", [0, 2])
def test_more_workers_than_blobs(server: BlobServer, tmp_path: Path, workers: int) -> None:
    """Workers without a share end at once, also where batches are blocked."""
    loader, steps = {"workers": workers}, [["read"]] * 2
    runs = [
        {"dataset": {"kind": "iterable", "prefix": prefix, **more}, "loader": loader, "steps": steps}
        for prefix in ("train/00003.bin", "nothing/")
        for more in ({}, {"batch_size": 4}, {"batch_size": 4, "shuffle": True})
    ]

    found = results(server, tmp_path, *runs)

    assert found[:3] == [[[["train/00003.bin"]]] * 2] * 3
    assert found[3:] == [[[]] * 2] * 3
