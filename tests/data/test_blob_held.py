"""What a dataset fetched ahead: reading it is reading bytes, with no request, and like any file."""

from __future__ import annotations

import asyncio
import io
import threading
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from azstoragetorch._values.url import BlobUrl
from azstoragetorch._values.version import BlobVersion
from azstoragetorch.aio import AsyncBlobIO
from azstoragetorch.io import BlobIO
from tests.blobserver import BlobServer
from tests.data.blobs import Blob, Read, access, at, by_aread, by_areader, by_read, by_reader, hold, listed

pytestmark = pytest.mark.timeout(40)

NOWHERE = "http://127.0.0.1:9/devstoreaccount1/data/a"
"""No test below may send a request there: nothing answers."""

CONTENT = b"first line\nsecond line\n\nlast line"


def held(content: bytes) -> Blob:
    return hold(at(NOWHERE), content)


@pytest.mark.parametrize("read", [by_read, by_aread, by_reader, by_areader])
@pytest.mark.parametrize("content", [b"", b"x", bytes(100_000)], ids=len)
async def test_reading_what_is_held_makes_no_request(server: BlobServer, read: Read, content: bytes) -> None:
    """That is what prefetching is for; also after the blob was replaced."""
    server.put("a", content)
    blob = hold(listed(server, "a"), content)
    server.put("a", b"replaced")

    for _ in range(3):
        assert await read(blob) == content

    assert blob.size == len(content)
    assert server.requests() == []


def test_listed_etag_stays_when_the_answer_names_none() -> None:
    """The answer of an empty blob may have no ETag; that must not turn a pinned blob into one of any version."""
    blob = Blob(BlobUrl.parse(NOWHERE), access(), size=0, etag='"0x1"')

    blob.hold(b"", BlobVersion(0, None))

    assert (blob.size, blob.etag) == (0, '"0x1"')


@pytest.mark.parametrize("read", [by_read, by_aread, by_reader, by_areader])
async def test_reading_it_whole_makes_no_copy(read: Read) -> None:
    """The default transform reads through nothing but this."""
    content = bytes(100_000)

    assert await read(held(content)) is content


positions = st.integers(-5, len(CONTENT) + 5)
sizes = st.one_of(st.none(), st.integers(-1, len(CONTENT) + 5))
Operation = tuple[str, tuple[Any, ...]]
operations: st.SearchStrategy[list[Operation]] = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["read", "read1", "readline", "readlines"]), st.tuples(sizes)),
        st.tuples(st.sampled_from(["readinto", "readinto1", "peek"]), st.tuples(st.integers(0, len(CONTENT) + 5))),
        st.tuples(st.just("seek"), st.tuples(positions, st.integers(0, 3))),
        st.tuples(st.sampled_from(["read", "read1", "readline", "peek", "tell", "next", "list"]), st.just(())),
    ),
    max_size=12,
)


class WithPeek(io.BytesIO):
    """`io.BytesIO` with the method that only buffered files have, and with their `readlines`.

    A buffered file stops after the line that exceeds the hint, `io.BytesIO` already after one that reaches it.
    """

    def readlines(self, hint: int | None = None, /) -> list[bytes]:
        return io.IOBase.readlines(self, -1 if hint is None else hint)

    def peek(self, size: int = 0) -> bytes:
        start = self.tell()
        return self.getvalue()[start : start + size] if size else self.getvalue()[start:]


def outcome(file: Any, operation: Operation) -> Any:
    """Carry an operation out; return what it returned or filled, or the type of what it raised."""
    name, arguments = operation
    try:
        if name in ("readinto", "readinto1"):
            buffer = bytearray(b"." * arguments[0])
            return getattr(file, name)(buffer), bytes(buffer)
        if name in ("next", "list"):
            return next(file) if name == "next" else list(file)
        return getattr(file, name)(*arguments)
    except (StopIteration, ValueError, TypeError) as error:
        return type(error)


@given(st.one_of(st.just(CONTENT), st.binary(max_size=40)), operations)
@example(b"", [("readinto", (0,)), ("peek", (1,)), ("next", ()), ("readline", ())])
@example(CONTENT, [("readlines", (len(b"first line\n"),))])
def test_held_reader_is_the_file_that_bytesio_is(content: bytes, steps: list[Operation]) -> None:
    """PIL, zipfile, soundfile and pickle each use another part of what a file can do."""
    with held(content).reader() as file:
        model = WithPeek(content)
        for step in steps:
            assert outcome(file, step) == outcome(model, step), step
            assert file.tell() == model.tell(), step


