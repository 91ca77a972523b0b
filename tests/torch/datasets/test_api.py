"""What users see of both datasets in one process: arguments, samples, lazy listing, statistics, copies."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

import azstoragetorch.datasets
from azstoragetorch import TransferOptions
from azstoragetorch.datasets import Blob, BlobDataset, IterableBlobDataset
from azstoragetorch.exceptions import BlobModifiedError, ContainerNotFoundError
from tests.blobserver import BlobServer, Hold, on
from tests.torch.datasets.child import checked, content_of
from tests.torch.datasets.making import (
    KINDS,
    LISTED,
    SOURCES,
    collected,
    failing_async,
    filled,
    make,
    name_of,
    ordered,
)

pytestmark = pytest.mark.timeout(60)

KiB = 1024
MiB = 1024 * KiB


@pytest.fixture
def blobs(server: BlobServer) -> BlobServer:
    return filled(server)


# The surface.


@KINDS
def test_wrong_url_among_many_is_found(blobs: BlobServer, kind: Any) -> None:
    """The message cannot show a URL that may be a secret pasted in; its number in the list can be told."""
    with pytest.raises(ValueError, match="must start with https") as caught:
        kind.from_blob_urls([blobs.url("a"), blobs.url("b"), "s3://bucket/key"], credential=False)
    assert caught.value.__notes__ == ["of URL 2 of the dataset, counted from 0"]


@KINDS
def test_repr_says_what_is_read(blobs: BlobServer, kind: Any) -> None:
    """What a notebook shows."""
    dataset = make(kind, blobs, prefix="train/")
    assert repr(dataset) == f"<{kind.__name__} of {len(LISTED)} blobs of {blobs.container_url}>"
    lazy = make(IterableBlobDataset, blobs, prefix="train/", lazy=True)
    assert repr(lazy) == f"<IterableBlobDataset of {blobs.container_url}>"


@KINDS
def test_arguments_of_the_previous_release_work(blobs: BlobServer, kind: Any) -> None:
    """``prefix``, ``credential`` and ``transform``, by keyword, and the first argument by its name or position."""
    dataset = kind.from_container_url(blobs.container_url, prefix="train/", credential=False, transform=name_of)
    assert list(dataset) == LISTED
    dataset = kind.from_container_url(container_url=blobs.container_url, prefix="train/0001", credential=False)
    assert [checked(sample) for sample in dataset] == LISTED[10:]
    urls = [blobs.url(name) for name in LISTED]
    for given in (urls, tuple(urls), iter(urls), (url for url in urls), dict.fromkeys(urls)):
        assert list(kind.from_blob_urls(given, credential=False, transform=name_of)) == LISTED
    assert list(kind.from_blob_urls(blob_urls=urls[3], credential=False, transform=name_of)) == [LISTED[3]]


@KINDS
@pytest.mark.parametrize("method", ["from_container_url", "from_blob_urls", "from_listing"])
def test_signatures(kind: Any, method: str) -> None:
    """New arguments are by keyword only, so that more can be added; defaults are those that are documented."""
    parameters = dict(inspect.signature(getattr(kind, method)).parameters)
    first = parameters.pop(next(iter(parameters)))
    assert (first.kind, first.default) == (first.POSITIONAL_OR_KEYWORD, first.empty)
    expected: dict[str, Any] = {
        "credential": None,
        "transform": None,
        "prefetch": 32,
        "options": None,
        "on_error": "raise",
    }
    if method == "from_container_url":
        expected |= {"prefix": None, "progress": False}
    if method != "from_blob_urls":
        expected |= {"allow_modified": False}
    if kind is IterableBlobDataset:
        expected |= {
            "sharding": "workers" if method == "from_blob_urls" else "auto",
            "rank": None,
            "world_size": None,
            "uneven": "none",
            "batch_size": None,
            "shuffle": False,
            "seed": 0,
        }
        if method == "from_container_url":
            expected |= {"lazy": False}
    assert {name: parameter.default for name, parameter in parameters.items()} == expected
    assert {parameter.kind for parameter in parameters.values()} == {first.KEYWORD_ONLY}


def test_public_names() -> None:
    """What was importable from here stays so; the classes are datasets of torch, and name this module as theirs."""
    assert {"Blob", "BlobDataset", "IterableBlobDataset"} <= set(azstoragetorch.datasets.__all__)
    assert issubclass(BlobDataset, Dataset)
    assert issubclass(IterableBlobDataset, IterableDataset)
    assert not issubclass(BlobDataset, IterableDataset)
    for public in (Blob, BlobDataset, IterableBlobDataset):
        assert public.__module__ == "azstoragetorch.datasets"


@KINDS
@SOURCES
@pytest.mark.parametrize("prefetch", [0, 1, 32])
def test_default_samples(blobs: BlobServer, kind: Any, source: str, prefetch: int) -> None:
    """URL and bytes of every blob, the empty one too, each asked for once."""
    dataset = make(kind, blobs, source, prefetch=prefetch)
    assert len(dataset) == len(LISTED)
    assert blobs.requests() == []

    assert [checked(sample) for sample in dataset] == LISTED

    assert sorted(request.path for request in blobs.requests()) == sorted(f"/devstoreaccount1/data/{n}" for n in LISTED)
    assert {request.method for request in blobs.requests()} == {"GET"}


@KINDS
def test_second_epoch_is_as_good_as_the_first(blobs: BlobServer, kind: Any) -> None:
    """And asks for no listing."""
    dataset = make(kind, blobs)
    for _ in range(2):
        assert [checked(sample) for sample in dataset] == LISTED
    assert not blobs.requests(comp="list")


def test_items_of_a_map_dataset(blobs: BlobServer) -> None:
    """By any index that a list takes, and by what samplers of torch and numpy yield."""
    dataset = make(BlobDataset, blobs, transform=name_of)
    assert dataset[0] == LISTED[0]
    assert dataset[-1] == LISTED[-1]
    assert dataset[np.int64(3)] == LISTED[3]
    assert dataset[torch.tensor(4)] == LISTED[4]
    every: list[Any] = [[2, 0, 2], (2, 0, 2), np.array([2, 0, 2]), torch.tensor([2, 0, 2])]
    for indices in every:
        assert dataset.__getitems__(indices) == [LISTED[2], LISTED[0], LISTED[2]]
    assert dataset.__getitems__(np.arange(20)) == dataset.__getitems__(range(20)) == LISTED
    assert dataset.__getitems__([]) == []
    for wrong in (20, -21):
        with pytest.raises(IndexError, match=f"index {wrong} of a dataset with 20 blobs"):
            dataset[wrong]
    with pytest.raises(TypeError):
        dataset["0"]
    with pytest.raises(TypeError):
        dataset[0:2]


def test_no_request_for_a_batch_with_a_wrong_index(blobs: BlobServer) -> None:
    """It is told before anything is fetched."""
    dataset = make(BlobDataset, blobs)
    with pytest.raises(IndexError):
        dataset.__getitems__([0, 1, 99])
    assert blobs.requests() == []


def test_batch_is_fetched_at_once(blobs: BlobServer) -> None:
    """``DataLoader(dataset, batch_size=...)`` is fast as it is: none is answered before all have been asked."""
    dataset = make(BlobDataset, blobs)
    hold = Hold()
    rule = blobs.fault(on("GET"), hold, times=None)
    batches: list[list[Any]] = []
    loader = DataLoader(dataset, batch_size=16, collate_fn=list)
    thread = threading.Thread(target=lambda: batches.append(next(iter(loader))))
    thread.start()
    rule.wait(16)
    hold.release()
    thread.join()
    assert [checked(sample) for sample in batches[0]] == LISTED[:16]


def test_iteration_fetches_ahead_no_more_than_it_may(blobs: BlobServer) -> None:
    """While the consumer works on the first sample, the others are on their way: as many as asked for."""
    dataset = make(IterableBlobDataset, blobs, prefetch=4)
    samples = iter(dataset)
    checked(next(samples))
    hold = Hold()
    rule = blobs.fault(on("GET", blob=LISTED[5]), hold, times=None)
    checked(next(samples))
    rule.wait()
    hold.release()
    samples.close()
    blobs.wait_idle()
    assert len(blobs.requests()) <= 6


@KINDS
def test_empty_container(server: BlobServer, kind: Any) -> None:
    """No blobs are no samples, and no error."""
    dataset = make(kind, server)
    assert (len(dataset), list(dataset)) == (0, [])
    assert asyncio.run(collected(dataset)) == []


@KINDS
def test_names_with_special_characters(server: BlobServer, kind: Any) -> None:
    """From a listing and from URLs."""
    odd = ["a b", "ünï/日本", "100%", "a+b", "a#b", "a?b=c", "new\nline"]
    for name in odd:
        server.put(name, name.encode())
    read = dict(make(kind, server, transform=lambda b: (b.blob_name, b.read())))
    assert read == {name: name.encode() for name in odd}
    dataset = kind.from_blob_urls(map(server.url, odd), credential=False, transform=name_of)
    assert list(dataset) == odd


# Lazy.


def test_lazy_dataset(blobs: BlobServer) -> None:
    """Listed anew with each iteration, while it is read; shared by ranks; no length and no position."""
    dataset = make(IterableBlobDataset, blobs, lazy=True, prefix="train/")
    assert blobs.requests() == []
    for _ in range(2):
        assert [checked(sample) for sample in dataset] == LISTED
    assert len(blobs.requests(comp="list")) == 2
    assert [checked(sample) for sample in asyncio.run(collected(dataset))] == LISTED
    assert ordered(blobs, lazy=True, rank=1, world_size=3).__iter__().__next__() == LISTED[1]
    parts = [list(ordered(blobs, lazy=True, rank=rank, world_size=3)) for rank in range(3)]
    assert parts == [LISTED[rank::3] for rank in range(3)]
    blobs.put("train/99999-new", content_of("train/99999-new"))
    assert checked(list(dataset)[-1]) == "train/99999-new"

    with pytest.raises(TypeError, match="lazy"):
        len(dataset)
    assert dataset.state_dict()["lazy"]  # StatefulDataLoader asks for it, whether it is wanted or not
    with pytest.raises(ValueError, match="this dataset is lazy; make it with lazy=False"):
        dataset.load_state_dict(dataset.state_dict())
    with pytest.raises(ValueError, match="this dataset is lazy; make it with lazy=False"):
        dataset.resume(epoch=0, batches=0)
    wrong: list[dict[str, Any]] = [{"shuffle": True}, {"uneven": "pad"}, {"progress": True}]
    for arguments in wrong:
        with pytest.raises(ValueError, match="lazy=True lists while it reads"):
            make(IterableBlobDataset, blobs, lazy=True, **arguments)


def test_lazy_dataset_of_a_missing_container(server: BlobServer) -> None:
    """The error comes with the first sample: nothing was asked before."""
    url = f"{server.account_url}/missing"
    dataset = IterableBlobDataset.from_container_url(url, credential=False, lazy=True)
    with pytest.raises(ContainerNotFoundError, match="/missing"):
        next(iter(dataset))
    with pytest.raises(ContainerNotFoundError, match="/missing"):
        IterableBlobDataset.from_container_url(url, credential=False)


def test_lazy_dataset_refuses_blobs_changed_since_their_page(blobs: BlobServer) -> None:
    """A page is a listing, too."""
    for lenient in (False, True):
        dataset = ordered(blobs, lazy=True, allow_modified=lenient, prefetch=0, transform=lambda blob: blob.read())
        samples = iter(dataset)
        next(samples)
        blobs.put(LISTED[1], b"new")
        if lenient:
            assert next(samples) == b"new"
        else:
            with pytest.raises(BlobModifiedError, match=LISTED[1]):
                next(samples)


# Arguments.


@KINDS
@SOURCES
@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"prefetch": -1}, ValueError, "prefetch must be between 0 and 4096 samples, got -1"),
        ({"prefetch": 1.5}, TypeError, "prefetch must be a number of samples, not float"),
        ({"prefetch": True}, TypeError, "prefetch must be a number of samples, not bool"),
        ({"transform": "decode"}, TypeError, "transform must be callable with a Blob, not str"),
        ({"options": {"prefetch": 1}}, TypeError, "options"),
        ({"on_error": "ignore"}, ValueError, "on_error must be 'raise', 'skip' or callable .* not 'ignore'"),
        ({"on_error": failing_async(0)}, TypeError, "on_error cannot be a coroutine function"),
    ],
)
def test_wrong_arguments_of_both(
    blobs: BlobServer, kind: Any, source: str, arguments: dict[str, Any], error: type[Exception], match: str
) -> None:
    """Told when the dataset is made, before a request, and by name."""
    with pytest.raises(error, match=match):
        make(kind, blobs, source, **arguments)
    if source != "listing":
        assert blobs.requests() == []


@SOURCES
@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ({"sharding": "ranks"}, ValueError, "sharding must be one of .* not 'ranks'"),
        ({"sharding": "auto", "rank": 0}, ValueError, "rank and world_size belong together"),
        ({"sharding": "auto", "world_size": 2}, ValueError, "rank and world_size belong together"),
        ({"sharding": "workers", "rank": 0, "world_size": 2}, ValueError, "used by sharding='auto' only"),
        ({"sharding": "auto", "rank": 2, "world_size": 2}, ValueError, "rank must be between 0 and world_size - 1"),
        ({"sharding": "auto", "rank": "0", "world_size": 2}, TypeError, "rank must be an int, not str"),
        ({"sharding": "auto", "rank": 0, "world_size": 0}, ValueError, "world_size must be at least 1"),
        ({"uneven": "truncate"}, ValueError, "uneven must be one of .* got 'truncate'"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
        ({"batch_size": "4"}, TypeError, "batch_size must be an int"),
        ({"seed": -1}, ValueError, "seed must be at least 0"),
        ({"seed": "a"}, TypeError, "seed must be an int"),
        ({"on_error": "skip", "uneven": "drop"}, ValueError, "on_error='skip' would make the ranks uneven"),
        ({"on_error": "skip", "uneven": "pad"}, ValueError, "on_error='skip' would make the ranks uneven"),
    ],
)
def test_wrong_arguments_of_the_iterable(
    blobs: BlobServer, source: str, arguments: dict[str, Any], error: type[Exception], match: str
) -> None:
    """Also those that contradict each other."""
    with pytest.raises(error, match=match):
        make(IterableBlobDataset, blobs, source, **arguments)
    if source != "listing":
        assert blobs.requests() == []


def test_map_dataset_cannot_skip(blobs: BlobServer) -> None:
    """Index i has to give a sample."""
    with pytest.raises(ValueError, match="on_error='skip' is for IterableBlobDataset"):
        make(BlobDataset, blobs, on_error="skip")


@KINDS
def test_wrong_urls(server: BlobServer, kind: Any) -> None:
    """Named, without their secrets, and not read later as something else."""
    with pytest.raises(ValueError, match="container"):
        kind.from_container_url(f"{server.container_url}/a/blob", credential=False)
    with pytest.raises(ValueError, match="blob"):
        kind.from_blob_urls([server.url("a"), server.container_url], credential=False)
    with pytest.raises(TypeError):
        kind.from_blob_urls([b"https://account.blob.core.windows.net/data/a"], credential=False)
    with pytest.raises(TypeError):
        kind.from_blob_urls(None, credential=False)
    with pytest.raises(ValueError, match="account") as raised:
        kind.from_blob_urls(["https://account.blob.core.windows.net/?sig=secret"], credential=False)
    assert "secret" not in str(raised.value)


# Loops, statistics, copies.


async def test_iterations_left_early_leave_nothing(blobs: BlobServer) -> None:
    """``break`` out of ``async for``, and a task that is cancelled while it waits for a sample."""
    dataset = make(IterableBlobDataset, blobs, prefetch=8)
    before = asyncio.all_tasks()
    for taken in (0, 1, 5):
        samples = dataset.__aiter__()
        for _ in range(taken):
            await anext(samples)
        await samples.aclose()
        assert asyncio.all_tasks() == before

    hold = Hold()
    rule = blobs.fault(on("GET", blob=LISTED[2]), hold, times=None)
    task = asyncio.create_task(collected(dataset))
    await asyncio.to_thread(rule.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    hold.release()
    assert asyncio.all_tasks() == before
    assert [checked(sample) for sample in await collected(dataset)] == LISTED


def test_blocking_iteration_beside_a_running_loop(blobs: BlobServer) -> None:
    """Jupyter."""

    async def notebook() -> list[str]:
        return [checked(sample) for sample in make(IterableBlobDataset, blobs)]

    assert asyncio.run(notebook()) == LISTED


async def test_several_items_at_once_on_one_loop(blobs: BlobServer) -> None:
    """A server that answers requests from a dataset."""
    dataset = make(BlobDataset, blobs)
    samples = await asyncio.gather(*(dataset.aget(index) for index in range(20)))
    assert [checked(sample) for sample in samples] == LISTED
    assert [checked(sample) for sample in await dataset.aget_many(range(5))] == LISTED[:5]
    with pytest.raises(IndexError):
        await dataset.aget(20)


@KINDS
@pytest.mark.parametrize("prefetch", [0, 32])
def test_statistics(blobs: BlobServer, kind: Any, prefetch: int) -> None:
    """What was asked for and what was handed out; they count on over epochs."""
    dataset = make(kind, blobs, prefetch=prefetch)
    size = sum(len(content_of(name)) for name in LISTED)
    for epoch in (1, 2):
        list(dataset)
        stats = dataset.stats()
        assert (stats.samples, stats.skipped, stats.bytes, stats.retries) == (20 * epoch, 0, size * epoch, 0)
        assert stats.requests == 20 * epoch


@KINDS
@SOURCES
def test_pickled_dataset_reads_the_same(blobs: BlobServer, kind: Any, source: str) -> None:
    """A copy for another process: the same blobs without listing again, its own counters, its own epochs."""
    dataset = make(kind, blobs, source)
    list(dataset)
    blobs.log.clear()

    copy = pickle.loads(pickle.dumps(dataset))

    assert copy.stats().samples == 0
    assert [checked(sample) for sample in copy] == LISTED
    assert not blobs.requests(comp="list")
    assert dataset.stats().samples == 20


def test_copy_of_a_shuffled_dataset_counts_its_own_epochs(blobs: BlobServer) -> None:
    """From where it was copied on; neither moves the other."""
    dataset = ordered(blobs, shuffle=True)
    epochs = [list(dataset) for _ in range(4)]
    dataset.set_epoch(1)
    copy = pickle.loads(pickle.dumps(dataset))
    assert [list(copy), list(copy)] == epochs[1:3]
    assert list(dataset) == epochs[1]
    assert list(copy) == epochs[3]


@KINDS
def test_samples_may_be_blobs(blobs: BlobServer, kind: Any) -> None:
    """A transform may return what it was given, to be read later or elsewhere."""
    kept: list[Blob] = list(make(kind, blobs, transform=lambda blob: blob))
    assert [blob.blob_name for blob in kept] == LISTED
    assert [pickle.loads(pickle.dumps(blob)).read() for blob in kept] == [content_of(name) for name in LISTED]


def test_several_datasets_read_in_turn(blobs: BlobServer) -> None:
    """``zip`` of two, under a budget that neither fits alone."""
    for number in range(10):
        blobs.put_synthetic(f"large/{number}", 600 * KiB)
    options = TransferOptions(memory_budget=MiB, range_size=64 * KiB)
    urls = [blobs.url(f"large/{number}") for number in range(10)]
    first = IterableBlobDataset.from_blob_urls(urls, credential=False, options=options)
    second = BlobDataset.from_container_url(blobs.container_url, prefix="large/", credential=False, options=options)

    pairs = [(one["url"], two["url"]) for one, two in zip(first, second, strict=True)]

    assert pairs == [(url, url) for url in urls]


def test_iterators_are_generators_that_can_be_closed(blobs: BlobServer) -> None:
    """``contextlib.closing`` ends the transfers at a known moment."""
    samples: Iterator[Any] = iter(make(IterableBlobDataset, blobs))
    checked(next(samples))
    samples.close()  # type: ignore[attr-defined]
    assert list(samples) == []
