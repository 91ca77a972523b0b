"""A blob opened for reading refuses what Python's own files refuse, with their errors, and does nothing too early."""

from __future__ import annotations

import gc
import io
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from azstoragetorch import TransferOptions
from azstoragetorch._bridge import run
from azstoragetorch._transfer.memory import Memory
from azstoragetorch.aio import AsyncBlobIO
from azstoragetorch.io import BlobIO
from tests.blobserver import BlobServer
from tests.bridge.script import output_of

CONTENT = b"first\nsecond\nthird"

Use = Callable[[Any], object]

READS: dict[str, Use] = {
    "read": lambda file: file.read(),
    "read1": lambda file: file.read1(),
    "readinto": lambda file: file.readinto(bytearray(3)),
    "readinto1": lambda file: file.readinto1(bytearray(3)),
    "readline": lambda file: file.readline(),
    "readlines": lambda file: file.readlines(),
    "next": lambda file: next(file),
    "peek": lambda file: file.peek(),
    "seek": lambda file: file.seek(0),
}
OTHERS: dict[str, Use] = {
    "tell": lambda file: file.tell(),
    "flush": lambda file: file.flush(),
    "truncate": lambda file: file.truncate(),
    "readable": lambda file: file.readable(),
    "writable": lambda file: file.writable(),
    "seekable": lambda file: file.seekable(),
    "isatty": lambda file: file.isatty(),
    "iter": lambda file: iter(file),
    "enter": lambda file: file.__enter__(),
}
WRITES: dict[str, Use] = {
    "write": lambda file: file.write(b"data"),
    "writelines": lambda file: file.writelines([b"data"]),
}


@pytest.fixture
def url(server: BlobServer) -> str:
    server.put("blob", CONTENT)
    return server.url("blob")


def opened(url: str, **more: Any) -> BlobIO:
    return BlobIO(url, "rb", credential=False, **more)


def cases(*uses: dict[str, Use]) -> pytest.MarkDecorator:
    named = {name: use for group in uses for name, use in group.items()}
    return pytest.mark.parametrize("use", [pytest.param(use, id=name) for name, use in named.items()])


@cases(READS, OTHERS, WRITES)
def test_closed_file_raises_value_error(url: str, tmp_path: Path, use: Use) -> None:
    """Code tells a closed file from a broken one by this."""
    local = (tmp_path / "file").open("w+b")
    local.close()
    file = opened(url)
    file.read(1)
    file.close()

    for each in (local, file):
        with pytest.raises(ValueError, match="closed file"):
            use(each)


@cases(WRITES)
def test_reader_refuses_to_write(url: str, tmp_path: Path, use: Use) -> None:
    """`torch.save` into a file opened the wrong way has to fail at its first byte."""
    path = tmp_path / "file"
    path.touch()
    with path.open("rb") as local, opened(url) as file:
        for each in (local, file):
            with pytest.raises(io.UnsupportedOperation):
                use(each)


@cases(READS)
def test_writer_refuses_to_read(server: BlobServer, use: Use) -> None:
    """And `torch.load` from a file opened for writing."""
    file = BlobIO(server.url("new"), "wb", credential=False)
    with pytest.raises(io.UnsupportedOperation):
        use(file)
    file.abort()


def test_file_tells_what_it_is(url: str) -> None:
    """Libraries look at these before they use a file."""
    with opened(url) as file:
        assert (file.readable(), file.writable(), file.seekable(), file.isatty()) == (True, False, True, False)
        assert (file.name, file.mode, file.closed, file.committed) == (url, "rb", False, False)
        assert isinstance(file, io.BufferedIOBase)
        assert not isinstance(file, io.RawIOBase), "which may return less than asked for"
        assert repr(file) == f"<BlobIO name={url!r} mode='rb'>"
    assert (file.name, file.mode, file.closed) == (url, "rb", True)
    assert repr(file) == f"<BlobIO name={url!r} mode='rb' closed>"


