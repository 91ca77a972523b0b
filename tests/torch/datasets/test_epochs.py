"""Orders, ranks and positions of a dataset that is read without workers."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from azstoragetorch.datasets import IterableBlobDataset
from tests.blobserver import BlobServer
from tests.torch.datasets.child import checked
from tests.torch.datasets.making import LISTED, failing, filled, make, ordered

pytestmark = pytest.mark.timeout(60)

KiB = 1024
MiB = 1024 * KiB


@pytest.fixture
def blobs(server: BlobServer) -> BlobServer:
    return filled(server)


# Order and epochs.


def test_shuffle_is_a_function_of_seed_and_epoch(blobs: BlobServer) -> None:
    """Every rank and every later run has to compute the same."""

    def order(seed: int, epoch: int, **arguments: Any) -> list[str]:
        dataset = ordered(blobs, shuffle=True, seed=seed, **arguments)
        dataset.set_epoch(epoch)
        return list(dataset)

    orders = {(seed, epoch): order(seed, epoch) for seed in (0, 1, 7) for epoch in (0, 1, 2)}
    assert all(sorted(each) == LISTED for each in orders.values())
    assert len({tuple(each) for each in orders.values()}) == 9
    torch.manual_seed(123)
    assert {key: order(*key) for key in orders} == orders
    assert order(7, 2, source="urls") == orders[7, 2], "a function of the count, not of the source"
    for world in (2, 3):
        parts = [order(7, 2, rank=rank, world_size=world) for rank in range(world)]
        assert [parts[position % world][position // world] for position in range(20)] == orders[7, 2]
    state = torch.random.get_rng_state()
    order(0, 0)
    assert torch.equal(torch.random.get_rng_state(), state), "the generator of the training is left alone"


def test_epochs_advance_by_themselves(blobs: BlobServer) -> None:
    """Each iteration is the next epoch; an abandoned one counts as well; ``set_epoch`` says otherwise."""
    dataset = ordered(blobs, shuffle=True)
    epochs = [list(dataset) for _ in range(4)]
    assert len({tuple(each) for each in epochs}) == 4

    again = ordered(blobs, shuffle=True)
    assert next(iter(again)) == epochs[0][0]
    assert list(again) == epochs[1]
    again.set_epoch(3)
    assert list(again) == epochs[3]
    again.set_epoch(0)
    assert [list(again), list(again)] == epochs[:2]
    with pytest.raises(ValueError, match="epoch must be at least 0"):
        again.set_epoch(-1)
    with pytest.raises(TypeError, match="epoch must be an int"):
        again.set_epoch(1.0)  # type: ignore[arg-type]


def test_what_an_iteration_reads_is_decided_when_it_begins(blobs: BlobServer) -> None:
    """Two that run side by side are two epochs."""
    dataset = ordered(blobs, shuffle=True)
    first, second = iter(dataset), iter(dataset)
    dataset.set_epoch(0)
    assert list(dataset) == list(first)
    dataset.set_epoch(1)
    assert list(dataset) == list(second)


# Ranks.


@pytest.mark.parametrize("uneven", ["none", "drop", "pad"])
def test_ranks_from_arguments(blobs: BlobServer, uneven: str) -> None:
    """Every rank reads its part, `len` says how much, and the parts are equal where that is asked for."""
    ranks = [ordered(blobs, rank=rank, world_size=3, uneven=uneven) for rank in range(3)]
    parts = [list(rank) for rank in ranks]
    assert [len(rank) for rank in ranks] == [len(part) for part in parts]
    assert {"none": [7, 7, 6], "drop": [6, 6, 6], "pad": [7, 7, 7]}[uneven] == [len(part) for part in parts]
    interleaved = [parts[position % 3][position // 3] for position in range(20 if uneven != "drop" else 18)]
    assert interleaved == LISTED[: len(interleaved)]
    if uneven == "pad":
        assert parts[2][-1] == LISTED[0]


def test_ranks_from_the_environment(blobs: BlobServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchrun sets them; a script may iterate before it initialises torch.distributed."""
    dataset, urls = ordered(blobs), ordered(blobs, source="urls")
    explicit, alone = ordered(blobs, rank=0, world_size=4), ordered(blobs, sharding="none")
    workers = ordered(blobs, sharding="workers")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "3")

    assert list(dataset) == LISTED[1::3]
    assert len(dataset) == 7
    assert list(explicit) == LISTED[::4]
    assert list(urls) == list(alone) == list(workers) == LISTED
    assert list(ordered(blobs, source="urls", sharding="auto")) == LISTED[1::3]

    monkeypatch.delenv("WORLD_SIZE")
    assert list(dataset) == LISTED


