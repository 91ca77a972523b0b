"""What users see of both datasets in one process: arguments, samples, transforms, errors, order, state, logs."""

from __future__ import annotations

import asyncio
import inspect
import io
import json
import logging
import pickle
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

import azstoragetorch.datasets
from azstoragetorch import TransferOptions
from azstoragetorch.datasets import Blob, BlobDataset, IterableBlobDataset
from azstoragetorch.exceptions import BlobModifiedError, BlobNotFoundError, ContainerNotFoundError
from azstoragetorch.listing import BlobListing
from tests.blobserver import BlobServer, Hold, on
from tests.torch.datasets.child import checked, content_of, names

pytestmark = pytest.mark.timeout(60)

KiB = 1024
MiB = 1024 * KiB

LISTED = names(20)

AnyDataset: TypeAlias = BlobDataset[Any] | IterableBlobDataset[Any]
Make: TypeAlias = Callable[..., Any]
KINDS = pytest.mark.parametrize("kind", [BlobDataset, IterableBlobDataset])
SOURCES = pytest.mark.parametrize("source", ["container", "urls", "listing"])


@pytest.fixture
def blobs(server: BlobServer) -> BlobServer:
    for name in LISTED:
        server.put(name, content_of(name))
    return server


def make(kind: Any, server: BlobServer, source: str = "container", **arguments: Any) -> Any:
    """Make a dataset of the server's container; forget the requests that it took."""
    arguments.setdefault("credential", False)
    if source == "container":
        dataset = kind.from_container_url(server.container_url, **arguments)
    elif source == "urls":
        dataset = kind.from_blob_urls(map(server.url, LISTED), **arguments)
    else:
        dataset = kind.from_listing(BlobListing.build(server.container_url, credential=False), **arguments)
    server.log.clear()
    return dataset


def blob_names(dataset: Any) -> list[str]:
    """Return the names of the blobs of a dataset whose transform is `name_of`."""
    return list(dataset)


def name_of(blob: Blob) -> str:
    return blob.blob_name


def ordered(server: BlobServer, **arguments: Any) -> IterableBlobDataset[Any]:
    """Return an iterable dataset that yields names and reads nothing."""
    dataset: IterableBlobDataset[Any] = make(
        IterableBlobDataset, server, **{"transform": name_of, "prefetch": 0, **arguments}
    )
    return dataset


async def collected(samples: AsyncIterator[Any]) -> list[Any]:
    return [sample async for sample in samples]


# The surface.


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
    assert sorted(azstoragetorch.datasets.__all__) == ["Blob", "BlobDataset", "IterableBlobDataset"]
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
    """``DataLoader(dataset, batch_size=...)`` is fast as it is: none of these is answered before all have been asked."""
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
    read = {blob_name: data for blob_name, data in make(kind, server, transform=lambda b: (b.blob_name, b.read()))}
    assert read == {name: name.encode() for name in odd}
    dataset = kind.from_blob_urls(map(server.url, odd), credential=False, transform=name_of)
    assert list(dataset) == odd


# Transforms.


class Callable_:
    """A transform with state."""

    def __init__(self) -> None:
        self.threads: set[str] = set()

    def __call__(self, blob: Blob, end: int = 3) -> tuple[str, bytes]:
        self.threads.add(threading.current_thread().name)
        return blob.blob_name, blob.read()[:end]


class AsyncCallable(Callable_):
    """One that is a coroutine function when called."""

    async def __call__(self, blob: Blob, end: int = 3) -> tuple[str, bytes]:  # type: ignore[override]
        self.threads.add(threading.current_thread().name)
        await asyncio.sleep(0)
        return blob.blob_name, (await blob.aread())[:end]


def transforms(is_async: bool) -> dict[str, tuple[Callable[..., Any], set[str]]]:
    """Return transforms of every kind that all do the same, and where each notes its threads."""
    made: dict[str, tuple[Callable[..., Any], set[str]]] = {}
    for kind in ("function", "object", "partial", "partial of an object", "method", "lambda"):
        worker: Any = AsyncCallable() if is_async else Callable_()
        if kind == "object":
            transform = worker
        elif kind == "partial of an object":
            transform = partial(worker, end=3)
        elif kind == "method":
            transform = worker.__call__
        elif kind == "lambda":
            if is_async:
                continue
            transform = lambda blob, worker=worker: worker(blob)  # noqa: E731
        else:

            async def coroutine(blob: Blob, worker: Any = worker) -> Any:
                return await worker(blob)

            def plain(blob: Blob, worker: Any = worker) -> Any:
                return worker(blob)

            transform = coroutine if is_async else plain
            if kind == "partial":
                transform = partial(transform, worker=worker)
        made[kind] = (transform, worker.threads)
    return made


