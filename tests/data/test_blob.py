"""A blob of a dataset: what it says of itself, and that reading it is reading that very version."""

from __future__ import annotations

import asyncio
import io
import pickle
import threading
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

import pytest

from azstoragetorch import TransferOptions
from azstoragetorch._bridge import run
from azstoragetorch._data.blob import Blob
from azstoragetorch._values.url import BlobUrl
from azstoragetorch.exceptions import BlobModifiedError, BlobNotFoundError
from azstoragetorch.io import BlobIO
from tests.blobserver import BlobServer, crc32, synthetic_bytes
from tests.data.blobs import KiB, MiB, Read, access, by_aread, by_areader, by_read, by_reader, hold, listed, named
from tests.processes.child import content
from tests.processes.script import Script

pytestmark = pytest.mark.timeout(40)

SIZE = 300 * KiB + 7

Make: TypeAlias = Callable[..., Blob]

WAYS = pytest.mark.parametrize("read", [by_read, by_aread, by_reader, by_areader])


@WAYS
@pytest.mark.parametrize("make", [listed, named])
@pytest.mark.parametrize("size", [0, 1, 1000, 64 * KiB, SIZE])
async def test_content_is_the_blobs(server: BlobServer, read: Read, make: Make, size: int) -> None:
    """However a transform reads it, and whatever was known before."""
    server.put_synthetic("a", size)

    assert await read(make(server, "a")) == synthetic_bytes(0, size)

    assert not server.requests("HEAD")


@pytest.mark.parametrize("make", [listed, named])
def test_large_blob_is_read_twice_through_one_blob(server: BlobServer, make: Make) -> None:
    """0.2.0 could read a blob of 32 MiB and more only once."""
    size = 64 * MiB
    crc = crc32(server.put_synthetic("large", size).content)
    blob = make(server, "large", access(options=TransferOptions()))

    for _ in range(2):
        assert zlib.crc32(blob.read()) == crc
        with blob.reader() as file:
            assert zlib.crc32(file.read()) == crc


def test_readers_of_one_blob_are_independent(server: BlobServer) -> None:
    """Decoders open a file, look at its head and open it again; one must not move the other or close it."""
    server.put_synthetic("a", SIZE)
    content = synthetic_bytes(0, SIZE)
    blob = listed(server, "a")

    first, second = blob.reader(), blob.reader()
    with first, second:
        assert first.read(1000) == content[:1000]
        assert second.read(10) == content[:10]
        first.seek(200_000)
        assert second.read(10) == content[10:20]
        first.close()
        assert second.read() == content[20:]
    with blob.reader() as third:
        assert third.read() == content


def test_plain_reads_are_not_kept(server: BlobServer) -> None:
    """A map dataset that keeps its blobs must not keep their contents."""
    server.put("a", b"some bytes")
    blob = listed(server, "a")

    assert blob.read() == blob.read() == b"some bytes"

    assert len(server.requests("GET")) == 2
    assert b"some bytes" not in pickle.dumps(blob)


# Which version is read.


@pytest.mark.parametrize("size", [100, SIZE])
def test_listed_size_is_not_asked_for(server: BlobServer, size: int) -> None:
    """zipfile, PIL and torch.load begin at the end of a file: without a round trip just to learn where that is."""
    server.put_synthetic("a", size)
    blob = listed(server, "a")

    with blob.reader() as file:
        assert file.seek(0, io.SEEK_END) == size
        assert file.read() == b""
        assert server.requests() == []
        file.seek(-10, io.SEEK_END)
        assert file.read(10) == synthetic_bytes(size - 10, size)

    (request,) = server.requests()
    assert request.method == "GET"
    assert request.headers["if-match"] == server.version("a").etag


def test_many_ranges_of_a_listed_blob_start_at_once(server: BlobServer) -> None:
    """None of them has to wait for the first answer to learn what to ask for: all of them name the ETag."""
    server.put_synthetic("a", SIZE)

    listed(server, "a").read()

    requests = server.requests()
    assert len(requests) > 2
    assert {request.headers.get("if-match") for request in requests} == {server.version("a").etag}


@WAYS
@pytest.mark.parametrize("size", [0, 100, SIZE])
@pytest.mark.parametrize("same_size", [True, False])
async def test_blob_changed_since_the_listing_is_refused(
    server: BlobServer, read: Read, size: int, same_size: bool
) -> None:
    """A sample must not be half of one version and half of another, nor another than an epoch promised."""
    server.put_synthetic("a", size)
    blob = listed(server, "a")
    server.put_synthetic("a", size if same_size else size + 1, seed=1)

    with pytest.raises(BlobModifiedError, match="/data/a"):
        await read(blob)