def test_log_says_what_is_read(blobs: BlobServer, caplog: pytest.LogCaptureFixture) -> None:
    """Once per iteration; where ranks differ, a warning that collectives may wait for ever."""
    caplog.set_level(logging.INFO, logger="azstoragetorch.datasets")
    even, uneven = ordered(blobs, rank=1, world_size=2), ordered(blobs, rank=1, world_size=3)
    dropping = ordered(blobs, rank=1, world_size=3, uneven="drop")
    caplog.clear()

    def logged(dataset: Any) -> list[tuple[int, str]]:
        caplog.clear()
        list(dataset)
        return [(record.levelno, record.getMessage()) for record in caplog.records]

    for _ in range(2):
        ((level, line),) = logged(even)
        assert level == logging.INFO
        assert line.startswith(f"rank 1 of 2 reads 10 of 20 blobs of {blobs.container_url}")
    (_, line), (level, warning) = logged(uneven)
    assert line.startswith("rank 1 of 3 reads 7 of 20 blobs")
    assert level == logging.WARNING
    assert "wait for ever" in warning
    ((_, line),) = logged(dropping)
    assert line.startswith("rank 1 of 3 reads 6 of 20 blobs")


# Resuming, without workers.


@pytest.mark.parametrize("prefetch", [0, 32])
@pytest.mark.parametrize("shuffle", [True, False])
def test_state_goes_on_exactly(blobs: BlobServer, prefetch: int, shuffle: bool) -> None:
    """After any number of samples: those that were only fetched ahead come again, those handed out do not."""
    whole = ordered(blobs, shuffle=shuffle, prefetch=prefetch)
    epochs = [list(whole) for _ in range(3)]
    for taken in (0, 1, 7, 19, 20):
        dataset = ordered(blobs, shuffle=shuffle, prefetch=prefetch)
        list(dataset)
        samples = iter(dataset)
        assert [next(samples) for _ in range(taken)] == epochs[1][:taken]
        state = json.loads(json.dumps(dataset.state_dict()))
        assert len(json.dumps(state)) < 1000

        fresh = ordered(blobs, shuffle=shuffle, prefetch=prefetch)
        fresh.load_state_dict(state)
        assert list(fresh) == epochs[1][taken:]
        assert list(fresh) == epochs[2]


def test_state_before_and_between_iterations(blobs: BlobServer) -> None:
    """Saved before the first sample, after ``set_epoch``, or right after loading: what the next iteration reads."""
    whole = ordered(blobs, shuffle=True)
    epochs = [list(whole) for _ in range(4)]

    def resumed(state: dict[str, Any]) -> list[str]:
        fresh = ordered(blobs, shuffle=True)
        fresh.load_state_dict(state)
        assert fresh.state_dict() == state
        return list(fresh)

    dataset = ordered(blobs, shuffle=True)
    assert resumed(dataset.state_dict()) == epochs[0]
    dataset.set_epoch(3)
    assert resumed(dataset.state_dict()) == epochs[3]
    samples = iter(dataset)
    for _ in range(5):
        next(samples)
    dataset.load_state_dict(dataset.state_dict())
    assert list(dataset) == epochs[3][5:]


def test_set_epoch_of_the_resumed_epoch_keeps_the_position(blobs: BlobServer) -> None:
    """``for epoch in range(start, ...): dataset.set_epoch(epoch)`` is how people write it."""
    dataset = ordered(blobs, shuffle=True)
    dataset.set_epoch(2)
    two, three = list(dataset), list(dataset)
    dataset.set_epoch(2)
    samples = iter(dataset)
    for _ in range(5):
        next(samples)
    state = dataset.state_dict()

    fresh = ordered(blobs, shuffle=True)
    fresh.load_state_dict(state)
    fresh.set_epoch(2)
    assert list(fresh) == two[5:]
    fresh.set_epoch(3)
    assert list(fresh) == three
    fresh.load_state_dict(state)
    fresh.set_epoch(3)
    assert list(fresh) == three


@pytest.mark.parametrize("worlds", [(1, 4), (2, 1), (2, 3), (4, 2)])
def test_state_for_another_number_of_ranks(blobs: BlobServer, worlds: tuple[int, int]) -> None:
    """Nodes come and go; what all ranks together have not read is read, once."""
    before, after = worlds
    taken: list[str] = []
    states = []
    for rank in range(before):
        dataset = ordered(blobs, shuffle=True, seed=3, rank=rank, world_size=before)
        samples = iter(dataset)
        taken += [next(samples) for _ in range(4)]
        states.append(dataset.state_dict())
    for state in states:
        rest: list[str] = []
        for rank in range(after):
            dataset = ordered(blobs, shuffle=True, seed=3, rank=rank, world_size=after)
            dataset.load_state_dict(state)
            rest += list(dataset)
        assert sorted(taken + rest) == LISTED


