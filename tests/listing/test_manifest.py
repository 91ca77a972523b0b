"""The file of a listing: it keeps everything but secrets, and what is not whole is not believed."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from azure.core.credentials import AzureSasCredential

from azstoragetorch import TransferOptions
from azstoragetorch.exceptions import BlobNotFoundError
from azstoragetorch.listing import BlobListing
from tests.blobserver import BlobServer
from tests.listing.samples import CONTAINER, ROWS, SAS, Row, build, filled, listing_of, same
from tests.secrets.canaries import found_in


@pytest.mark.parametrize("kind", [str, Path])
def test_manifest_in_a_file_keeps_everything(kind: Callable[[Path], str | Path], tmp_path: Path) -> None:
    """A container of a million blobs is listed once, and not by each of fifty runs."""
    rows: list[Row] = [*ROWS, ("no number", 7, "W/odd", None), ("nothing known", None, None, None)]
    listing = listing_of(rows, archived=("old/ü\n",))
    path = kind(tmp_path / "train.azlist")

    listing.save(path)

    same(BlobListing.load(path), listing)
    same(BlobListing.load(path).filter(suffix=".jpg"), listing.filter(suffix=".jpg"))
    assert os.listdir(tmp_path) == ["train.azlist"]


def test_manifest_in_a_blob_keeps_everything(server: BlobServer) -> None:
    """It lies beside the data, where every node finds it."""
    listing = build(filled(server), "train/")
    url = server.url("lists/train.azlist")

    listing.save(url, credential=False)

    same(BlobListing.load(url, credential=False), listing)
    same(BlobListing.load(url.replace("http", "HTTP", 1), credential=False), listing)


@pytest.mark.parametrize("count", [0, 1, 5000])
def test_manifest_of_any_length(count: int, tmp_path: Path) -> None:
    """No blob at all is a listing, too."""
    listing = listing_of([(f"{i:05d}", i, f'"0x{i + 1:X}"', 1) for i in range(count)])

    listing.save(tmp_path / "list")

    same(BlobListing.load(tmp_path / "list"), listing)


def test_save_replaces_and_leaves_readers_what_they_have(tmp_path: Path) -> None:
    """A running job has the file mapped: written in place, its names would change or the process die."""
    path, link = tmp_path / "list", tmp_path / "link"
    link.symlink_to(path)
    old, new = listing_of(ROWS), listing_of(ROWS[:1])
    old.save(path)
    reader = BlobListing.load(path)

    new.save(link)

    assert list(reader) == list(old)
    same(BlobListing.load(path), new)
    assert link.is_symlink()


def test_saved_file_has_the_rights_of_any_new_file(tmp_path: Path) -> None:
    """A colleague is to read it, as far as the umask lets him."""
    (tmp_path / "ordinary").touch()
    listing_of(ROWS).save(tmp_path / "list")

    assert stat.S_IMODE((tmp_path / "list").stat().st_mode) == stat.S_IMODE((tmp_path / "ordinary").stat().st_mode)


def test_failed_save_leaves_nothing_but_the_old_file(tmp_path: Path) -> None:
    """A name that is a folder, a disk that is full: no fragments are left."""
    (tmp_path / "folder").mkdir()

    with pytest.raises(OSError, match="folder"):
        listing_of(ROWS).save(tmp_path / "folder")

    assert os.listdir(tmp_path) == ["folder"]


def test_manifest_holds_no_secret(tmp_path: Path) -> None:
    """Lists are shared, and committed to repositories."""
    listing = listing_of(ROWS, f"{CONTAINER}?{SAS}")

    listing.save(tmp_path / "list")

    assert found_in([(tmp_path / "list").read_bytes().decode("latin-1")]) == []
    assert "sig=" not in (tmp_path / "list").read_bytes().decode("latin-1")


def test_load_takes_the_sas_of_the_same_container(server: BlobServer, tmp_path: Path) -> None:
    """The SAS that reads the blobs is not in the file, so it is given along."""
    listing = build(filled(server))
    listing.save(tmp_path / "list")

    loaded = BlobListing.load(tmp_path / "list", container_url=f"{server.container_url}/?{SAS}")

    same(loaded, listing)
    assert loaded._container.sas == SAS
    assert loaded.filter(suffix=".jpg")._container.sas == SAS


@pytest.mark.parametrize(
    "other", [f"{CONTAINER}2", CONTAINER.replace("https", "http"), CONTAINER.replace("acc", "bcc")]
)
def test_load_refuses_another_container(other: str, tmp_path: Path) -> None:
    """Its blobs would not be found, or be others of the same name; the message shows no SAS."""
    listing_of(ROWS).save(tmp_path / "list")

    with pytest.raises(
        ValueError, match=re.escape(f"the manifest lists {CONTAINER}, but container_url is {other}")
    ) as e:
        BlobListing.load(tmp_path / "list", container_url=f"{other}?{SAS}")
    assert found_in([str(e.value)]) == []


SAVED = ("file", "blob")


def loads(place: str, data: bytes | bytearray, server: BlobServer, tmp_path: Path) -> BlobListing:
    if place == "file":
        path = tmp_path / "list"
        path.write_bytes(data)
        return BlobListing.load(path)
    server.put("list", bytes(data))
    return BlobListing.load(server.url("list"), credential=False)


def saved(tmp_path: Path, rows: list[Row] = ROWS) -> bytes:
    listing_of(rows, archived=("old",)).save(tmp_path / "saved")
    return (tmp_path / "saved").read_bytes()


@pytest.mark.parametrize("place", SAVED)
@pytest.mark.parametrize(
    "foreign",
    [b"", b"{}", b"a.jpg\nb.jpg\n", b"\x89PNG\r\n\x1a\n" + bytes(100), bytes(100), b"PK\x03\x04" + bytes(5000)],
    ids=["empty", "json", "names", "png", "zeros", "zip"],
)
def test_what_is_no_manifest_is_refused(place: str, foreign: bytes, server: BlobServer, tmp_path: Path) -> None:
    """The wrong file of the folder; the message names it and says what would be right."""
    with pytest.raises(ValueError, match=r"list is not a usable manifest of a listing: .*BlobListing\.save"):
        loads(place, foreign, server, tmp_path)


@pytest.mark.parametrize("place", SAVED)
def test_manifest_that_is_cut_anywhere_is_refused(place: str, server: BlobServer, tmp_path: Path) -> None:
    """A copy that was interrupted must not become a smaller data set."""
    data = saved(tmp_path)

    for length in (1, 7, 8, 20, 31, 32, 33, 100, len(data) // 2, len(data) - 100, len(data) - 1):
        with pytest.raises(ValueError, match=r"list is not a usable manifest .*: its end is missing"):
            loads(place, data[:length], server, tmp_path)


@pytest.mark.parametrize("place", SAVED)
def test_manifest_with_more_behind_it_is_refused(place: str, server: BlobServer, tmp_path: Path) -> None:
    """Two files joined are not one data set."""
    with pytest.raises(ValueError, match="3 bytes follow its end"):
        loads(place, saved(tmp_path) + b"abc", server, tmp_path)


def test_every_damaged_byte_is_found(server: BlobServer, tmp_path: Path) -> None:
    """A bit that fell over in a name is a blob that is not found on the third day."""
    data = saved(tmp_path)

    for i in range(len(data)):
        damaged = bytearray(data)
        damaged[i] ^= 0x10
        with pytest.raises(ValueError, match="list is not a usable manifest of a listing: "):
            loads("file", damaged, server, tmp_path)


@pytest.mark.parametrize("place", SAVED)
def test_manifest_of_a_newer_version_says_so(place: str, server: BlobServer, tmp_path: Path) -> None:
    """The remedy is an update of this package and not another copy of the file."""
    data = bytearray(saved(tmp_path))
    data[8] = 2

    with pytest.raises(ValueError, match="it is of version 2, and this azstoragetorch reads version 1"):
        loads(place, data, server, tmp_path)


def test_manifest_that_is_not_there_is_not_found(server: BlobServer, tmp_path: Path) -> None:
    """The errors of files, here and there."""
    with pytest.raises(FileNotFoundError, match="missing"):
        BlobListing.load(tmp_path / "missing")
    with pytest.raises(BlobNotFoundError, match="missing"):
        BlobListing.load(server.url("missing"), credential=False)


def test_load_of_a_blob_uses_credential_and_options(server: BlobServer) -> None:
    """The manifest may lie in an account of its own."""
    server.put("other", b"")
    listing_of(ROWS).save(server.url("list"), credential=False)
    server.require_sas = {"sv": "2021", "sig": "abc"}
    credential = AzureSasCredential("sv=2021&sig=abc")

    same(BlobListing.load(server.url("list"), credential=credential, options=TransferOptions()), listing_of(ROWS))
    listing_of(ROWS[:2]).save(server.url("list"), credential=credential, options=TransferOptions())
    same(BlobListing.load(f"{server.url('list')}?sv=2021&sig=abc"), listing_of(ROWS[:2]))