@WAYS
async def test_blob_of_known_etag_and_unknown_size_is_refused_when_changed(server: BlobServer, read: Read) -> None:
    """A listing may leave the size out; the ETag alone pins the version."""
    server.put_synthetic("a", SIZE)
    url = BlobUrl.parse(server.url("a"))
    blob = Blob(url, access(), etag=server.version("a").etag)

    assert await read(blob) == synthetic_bytes(0, SIZE)
    server.put("a", b"another")
    with pytest.raises(BlobModifiedError):
        await read(Blob(url, access(), etag=blob.etag))


@WAYS
async def test_size_without_etag_is_not_believed(server: BlobServer, read: Read) -> None:
    """Who accepts modified blobs must not get them cut to the size that was listed."""
    server.put_synthetic("a", SIZE)
    blob = Blob(BlobUrl.parse(server.url("a")), access(), size=100)

    assert await read(blob) == synthetic_bytes(0, SIZE)


@WAYS
async def test_blob_from_a_url_is_read_as_it_is_now(server: BlobServer, read: Read) -> None:
    """Nothing was promised of it: each read takes what is there, and no earlier one pins it."""
    blob = named(server, "a")
    for now in (b"first", b"", b"second one"):
        server.put("a", now)
        assert await read(blob) == now


@WAYS
async def test_missing_blob(server: BlobServer, read: Read) -> None:
    """Deleted since it was listed: the error is the one that people catch already."""
    server.put("a", b"content")
    blob = listed(server, "a")
    server.delete("a")

    with pytest.raises(BlobNotFoundError, match="/data/a"):
        await read(blob)


def test_version_in_the_url_is_what_is_read(server: BlobServer) -> None:
    """``versionid=`` pins without an ETag; 0.2.0 dropped it and read the newest version."""
    old = server.put("a", b"old")
    server.put("a", b"new")
    blob = Blob(BlobUrl.parse(f"{server.url('a')}?versionid={old.version_id}"), access())

    assert blob.read() == b"old"
    with blob.reader() as file:
        assert file.read() == b"old"
        assert "versionid=" in file.name
    assert blob.url == server.url("a")
    assert "versionid=" in repr(blob)


# What it says of itself.


async def test_size_and_etag_of_a_listing_are_known_before_any_read(server: BlobServer) -> None:
    """A transform may choose by size without a request."""
    server.put("a", b"content")
    modified = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
    etag = server.version("a").etag
    blob = Blob(BlobUrl.parse(server.url("a")), access(), size=7, etag=etag, last_modified=modified)

    assert (blob.size, blob.etag, blob.last_modified) == (7, etag, modified)
    assert server.requests() == []


@pytest.mark.parametrize("read", [by_read, by_aread])
@pytest.mark.parametrize("now", [b"", b"content"])
async def test_size_and_etag_of_a_url_are_known_after_a_read(server: BlobServer, read: Read, now: bytes) -> None:
    """They are those of what was returned, so that caches can be keyed by them."""
    blob = named(server, "a")
    assert (blob.size, blob.etag, blob.last_modified) == (None, None, None)
    for each in (b"before", now):
        server.put("a", each)
        await read(blob)
        assert blob.size == len(each)
        assert blob.etag in ((server.version("a").etag,) if each else (server.version("a").etag, None))


@pytest.mark.parametrize(
    "name",
    ["plain", "dir/with space/x", "ünï/日本語.bin", "100%", "a+b", "a#b", "a?b=c&d", "new\nline", "~tilde", "q'\"<>|"],
)
def test_names_are_told_as_they_are(server: BlobServer, name: str) -> None:
    """Labels are cut out of names, and URLs are handed to other tools."""
    server.put(name, name.encode())
    blob = listed(server, name)

    assert blob.blob_name == name
    assert blob.container_name == "data"
    assert blob.url == server.url(name)
    assert blob.read() == name.encode()
    with blob.reader() as file:
        assert file.read() == name.encode()
        assert file.name == blob.url


def test_attributes_cannot_be_set_by_mistake(server: BlobServer) -> None:
    """A typing error in a transform must not vanish in an attribute that nobody reads."""
    blob = named(server, "a")
    with pytest.raises(AttributeError):
        blob.url = "https://elsewhere"  # type: ignore[misc]
    with pytest.raises(AttributeError):
        blob.data = b""  # type: ignore[attr-defined]