@KINDS
@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize("prefetch", [0, 1, 32])
def test_transforms_of_every_kind_run_where_they_should(
    blobs: BlobServer, kind: Any, is_async: bool, prefetch: int
) -> None:
    """A plain one in the thread that wants the samples, a coroutine on the loop; and each gets its blob."""
    expected = [(name, content_of(name)[:3]) for name in LISTED]
    here = threading.current_thread().name
    for name, (transform, threads) in transforms(is_async).items():
        dataset = make(kind, blobs, transform=transform, prefetch=prefetch)
        assert list(dataset) == expected, name
        assert threads == {"azstoragetorch" if is_async else here}, name
        if kind is BlobDataset:
            assert dataset[3] == expected[3]
            assert dataset.__getitems__([4, 3]) == [expected[4], expected[3]]
            assert threads == {"azstoragetorch" if is_async else here}, name


@KINDS
@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize("prefetch", [0, 32])
async def test_plain_transforms_never_run_on_a_loop(
    blobs: BlobServer, kind: Any, is_async: bool, prefetch: int
) -> None:
    """They may compute for seconds; a coroutine runs on the loop of the one who iterates, and nowhere else."""
    expected = [(name, content_of(name)[:3]) for name in LISTED]
    here = threading.current_thread().name
    for name, (transform, threads) in transforms(is_async).items():
        dataset = make(kind, blobs, transform=transform, prefetch=prefetch)
        assert await collected(dataset) == expected, name
        if kind is BlobDataset:
            assert await dataset.aget(-1) == expected[-1]
            assert await dataset.aget_many(iter([4, 3])) == [expected[4], expected[3]]
        if is_async:
            assert threads == {here}, name
        else:
            assert threads.isdisjoint({here, "azstoragetorch"}), name


def test_coroutine_transforms_overlap(blobs: BlobServer) -> None:
    """That is their point: as many at once as are fetched ahead."""
    running = most = 0

    async def transform(blob: Blob) -> str:
        nonlocal running, most
        running += 1
        most = max(most, running)
        while most < 8:
            await asyncio.sleep(0)
        running -= 1
        return blob.blob_name

    assert list(make(IterableBlobDataset, blobs, transform=transform, prefetch=8)) == LISTED
    assert most == 8


def test_coroutine_transforms_that_read_more_do_not_wait_for_each_other(blobs: BlobServer) -> None:
    """Each holds a sample, all of them fill the memory, and each needs more of it: an image, and its label."""
    for number in range(8):
        blobs.put_synthetic(f"large/{number}", 200 * KiB)
    options = TransferOptions(memory_budget=MiB, range_size=64 * KiB)
    urls = [blobs.url(f"large/{number}") for number in range(8)]
    labels = BlobDataset.from_blob_urls(map(blobs.url, LISTED), credential=False, options=options)
    arrived = 0

    async def transform(blob: Blob) -> int:
        nonlocal arrived
        arrived += 1
        while arrived < 4:
            await asyncio.sleep(0)
        label = await labels.aget(0)
        async with blob_files[0].areader() as file:
            more = await file.read()
        return len(label["data"]) + len(more) + len(await blob.aread())

    blob_files: list[Blob] = list(BlobDataset.from_blob_urls(urls, credential=False, prefetch=0, transform=lambda b: b))
    for source in ("container", "urls"):
        arrived = 0
        if source == "container":
            dataset = make(
                IterableBlobDataset, blobs, transform=transform, prefix="large/", options=options, prefetch=8
            )
        else:
            dataset = IterableBlobDataset.from_blob_urls(
                urls, credential=False, transform=transform, options=options, prefetch=8
            )
        assert list(dataset) == [len(content_of(LISTED[0])) + 400 * KiB] * 8