@pytest.mark.parametrize("name", ["fileno", "detach", "truncate"])
def test_what_a_blob_has_not_is_an_unsupported_operation(url: str, name: str) -> None:
    """The legacy format of `torch.load` asks for `fileno` and copes with this error only."""
    with opened(url) as file, pytest.raises(io.UnsupportedOperation):
        getattr(file, name)()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((-1,), ValueError, "negative seek value -1"),
        ((0, 3), ValueError, "invalid whence"),
        ((0, -1), ValueError, "invalid whence"),
        ((1.0,), TypeError, "float"),
        ((None,), TypeError, "NoneType"),
    ],
)
def test_seek_refuses_what_bytes_io_refuses(
    url: str, arguments: tuple[Any, ...], error: type[Exception], message: str
) -> None:
    """And the position stays."""
    with opened(url) as file:
        file.read(3)
        for each in (io.BytesIO(CONTENT), file):
            with pytest.raises(error, match=message):
                each.seek(*arguments)
        assert file.tell() == 3


def test_position_past_the_end_reads_nothing(url: str) -> None:
    """zipfile and others seek first and look then."""
    with opened(url) as file:
        assert file.seek(1000) == 1000
        assert (file.read(), file.read(5), file.readline(), file.peek(), file.tell()) == (b"", b"", b"", b"", 1000)
        assert file.readinto(bytearray(4)) == 0
        assert file.seek(-5, io.SEEK_END) == len(CONTENT) - 5
        assert file.read() == CONTENT[-5:]


def test_read_only_memory_is_refused(url: str) -> None:
    """`bytes` must stay what it is."""
    target = b"constant"
    with opened(url) as file:
        with pytest.raises(TypeError, match="read-only bytes"):
            file.readinto(target)
        with pytest.raises(TypeError):
            file.readinto("text")
        assert (target, file.tell()) == (b"constant", 0)


def test_any_writable_memory_is_filled_in_bytes(url: str) -> None:
    """Tensors and arrays come in other items and shapes than single bytes."""
    with opened(url) as file:
        four = memoryview(bytearray(8)).cast("i")
        assert file.readinto(four) == 8
        square = memoryview(bytearray(4)).cast("B", (2, 2))
        assert file.readinto(square) == 4
        assert bytes(four.cast("B")) + square.tobytes() == CONTENT[:12]
        with pytest.raises(BufferError):
            file.readinto(memoryview(bytearray(8))[::2])


def test_wrong_types_of_sizes_are_refused(url: str) -> None:
    """A float size would otherwise surface far from where it came from."""
    with opened(url) as file:
        for use in (file.read, file.read1, file.readline):
            with pytest.raises(TypeError):
                use("3")  # type: ignore[arg-type]
        assert file.tell() == 0


def test_with_statement_closes_and_cannot_be_entered_again(url: str) -> None:
    """As with Python's own files."""
    with opened(url) as file:
        assert file.read() == CONTENT
    assert file.closed
    file.close()
    with pytest.raises(ValueError, match="closed file"), file:
        pass


def test_error_inside_with_closes_the_reader(url: str) -> None:
    """And is not replaced."""
    with pytest.raises(LookupError, match="mine"), opened(url) as file:
        file.read(2)
        raise LookupError("mine")
    assert file.closed


@pytest.mark.parametrize("mode", ["r", "w", "a", "ab", "r+b", "rt", "br", "", None, 3])
def test_unknown_mode_is_refused_by_name(url: str, mode: Any) -> None:
    """Text and update modes do not exist: silently taking them for others would corrupt."""
    for kind in (BlobIO, AsyncBlobIO):
        with pytest.raises(ValueError, match="mode must be 'rb', 'wb' or 'xb'"):
            kind(url, mode, credential=False)


def test_wrong_arguments_are_refused(url: str) -> None:
    """At construction, where the mistake is."""
    for kind in (BlobIO, AsyncBlobIO):
        with pytest.raises(TypeError, match="TransferOptions"):
            kind(url, "rb", credential=False, options={"range_size": 1})  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            kind(url, "rb", credential="key")  # type: ignore[arg-type]
        with pytest.raises((TypeError, ValueError)):
            kind(b"https://a/b/c", "rb", credential=False)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="URL"):
            kind("no url", "rb", credential=False)