def test_readers_count_in_the_statistics_of_the_dataset(server: BlobServer) -> None:
    """Whoever asks what an epoch cost gets all of it."""
    server.put("a", b"content")
    shared = access()
    blob = listed(server, "a", shared)

    blob.read()
    with blob.reader() as file:
        file.read()
        assert file.stats() == shared.stats

    assert (shared.stats.requests, shared.stats.bytes) == (2, 14)


# Threads and processes.


def test_threads_read_one_blob(server: BlobServer) -> None:
    """Samples are decoded in thread pools."""
    server.put_synthetic("a", SIZE)
    blob = listed(server, "a")
    contents: list[bytes] = []

    def read() -> None:
        contents.append(blob.read())
        with blob.reader() as file:
            contents.append(file.read())

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert contents == [synthetic_bytes(0, SIZE)] * 12


def test_blocking_read_inside_a_loop_of_the_user(server: BlobServer) -> None:
    """Notebooks have a running loop in the thread that iterates over the dataset."""
    server.put("a", b"content")
    blob = listed(server, "a")

    async def notebook() -> bytes:
        return blob.read()

    assert asyncio.run(notebook()) == b"content"


def test_blocking_read_on_the_loop_thread_is_refused(server: BlobServer) -> None:
    """A coroutine transform runs there: waiting would wait for ever. What is held can be read everywhere."""
    server.put("a", b"content")
    blob = listed(server, "a")

    async def transform() -> bytes:
        return blob.read()

    with pytest.raises(RuntimeError, match="event loop thread"):
        run(transform)
    hold(blob, b"content")
    assert run(transform) == b"content"


@pytest.mark.skipif("not hasattr(__import__('os'), 'fork')", reason="there is no fork on this system")
def test_blob_works_on_both_sides_of_a_fork(server: BlobServer, tmp_path: Path) -> None:
    """A dataset's cached blobs are copied into forked workers, which read them there; a held one stays open."""
    server.put("a", content(200_000))
    with Script(
        """
        from tests.data.blobs import *

        data = content(200_000)
        blob, held = at(url("a")), hold(at(url("a")), data)
        reader, file = blob.reader(), held.reader()
        assert reader.read(10) == file.read(10) == data[:10]

        def read_all_the_time():
            while not enough.is_set():
                busy.seek(0)
                busy.read()

        # A lock of this reader would be held at most of the forks.
        busy, enough = held.reader(), threading.Event()
        thread = threading.Thread(target=read_all_the_time, daemon=True)
        thread.start()
        children = []
        for _ in range(4):
            pid = os.fork()
            if pid == 0:
                assert busy.seek(10) == 10 and busy.read(5) == data[10:15]
                assert file.read(5) == data[10:15]
                file.close()
                assert refused(lambda: reader.read(1)) == 1
                assert blob.read() == data and held.read() is data
                with blob.reader() as own, held.reader() as other:
                    assert own.read() == other.read() == data
                sys.exit(0)
            children.append(pid)
        for pid in children:
            wait_for(pid)
        enough.set()
        thread.join()
        assert file.read() == reader.read() == data[10:]
        """,
        tmp_path,
        server,
    ) as script:
        assert script.end().silently() == []


def test_reading_what_is_held_starts_no_thread(tmp_path: Path, server: BlobServer) -> None:
    """In a worker whose samples all come prefetched from elsewhere there is nothing to hop to."""
    with Script(
        """
        from tests.data.blobs import *

        blob = hold(at(url("a")), b"some\\nlines\\n")
        with blob.reader() as file:
            assert file.readline() == b"some\\n"
            assert file.read() == b"lines\\n"
        left_open = blob.reader()
        del left_open
        assert blob.read()
        say(threading.active_count())
        """,
        tmp_path,
        server,
    ) as script:
        assert script.end().silently() == ["1"]
    assert server.requests() == []


def test_reader_is_an_ordinary_file(server: BlobServer) -> None:
    """Decoders check what they were given."""
    server.put("a", b"content")
    for blob in (listed(server, "a"), hold(listed(server, "a"), b"content")):
        with blob.reader() as file:
            assert isinstance(file, BlobIO)
            assert isinstance(file, io.BufferedIOBase)
            assert (file.readable(), file.writable(), file.seekable(), file.mode) == (True, False, True, "rb")
            assert urlsplit(file.name).query == ""
            with pytest.raises(io.UnsupportedOperation):
                file.write(b"x")
            with pytest.raises(io.UnsupportedOperation):
                file.fileno()
            with pytest.raises(TypeError, match="pickle"):
                pickle.dumps(file)
        file.close()
        for operation in (file.read, file.readline, file.tell, file.readable, file.peek):
            with pytest.raises(ValueError, match="closed"):
                operation()