def test_plain_transform_that_returns_a_coroutine_is_told_so(blobs: BlobServer) -> None:
    """A lambda around a coroutine function cannot be told from others before it is called."""

    async def decode(blob: Blob) -> bytes:
        return await blob.aread()

    dataset = make(BlobDataset, blobs, transform=lambda blob: decode(blob))
    with pytest.raises(TypeError, match="returned a coroutine: pass the coroutine function itself"):
        dataset[0]


@KINDS
@pytest.mark.parametrize("source", ["container", "urls"])
def test_reader_of_a_prefetched_sample_makes_no_request(blobs: BlobServer, kind: Any, source: str) -> None:
    """Decoders open, look, open again: the content is at hand. And size and ETag are known, wherever they came from."""

    def transform(blob: Blob) -> str:
        before = len(blobs.requests(blob=blob.blob_name))
        for _ in range(2):
            with blob.reader() as file:
                assert file.read(10) == content_of(blob.blob_name)[:10]
                assert file.seek(0, io.SEEK_END) == blob.size == len(content_of(blob.blob_name))
        assert blob.read() is blob.read()
        assert blob.etag == blobs.version(blob.blob_name).etag or not blob.size
        assert len(blobs.requests(blob=blob.blob_name)) == before == 1
        return blob.blob_name

    assert list(make(kind, blobs, source, transform=transform)) == LISTED


@KINDS
def test_without_prefetch_only_what_is_read_is_fetched(blobs: BlobServer, kind: Any) -> None:
    """A transform that looks at names needs no content."""
    dataset = make(kind, blobs, transform=name_of, prefetch=0)
    assert list(dataset) == LISTED
    assert blobs.requests() == []
    dataset = make(kind, blobs, transform=lambda blob: blob.reader().read(2), prefetch=0)
    assert list(dataset) == [content_of(name)[:2] for name in LISTED]


@KINDS
@pytest.mark.parametrize("source", ["container", "urls"])
@pytest.mark.parametrize("prefetch", [0, 1, 32])
def test_sizes_around_every_limit(server: BlobServer, kind: Any, source: str, prefetch: int) -> None:
    """Empty, one request, several ranges, and larger than what is fetched ahead; known or not."""
    options = TransferOptions(range_size=64 * KiB, memory_budget=MiB, prefetch_max_blob=300 * KiB)
    sizes = [0, 1, 64 * KiB - 1, 64 * KiB, 64 * KiB + 1, 300 * KiB, 300 * KiB + 1, 2 * MiB, 5, 0, 256 * KiB, 2 * MiB]
    urls, expected = [], []
    for number, size in enumerate(sizes):
        content = server.put_synthetic(f"{number:02}", size, seed=number).content
        expected.append(b"".join(content.slices(0, size)))
        urls.append(server.url(f"{number:02}"))
    arguments: dict[str, Any] = {"credential": False, "options": options, "prefetch": prefetch}
    dataset = (
        kind.from_container_url(server.container_url, **arguments)
        if source == "container"
        else kind.from_blob_urls(urls, **arguments)
    )

    for _ in range(2):
        assert [(sample["url"], sample["data"]) for sample in dataset] == list(zip(urls, expected, strict=True))
    assert asyncio.run(collected(dataset))[-1]["data"] == expected[-1]


@pytest.mark.parametrize("source", ["container", "urls"])
def test_blobs_larger_than_the_limit_are_opened_when_read(server: BlobServer, source: str) -> None:
    """A transform that takes the head of each of many large files must not load them."""
    options = TransferOptions(range_size=64 * KiB, prefetch_max_blob=100 * KiB, readahead=0)
    server.put_synthetic("large", 4 * MiB)
    server.put_synthetic("small", 100 * KiB)

    def transform(blob: Blob) -> int | None:
        with blob.reader() as file:
            assert len(file.read(1000)) == 1000
        return blob.size

    arguments: dict[str, Any] = {"credential": False, "options": options, "transform": transform}
    if source == "container":
        dataset = BlobDataset.from_container_url(server.container_url, **arguments)
    else:
        dataset = BlobDataset.from_blob_urls([server.url("large"), server.url("small")], **arguments)
    assert list(dataset) == [4 * MiB, 100 * KiB]
    assert sum(request.bytes_sent for request in server.requests(blob="large")) < MiB
    assert sum(request.bytes_sent for request in server.requests(blob="small")) == 100 * KiB