@pytest.mark.parametrize(("before", "after"), [(1, 1), (2, 2), (2, 1), (1, 3)])
def test_resume_counts_batches(blobs: BlobServer, before: int, after: int) -> None:
    """With a plain DataLoader the training loop knows the batches, and nobody knows more."""

    def dataset(rank: int, world: int) -> IterableBlobDataset[Any]:
        return ordered(blobs, shuffle=True, seed=3, rank=rank, world_size=world, batch_size=3)

    taken: list[str] = []
    for rank in range(before):
        made = dataset(rank, before)
        made.set_epoch(5)
        for _, batch in zip(range(2), DataLoader(made, batch_size=3, collate_fn=list), strict=False):
            taken += batch
    rest: list[str] = []
    for rank in range(after):
        made = dataset(rank, after)
        made.resume(epoch=5, batches=2, world_size=before)
        assert made.state_dict()["epoch"] == 5
        rest += list(made)
    assert sorted(taken + rest) == LISTED


def test_resume_is_refused_where_batches_mean_nothing(blobs: BlobServer) -> None:
    """With a reason."""
    with pytest.raises(ValueError, match="batch_size="):
        ordered(blobs).resume(epoch=0, batches=1)
    with pytest.raises(ValueError, match="skip"):
        ordered(blobs, batch_size=2, on_error="skip").resume(epoch=0, batches=1)
    dataset = ordered(blobs, batch_size=3)
    with pytest.raises(ValueError, match="an epoch of 20 blobs has 7 batches, not 8"):
        dataset.resume(epoch=0, batches=8)
    for wrong in (
        {"epoch": -1, "batches": 0},
        {"epoch": 0, "batches": -1},
        {"epoch": 0, "batches": 1, "world_size": 0},
    ):
        with pytest.raises(ValueError, match="must be at least"):
            dataset.resume(**wrong)
    dataset.resume(epoch=0, batches=7)
    assert list(dataset) == []


def test_state_of_something_else_is_refused(blobs: BlobServer) -> None:
    """With a message that says what differs; a position in another order would be other samples."""
    state = ordered(blobs, shuffle=True, seed=1).state_dict()

    def refused(match: str, dataset: Any, state: Any = state) -> None:
        with pytest.raises(ValueError, match=match):
            dataset.load_state_dict(state)

    refused("shuffle=True, and this dataset has shuffle=False", ordered(blobs))
    refused("seed=1, and this dataset has seed=2", ordered(blobs, shuffle=True, seed=2))
    refused("uneven='none', and this dataset has uneven='pad'", ordered(blobs, shuffle=True, seed=1, uneven="pad"))
    dataset = ordered(blobs, shuffle=True, seed=1)
    refused("version", dataset, {**state, "version": 99})
    refused("'epoch' is missing", dataset, {})
    refused("missing", dataset, {key: value for key, value in state.items() if key != "listing"})
    refused("no state of a dataset: consumed must be at least 0", dataset, {**state, "consumed": -1})
    refused("'epoch' is of type str", dataset, {**state, "epoch": "1"})
    dataset.load_state_dict(state)
    blobs.put(LISTED[3], b"replaced")
    refused("added, removed or replaced", ordered(blobs, shuffle=True, seed=1))
    blobs.delete(LISTED[3])
    refused("added, removed or replaced", ordered(blobs, shuffle=True, seed=1))


def test_skipped_blobs_count_as_consumed(blobs: BlobServer) -> None:
    """Otherwise the sample after one would come twice after a resume."""
    dataset = make(IterableBlobDataset, blobs, on_error="skip", transform=failing(4))
    samples = iter(dataset)
    assert [next(samples) for _ in range(5)] == [*LISTED[:4], LISTED[5]]
    state = dataset.state_dict()
    fresh = make(IterableBlobDataset, blobs, on_error="skip", transform=failing(4))
    fresh.load_state_dict(state)
    assert list(fresh) == LISTED[6:]


def test_state_holds_no_secret(blobs: BlobServer) -> None:
    """It ends up in checkpoints, which are shared."""
    blobs.require_sas = {"sig": "secret"}
    dataset = IterableBlobDataset.from_container_url(f"{blobs.container_url}?sig=secret")
    assert checked(next(iter(dataset))) == LISTED[0]
    assert "secret" not in json.dumps(dataset.state_dict())
    urls = IterableBlobDataset.from_blob_urls([f"{blobs.url(LISTED[0])}?sig=secret"])
    state = urls.state_dict()
    assert "secret" not in json.dumps(state)
    renewed = IterableBlobDataset.from_blob_urls([f"{blobs.url(LISTED[0])}?sig=renewed"])
    renewed.load_state_dict(state)
