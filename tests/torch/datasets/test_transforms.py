"""Transforms: where they run, what they read without a request, and what becomes of their errors."""

from __future__ import annotations

import asyncio
import io
import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from azstoragetorch import TransferOptions
from azstoragetorch.datasets import Blob, BlobDataset, IterableBlobDataset
from azstoragetorch.exceptions import BlobModifiedError, BlobNotFoundError
from tests.blobserver import BlobServer
from tests.torch.datasets.child import checked, content_of
from tests.torch.datasets.making import KINDS, LISTED, collected, failing, failing_async, filled, make, name_of

pytestmark = pytest.mark.timeout(60)

KiB = 1024
MiB = 1024 * KiB


@pytest.fixture
def blobs(server: BlobServer) -> BlobServer:
    return filled(server)


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
    arrived, all_there = 0, asyncio.Event()

    async def transform(blob: Blob) -> str:
        nonlocal arrived
        arrived += 1
        if arrived == 8:
            all_there.set()
        await all_there.wait()
        return blob.blob_name

    assert list(make(IterableBlobDataset, blobs, transform=transform, prefetch=8)) == LISTED


def test_coroutine_transforms_that_read_more_do_not_wait_for_each_other(blobs: BlobServer) -> None:
    """Their samples fill the memory, and each of them needs more of it: for an image's label, say."""
    for number in range(8):
        blobs.put_synthetic(f"large/{number}", 200 * KiB)
    options = TransferOptions(memory_budget=4 * MiB, range_size=64 * KiB)
    labels = make(BlobDataset, blobs, "urls", options=options)
    companion = make(BlobDataset, blobs, prefix="large/", options=options, prefetch=0, transform=lambda blob: blob)[0]
    arrived, all_there = 0, asyncio.Event()

    async def transform(blob: Blob) -> int:
        nonlocal arrived
        arrived += 1
        if arrived == 5:  # as many as fit
            all_there.set()
        await all_there.wait()
        async with companion.areader() as file:
            more = await file.read()
        label = await labels.aget(0)
        return len(label["data"]) + len(more) + len(await blob.aread())

    dataset = make(IterableBlobDataset, blobs, transform=transform, prefix="large/", options=options, prefetch=8)
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
    assert f"skipped {blobs.url(LISTED[4])}: azstoragetorch.exceptions.BlobNotFoundError" in record.getMessage()


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