async def outcome_async(file: AsyncBlobIO, operation: Operation) -> Any:
    name, arguments = operation
    try:
        if name == "readinto":
            buffer = bytearray(b"." * arguments[0])
            return await file.readinto(buffer), bytes(buffer)
        if name == "list":
            return [line async for line in file]
        if name == "next":
            return await anext(aiter(file))
        return await getattr(file, name)(*arguments)
    except StopAsyncIteration:
        return StopIteration
    except (ValueError, TypeError) as error:
        return type(error)


@given(st.one_of(st.just(CONTENT), st.binary(max_size=40)), operations)
def test_held_async_reader_is_the_file_that_bytesio_is(content: bytes, steps: list[Operation]) -> None:
    """The same for coroutine transforms."""
    only_sync = ("read1", "readinto1", "peek", "readlines")

    async def compare() -> None:
        async with held(content).areader() as file:
            model = WithPeek(content)
            for step in steps:
                if step[0] not in only_sync:
                    assert await outcome_async(file, step) == outcome(model, step), step
                    assert await file.tell() == model.tell(), step

    asyncio.run(compare())


def test_readers_are_independent_and_outlive_the_blob() -> None:
    """Each has its own position; the content lives as long as any of them."""
    blob = held(CONTENT)
    first, second = blob.reader(), blob.reader()
    del blob

    first.seek(6)
    assert second.readline() == b"first line\n"
    first.close()
    assert second.read() == CONTENT[11:]


def test_closing_lets_the_content_go() -> None:
    """Image libraries keep the files they were given: a closed one must not keep megabytes alive."""

    class Content(bytes):
        def __del__(self) -> None:
            gone.append(True)

    gone: list[bool] = []
    file = held(Content(b"content")).reader()
    assert file.read(3) == b"con"
    assert not gone

    file.close()
    file.close()

    assert gone
    with pytest.raises(ValueError, match="closed"):
        file.read()


def test_libraries_read_from_it() -> None:
    """Archives jump about: to their end, back, and through `io` wrappers."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.txt", "öne\ntwo\n")
    blob = held(packed.getvalue())

    with blob.reader() as file, zipfile.ZipFile(file) as archive:
        assert archive.read("a.txt") == "öne\ntwo\n".encode()
    with held("öne\ntwo\n".encode()).reader() as file, io.TextIOWrapper(file, "utf-8") as text:
        assert list(text) == ["öne\n", "two\n"]


async def test_reader_works_on_any_loop_and_on_several() -> None:
    """A transform may open it on one loop and hand it to code on another: there is nothing of a loop in it."""
    file, async_file = held(CONTENT).reader(), held(CONTENT).areader()
    assert file.read(5) == await async_file.read(5) == b"first"

    def elsewhere() -> bytes:
        return file.read(5) + asyncio.run(async_file.read(1))

    assert await asyncio.to_thread(elsewhere) == b" line "
    assert await async_file.read() == CONTENT[6:]


def test_threads_share_one_reader() -> None:
    """Each byte goes to exactly one of them, as with any file: no operation is torn though none takes a lock."""
    content = b"".join(b"%06d\n" % number for number in range(20_000))
    file = held(content).reader()
    taken: list[bytes] = []

    def take(read: Callable[[], bytes]) -> None:
        while part := read():
            taken.append(part)

    readers = [file.readline, lambda: file.read(7), lambda: file.read(70), file.readline]
    threads = [threading.Thread(target=take, args=(read,)) for read in readers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(line for part in taken for line in part.splitlines(keepends=True)) == content.splitlines(True)


def test_operations_that_make_no_sense_are_refused_as_ever() -> None:
    """The held file is no writable buffer because it happens to be in memory."""
    file: BlobIO = held(CONTENT).reader()
    with pytest.raises(io.UnsupportedOperation):
        file.write(b"x")
    with pytest.raises(io.UnsupportedOperation):
        file.truncate()
    with pytest.raises(TypeError):
        file.readinto(b"read-only")
    assert file.readinto(bytearray()) == 0
    assert file.read() == CONTENT