# Errors of samples.


def failing(number: int, error: type[Exception] = KeyError) -> Callable[[Blob], str]:
    def transform(blob: Blob) -> str:
        if blob.blob_name == LISTED[number]:
            raise error("label")
        return blob.blob_name

    return transform


def failing_async(number: int, error: type[Exception] = KeyError) -> Any:
    plain = failing(number, error)

    async def transform(blob: Blob) -> str:
        return plain(blob)

    return transform


@KINDS
@pytest.mark.parametrize("transform", [failing(4), failing_async(4)])
@pytest.mark.parametrize("prefetch", [0, 32])
def test_error_of_a_transform_is_raised_in_its_turn(
    blobs: BlobServer, kind: Any, transform: Any, prefetch: int
) -> None:
    """As it is, with a note that names the blob; the samples before it come first."""
    samples = iter(make(kind, blobs, transform=transform, prefetch=prefetch))
    assert [next(samples) for _ in range(4)] == LISTED[:4]
    with pytest.raises(KeyError, match="label") as raised:
        next(samples)
    assert raised.value.__notes__ == [f"while making the sample of {blobs.url(LISTED[4])}"]
    assert list(samples) == []

    async def read() -> None:
        await collected(make(kind, blobs, transform=transform, prefetch=prefetch))

    with pytest.raises(KeyError, match="label") as raised:
        asyncio.run(read())
    assert blobs.url(LISTED[4]) in str(raised.value.__notes__)


@pytest.mark.parametrize("transform", [failing(4, StopIteration), failing_async(4, StopIteration)])
def test_stop_iteration_in_a_transform_does_not_end_the_epoch_quietly(blobs: BlobServer, transform: Any) -> None:
    """``next()`` on an empty iterator in a transform is a bug of the transform and not the end of the data."""
    with pytest.raises(RuntimeError, match="StopIteration"):
        list(make(IterableBlobDataset, blobs, transform=transform))
    with pytest.raises(RuntimeError, match="StopIteration"):
        asyncio.run(collected(make(IterableBlobDataset, blobs, transform=transform)))


@pytest.mark.parametrize("in_loop", [True, False])
def test_cancellation_inside_a_transform_is_an_error_of_its_sample(blobs: BlobServer, in_loop: bool) -> None:
    """It awaited something that was cancelled; nobody has cancelled the consumer, who must not believe so."""

    async def transform(blob: Blob) -> str:
        if blob.blob_name == LISTED[4]:
            raise asyncio.CancelledError
        return blob.blob_name

    dataset = make(IterableBlobDataset, blobs, transform=transform)
    with pytest.raises(RuntimeError, match=f"{LISTED[4]}.* was cancelled"):
        asyncio.run(collected(dataset)) if in_loop else list(dataset)
    skipping = make(IterableBlobDataset, blobs, transform=transform, on_error="skip")
    assert list(skipping) == [name for name in LISTED if name != LISTED[4]]


@KINDS
@pytest.mark.parametrize("source", ["container", "urls"])
@pytest.mark.parametrize("prefetch", [0, 32])
def test_error_of_a_read_is_our_own_and_names_the_blob(
    blobs: BlobServer, kind: Any, source: str, prefetch: int
) -> None:
    """Deleted since it was listed."""
    dataset = make(kind, blobs, source, prefetch=prefetch)
    blobs.delete(LISTED[4])
    samples = iter(dataset)
    assert [checked(next(samples)) for _ in range(4)] == LISTED[:4]
    with pytest.raises(BlobNotFoundError, match=LISTED[4]):
        next(samples)
    if kind is BlobDataset:
        assert checked(dataset[5]) == LISTED[5]
        with pytest.raises(BlobNotFoundError, match=LISTED[4]):
            dataset[4]
        with pytest.raises(BlobNotFoundError, match=LISTED[4]):
            asyncio.run(dataset.aget(4))


