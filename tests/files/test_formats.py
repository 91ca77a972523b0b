"""A blob works as the binary file of the standard library's formats."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import pickle
import random
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from typing import BinaryIO, TypeAlias, cast

import pytest

from azstoragetorch import TransferOptions
from azstoragetorch.io import BlobIO
from tests.blobserver import BlobServer

pytestmark = pytest.mark.timeout(60)

KiB = 1024
OPTIONS = TransferOptions(range_size=64 * KiB, block_size=100_000, memory_budget=2 << 20)
DATA = random.Random(1).randbytes(700_000) + bytes(700_000)
NUMBERS = list(range(100_000))

Open: TypeAlias = Callable[[str, str], BinaryIO]


@pytest.fixture(params=["server", "azurite"])
def opened(request: pytest.FixtureRequest) -> Open:
    """Open a blob by name and mode: of the project's server, or of the emulator."""
    if request.param == "server":
        server: BlobServer = request.getfixturevalue("server")
        return lambda name, mode: cast(
            BinaryIO,
            BlobIO(server.url(name), mode, credential=False, options=OPTIONS),  # type: ignore[arg-type]
        )
    base, _, sas = request.getfixturevalue("container_url").partition("?")
    return lambda name, mode: cast(BinaryIO, BlobIO(f"{base}/{name}?{sas}", mode, options=OPTIONS))  # type: ignore[arg-type]


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_pickle(opened: Open, protocol: int) -> None:
    """Several objects in one file, large and small, one after the other."""
    values = [{"step": 3}, DATA, NUMBERS, "end"]
    with opened("state.pkl", "wb") as file:
        for value in values:
            pickle.dump(value, file, protocol=protocol)

    with opened("state.pkl", "rb") as file:
        assert [pickle.load(file) for _ in values] == values
        with pytest.raises(EOFError):
            pickle.load(file)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zipfile(opened: Open, compression: int) -> None:
    """Written as a stream, read by its directory at the end."""
    with opened("data.zip", "wb") as file, zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("large", DATA)
        for number in range(50):
            archive.writestr(f"folder/{number}.txt", str(number))

    with opened("data.zip", "rb") as file, zipfile.ZipFile(file) as archive:
        assert len(archive.namelist()) == 51
        assert archive.read("folder/31.txt") == b"31"
        with archive.open("large") as member:
            member.seek(600_000)
            assert member.read(1000) == DATA[600_000:601_000]
        assert archive.testzip() is None


@pytest.mark.parametrize("stream", [False, True], ids=["seeking", "streaming"])
@pytest.mark.parametrize("compression", ["", "gz", "xz"])
def test_tarfile(opened: Open, compression: str, stream: bool) -> None:
    """Shards of WebDataset are read as a stream, others by seeking from header to header."""
    mark = "|" if stream else ":"
    with opened("shard.tar", "wb") as file, tarfile.open(fileobj=file, mode=f"w{mark}{compression}") as archive:  # type: ignore[call-overload]
        for number in range(20):
            member = tarfile.TarInfo(f"{number}.bin")
            member.size = 30_000
            archive.addfile(member, io.BytesIO(DATA[number * 30_000 : (number + 1) * 30_000]))

    with opened("shard.tar", "rb") as file, tarfile.open(fileobj=file, mode=f"r{mark}{compression}") as archive:  # type: ignore[call-overload]
        for number, member in enumerate(archive):
            content = archive.extractfile(member)
            assert content is not None
            assert content.read() == DATA[number * 30_000 : (number + 1) * 30_000]
        assert number == 19


def test_gzip_file(opened: Open) -> None:
    """Its reader seeks back to the start when it is asked to."""
    with opened("data.gz", "wb") as file, gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1) as packed:
        packed.write(DATA)

    with opened("data.gz", "rb") as file, gzip.GzipFile(fileobj=file) as packed:
        assert packed.read() == DATA
        packed.seek(500_000)
        assert packed.read(10) == DATA[500_000:500_010]


@pytest.mark.parametrize("kind", [bz2.BZ2File, lzma.LZMAFile])
def test_other_compressed_files(opened: Open, kind: Callable[..., BinaryIO]) -> None:
    """They read through the same protocol, with `peek` and `readinto`."""
    with opened("data", "wb") as file, kind(file, "wb") as packed:
        packed.write(DATA[600_000:800_000])

    with opened("data", "rb") as file, kind(file, "rb") as packed:
        assert packed.read() == DATA[600_000:800_000]


def test_text_io_wrapper(opened: Open) -> None:
    """Text with characters of several bytes, at every border between ranges."""
    lines = [f"{number} Größe 大小 🎈\n" for number in range(20_000)]
    with io.TextIOWrapper(opened("text", "wb"), encoding="utf-8", newline="\n") as text:
        text.writelines(lines)

    with io.TextIOWrapper(opened("text", "rb"), encoding="utf-8") as text:
        assert text.readline() == lines[0]
        place = text.tell()
        assert text.readlines() == lines[1:]
        text.seek(place)
        assert text.read(10) == lines[1][:10]


def test_csv(opened: Open) -> None:
    """Tables, through the text layer."""
    rows = [[str(number), f"label, {number}", "two\nlines"] for number in range(2000)]
    with io.TextIOWrapper(opened("table.csv", "wb"), encoding="utf-8", newline="") as text:
        csv.writer(text).writerows(rows)

    with io.TextIOWrapper(opened("table.csv", "rb"), encoding="utf-8", newline="") as text:
        assert list(csv.reader(text)) == rows


def test_buffered_reader_around_a_blob(opened: Open) -> None:
    """Libraries wrap whatever they are given."""
    with opened("data", "wb") as file:
        file.write(DATA)

    with io.BufferedReader(opened("data", "rb"), 10_000) as wrapped:  # type: ignore[type-var]
        assert wrapped.peek(1)[:1] == DATA[:1]
        assert wrapped.read(650_000) == DATA[:650_000]
        wrapped.seek(-100, io.SEEK_END)
        assert wrapped.read() == DATA[-100:]


def test_buffered_writer_around_a_blob(opened: Open) -> None:
    """Closing the wrapper closes, and so commits, the blob."""
    with io.BufferedWriter(opened("data", "wb"), 10_000) as wrapped:
        for start in range(0, len(DATA), 7777):
            wrapped.write(DATA[start : start + 7777])

    with opened("data", "rb") as file:
        assert file.read() == DATA


def test_shutil_copyfileobj(opened: Open) -> None:
    """The usual way to copy from and to anything."""
    target = io.BytesIO()
    with opened("data", "wb") as file:
        shutil.copyfileobj(io.BytesIO(DATA), file)
    with opened("data", "rb") as file:
        shutil.copyfileobj(file, target)

    assert target.getvalue() == DATA


def test_text_that_fails_half_way_is_not_committed(server: BlobServer) -> None:
    """The way that README shows: the file's own ``with`` ends it before the wrapper can close, and commit, it."""
    server.put("log", b"previous")
    with pytest.raises(ZeroDivisionError), BlobIO(server.url("log"), "wb", credential=False) as file:
        text = io.TextIOWrapper(file, encoding="utf-8")
        text.write("half")
        text.write(str(1 // 0))
    assert server.get("log") == b"previous"

    with BlobIO(server.url("log"), "wb", credential=False) as file:
        text = io.TextIOWrapper(file, encoding="utf-8")
        text.write("whole")
        text.detach()
    assert server.get("log") == b"whole"