def test_construction_does_no_io(server: BlobServer) -> None:
    """A DataLoader builds thousands of files in a parent that is about to fork."""
    files = [kind(server.url("missing"), "rb", credential=False) for kind in (BlobIO, AsyncBlobIO)]

    assert all(file.tell() == 0 for file in files if isinstance(file, BlobIO))
    assert [file.stats().requests for file in files] == [0, 0]
    assert server.requests() == []
    assert server.log.accepted == 0


def test_construction_starts_no_thread(tmp_path: Path) -> None:
    """Nor does opening, seeking and closing a file that was never read: the loop starts with the first request."""
    printed = output_of(
        """
        import threading
        from azstoragetorch.io import BlobIO

        with BlobIO("http://127.0.0.1:1/account/container/blob", "rb", credential=False) as file:
            file.seek(10)
            print(threading.active_count(), file.tell())
        """,
        tmp_path,
    )
    assert printed == ["1 10"]


def test_open_file_cannot_be_pickled(url: str) -> None:
    """The message says what travels instead: the URL."""
    with opened(url) as file, pytest.raises(TypeError, match="pass its URL"):
        pickle.dumps(file)


def test_collected_reader_frees_its_memory_without_a_warning(server: BlobServer) -> None:
    """Nothing is lost with a reader, so nobody has to hear of it; its window must not stay in the budget."""
    server.put_synthetic("large", 1 << 20)

    async def used() -> int:
        return Memory.current().used

    file = opened(server.url("large"))
    file.read(1)
    assert run(used) > 0
    del file
    gc.collect()

    assert run(used) == 0


def test_file_is_safe_to_use_from_many_threads(server: BlobServer) -> None:
    """Operations are serialised: every byte comes out once."""
    size = 1 << 20
    server.put("counted", b"".join(number.to_bytes(4, "big") for number in range(size // 4)))
    found: list[bytes] = []

    def take() -> None:
        while data := file.read(4096):
            found.append(data)

    options = TransferOptions(range_size=1 << 16, memory_budget=1 << 20)
    with opened(server.url("counted"), options=options) as file:
        threads = [threading.Thread(target=take) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert b"".join(sorted(found)) == server.get("counted")


def test_counters_tell_what_was_fetched(url: str) -> None:
    """They are how a user finds out what a slow job did."""
    with opened(url) as file:
        before = file.stats()
        file.read()
        counters = file.stats()
        assert before.requests == 0, "which does not change any more"
        assert (counters.requests, counters.bytes, counters.retries) == (1, len(CONTENT), 0)


async def test_async_file_refuses_what_the_sync_file_refuses(server: BlobServer, url: str) -> None:
    """One contract for both faces."""
    async with AsyncBlobIO(url, "rb", credential=False) as file:
        assert (file.readable(), file.writable(), file.seekable()) == (True, False, True)
        assert (file.name, file.mode, file.closed, file.committed) == (url, "rb", False, False)
        with pytest.raises(io.UnsupportedOperation):
            await file.write(b"")
        with pytest.raises(ValueError, match="negative seek value"):
            await file.seek(-1)
        with pytest.raises(ValueError, match="invalid whence"):
            await file.seek(0, 7)
        with pytest.raises(TypeError, match="read-only"):
            await file.readinto(b"constant")
        assert [line async for line in file] == CONTENT.splitlines(keepends=True)
    assert file.closed
    await file.aclose()
    operations = (file.read, file.readline, file.tell, file.flush, lambda: file.seek(0), lambda: file.readinto(b""))
    for operation in (*operations, file.__aenter__):
        with pytest.raises(ValueError, match="closed file"):
            await operation()
    with pytest.raises(ValueError, match="closed file"):
        file.readable()
    with pytest.raises(ValueError, match="closed file"):
        async for _ in file:
            pass
    writer = AsyncBlobIO(server.url("new"), "wb", credential=False)
    with pytest.raises(io.UnsupportedOperation):
        await writer.read()
    await writer.abort()