@KINDS
@pytest.mark.parametrize("prefetch", [0, 32])
@pytest.mark.parametrize("in_loop", [True, False])
def test_replacement_of_samples_that_fail(blobs: BlobServer, kind: Any, prefetch: int, in_loop: bool) -> None:
    """The function gets the blob and the error, in the thread of the transforms, and what it returns is the sample."""
    seen: list[tuple[str, type[Exception], str]] = []

    def instead(blob: Blob, error: Exception) -> str:
        seen.append((blob.blob_name, type(error), threading.current_thread().name))
        return f"instead of {blob.blob_name}"

    def transform(blob: Blob) -> str:
        blob.read()
        return failing(7)(blob)

    dataset = make(kind, blobs, transform=transform, on_error=instead, prefetch=prefetch)
    blobs.delete(LISTED[4])

    samples = asyncio.run(collected(dataset)) if in_loop else list(dataset)

    expected = list(LISTED)
    expected[4], expected[7] = f"instead of {LISTED[4]}", f"instead of {LISTED[7]}"
    assert samples == expected
    assert [each[:2] for each in seen] == [(LISTED[4], BlobNotFoundError), (LISTED[7], KeyError)]
    threads = {each[2] for each in seen}
    if in_loop:
        assert threads.isdisjoint({"azstoragetorch", threading.current_thread().name})
    else:
        assert threads == {threading.current_thread().name}
    assert (dataset.stats().samples, dataset.stats().skipped) == (20, 0)


@pytest.mark.parametrize("prefetch", [0, 32])
@pytest.mark.parametrize("in_loop", [True, False])
def test_skipped_samples(blobs: BlobServer, prefetch: int, in_loop: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Left out, counted, and named in the log."""
    dataset = make(IterableBlobDataset, blobs, on_error="skip", prefetch=prefetch)
    blobs.delete(LISTED[4])

    samples = asyncio.run(collected(dataset)) if in_loop else list(dataset)

    assert [checked(sample) for sample in samples] == [name for name in LISTED if name != LISTED[4]]
    assert (dataset.stats().samples, dataset.stats().skipped) == (19, 1)
    (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert record.name == "azstoragetorch.datasets"
    assert f"skipped {blobs.url(LISTED[4])}: BlobNotFoundError" in record.getMessage()


def test_error_of_the_replacement_is_raised(blobs: BlobServer) -> None:
    """It decides: raising is one of the things that it may do."""

    def instead(blob: Blob, error: Exception) -> str:
        raise LookupError("too many") from error

    with pytest.raises(LookupError, match="too many") as raised:
        list(make(IterableBlobDataset, blobs, transform=failing(4), on_error=instead))
    assert isinstance(raised.value.__cause__, KeyError)


# Blobs that changed since they were listed.


@KINDS
@pytest.mark.parametrize("prefetch", [0, 32])
@pytest.mark.parametrize("how", ["transform", "default"])
def test_blob_changed_since_the_listing(blobs: BlobServer, kind: Any, prefetch: int, how: str) -> None:
    """An epoch is of the versions that were listed; whoever wants the newest says so."""
    arguments: dict[str, Any] = {"prefetch": prefetch}
    if how == "transform":
        arguments["transform"] = lambda blob: {"url": blob.url, "data": blob.reader().read()}
    strict, lenient = make(kind, blobs, **arguments), make(kind, blobs, allow_modified=True, **arguments)
    blobs.put(LISTED[4], b"something new, and perhaps of another size")
    blobs.put(LISTED[6], b"")

    with pytest.raises(BlobModifiedError, match=LISTED[4]):
        list(strict)
    samples = list(lenient)
    assert samples[4]["data"] == b"something new, and perhaps of another size"
    assert samples[6]["data"] == b""
    assert [checked(sample) for sample in samples[7:]] == LISTED[7:]


def test_urls_promise_no_version(blobs: BlobServer) -> None:
    """They are read as they are now."""
    dataset = make(BlobDataset, blobs, "urls")
    blobs.put(LISTED[4], b"new")
    assert dataset[4]["data"] == b"new"
    blobs.put(LISTED[4], b"newer")
    assert dataset[4]["data"] == b"newer"


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
    refused("'consumed'", dataset, {**state, "consumed": -1})
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
    for refused in (
        dataset.state_dict,
        lambda: dataset.load_state_dict({}),
        lambda: dataset.resume(epoch=0, batches=0),
    ):
        with pytest.raises(ValueError, match="this dataset is lazy; make it with lazy=False"):
            refused()
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
    with pytest.raises(ValueError) as raised:
        kind.from_blob_urls(["https://account.blob.core.windows.net/data?sig=secret"], credential=False)
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
