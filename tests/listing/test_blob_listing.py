"""The public listing: built once, chosen from, kept in a file, and handed to workers."""

from __future__ import annotations

import asyncio
import pickle
import re
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from azstoragetorch._values.url import ContainerUrl
from azstoragetorch.exceptions import ContainerNotFoundError
from azstoragetorch.io import BlobIO
from azstoragetorch.listing import BlobEntry, BlobListing
from tests.blobserver import BlobServer
from tests.bridge.script import output_of
from tests.listing.samples import CONTAINER, NAMES, ROWS, SAS, Row, build, filled, listing_of, names, same
from tests.secrets.canaries import TOKEN, found_in


def test_listing_has_what_the_container_has(server: BlobServer) -> None:
    """Names as people write them, and what the service says about each."""
    listing = build(filled(server))

    assert names(listing) == sorted(NAMES)
    assert len(listing) == len(NAMES)
    assert listing.size == sum(len(name.encode()) for name in NAMES)
    assert (listing.container_url, listing.prefix, listing.archived) == (server.container_url, None, ())
    for i, entry in enumerate(listing):
        version = server.version(entry.name)
        assert isinstance(entry, BlobEntry)
        assert entry == listing[i] == listing[i - len(listing)]
        assert (entry.size, entry.etag) == (len(entry.name.encode()), version.etag)
        assert entry.last_modified is not None
        assert entry.last_modified.utcoffset() is not None
        assert abs(entry.last_modified.timestamp() - version.modified) < 1


def test_prefix_chooses_by_the_start_of_the_name(server: BlobServer) -> None:
    """The service does it, so that a million others are not even sent."""
    filled(server)

    listing = build(server, "train/")

    assert names(listing) == sorted(name for name in NAMES if name.startswith("train/"))
    assert listing.prefix == "train/"
    assert build(server, "").prefix is None
    assert len(build(server, "nothing")) == 0


async def test_abuild_lists_on_the_running_loop(server: BlobServer) -> None:
    """A service built on asyncio gets by without our thread."""
    filled(server)

    listing = await BlobListing.abuild(server.container_url, prefix="train/", credential=False)

    assert names(listing) == sorted(name for name in NAMES if name.startswith("train/"))
    assert listing.fingerprint == (await asyncio.to_thread(build, server, "train/")).fingerprint


def test_container_that_is_not_there_says_so(server: BlobServer) -> None:
    """A typing error in the name of the container."""
    with pytest.raises(ContainerNotFoundError, match="nowhere"):
        BlobListing.build(f"{server.account_url}/nowhere", credential=False)


def test_archived_blobs_are_left_out_and_reported(server: BlobServer, caplog: pytest.LogCaptureFixture) -> None:
    """Reading one is an error; silently training on fewer samples is worse."""
    for name in ("old/1", "old/2"):
        filled(server).put(name, b"cold", tier="Archive")

    listing = build(server)

    assert names(listing) == sorted(NAMES)
    assert listing.archived == ("old/1", "old/2")
    [record] = [record for record in caplog.records if record.name == "azstoragetorch.listing"]
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith(f"2 blobs of {server.container_url} are in the archive tier and are left out")
    assert "the first is 'old/1'" in record.getMessage()


def test_nothing_is_logged_where_nothing_is_archived(server: BlobServer, caplog: pytest.LogCaptureFixture) -> None:
    """A warning that always comes is not read."""
    build(filled(server))

    assert [record for record in caplog.records if record.name == "azstoragetorch.listing"] == []


def test_listing_of_nothing_says_what_was_looked_for(server: BlobServer, caplog: pytest.LogCaptureFixture) -> None:
    """A training loop over no samples ends at once and without an error; a mistyped prefix must be seen."""
    filled(server)

    assert len(build(server, "/train/")) == 0

    [record] = caplog.records
    assert record.levelname == "WARNING"
    wanted = f"{server.container_url} has no blob whose name starts with '/train/'; names do not start with a slash"
    assert record.getMessage() == wanted


def test_glob_of_another_type_is_refused() -> None:
    """A list of patterns chose nothing, without a word."""
    with pytest.raises(TypeError, match="glob must be a str, not list"):
        listing_of(ROWS).filter(glob=["*.bin"])  # type: ignore[arg-type]


def test_placeholders_of_directories_are_no_samples(server: BlobServer) -> None:
    """Accounts with a hierarchical namespace list them as empty blobs, which no decoder of images takes."""
    filled(server).put_directory("train")

    assert names(build(server)) == sorted(NAMES)


def test_listing_of_many_pages_is_sorted_and_complete(server: BlobServer) -> None:
    """12,001 blobs are three pages, and several ranges where the service can start in the middle."""
    server.put_listing(12_001, "train/")

    listing = build(server)

    assert len(listing) == 12_001
    assert names(listing) == sorted(set(names(listing)))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"container_url": f"{CONTAINER}/blob"}, ValueError, "blob URL"),
        ({"container_url": 5}, TypeError, "URL must be a str"),
        ({"prefix": 5}, TypeError, "prefix must be a str or None, not int"),
        ({"credential": "secret"}, TypeError, "credential must be"),
        ({"options": 5}, TypeError, "options must be TransferOptions or None, not int"),
        ({"container_url": "http://example.com/container"}, ValueError, "plain http"),
    ],
)
async def test_wrong_arguments_are_refused_before_any_request(
    arguments: dict[str, object], error: type[Exception], words: str
) -> None:
    """Ten minutes into a job is late to be told of a typing error."""
    given: dict[str, object] = {"container_url": CONTAINER, **arguments}
    for make in (BlobListing.build, BlobListing.abuild):
        with pytest.raises(error, match=words):
            await make(**given)  # type: ignore[arg-type, misc]


def test_listing_behaves_as_a_sequence() -> None:
    """Samplers and `random.sample` take one."""
    listing = listing_of(ROWS)

    assert names(listing[1:4]) == names(listing)[1:4]
    assert names(listing[::-1]) == names(listing)[::-1]
    assert listing[1:4].container_url == listing.container_url
    assert list(reversed(listing)) == list(listing)[::-1]
    assert listing[2] in listing
    assert listing.index(listing[3]) == 3
    with pytest.raises(IndexError, match="6 blobs"):
        listing[6]
    with pytest.raises(TypeError):
        listing["name"]  # type: ignore[call-overload]


def test_repr_names_container_and_count_and_no_secret() -> None:
    """It is printed in every notebook."""
    listing = listing_of(ROWS, f"{CONTAINER}?{SAS}")

    assert repr(listing) == f"BlobListing('{CONTAINER}', 6 blobs)"
    assert found_in([repr(listing), str(listing), listing.container_url]) == []


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, NAMES),
        ({"suffix": ".jpg"}, [NAMES[2], NAMES[4]]),
        ({"suffix": (".jpg", ".png")}, [NAMES[2], NAMES[3], NAMES[4]]),
        ({"glob": "train/*.jpg"}, [NAMES[2], NAMES[4]]),
        ({"glob": "TRAIN/*"}, []),
        ({"glob": "?"}, ["z"]),
        ({"predicate": lambda entry: entry.size >= 30}, NAMES[3:]),
        ({"suffix": ".jpg", "glob": "*deep*"}, [NAMES[2]]),
        ({"suffix": ".jpg", "predicate": lambda entry: "deep" not in entry.name}, [NAMES[4]]),
        ({"suffix": ()}, []),
        ({"suffix": ""}, NAMES),
    ],
)
def test_filter_keeps_what_meets_all_conditions(conditions: dict[str, object], expected: list[str]) -> None:
    """A container holds labels and notes beside the samples."""
    listing = listing_of(ROWS, archived=("gone.jpg",))

    chosen = listing.filter(**conditions)  # type: ignore[arg-type]

    assert names(chosen) == expected
    assert [entry for entry in listing if entry.name in expected] == list(chosen)
    assert (chosen.container_url, chosen.prefix, chosen.archived) == (listing.container_url, None, ("gone.jpg",))
    assert names(listing) == NAMES


def test_glob_is_that_of_fnmatch() -> None:
    """People know those rules; `*` crosses slashes in them."""
    listing = listing_of(ROWS)

    for glob in ("*", "train/*", "*/*", "[ab]*", "[!a]*", "*.[jJ][pP][gG]", "train/?.png", "tra[i]n/*\n*", ""):
        assert names(listing.filter(glob=glob)) == [name for name in NAMES if fnmatchcase(name, glob)]


@pytest.mark.parametrize("suffix", [[".jpg"], 5, b".jpg"])
def test_suffix_of_another_type_is_refused(suffix: object) -> None:
    """Also for an empty listing, where nothing would notice."""
    with pytest.raises(TypeError, match="suffix must be a str or a tuple"):
        listing_of([]).filter(suffix=suffix)  # type: ignore[arg-type]


def test_fingerprint_is_of_the_content(server: BlobServer) -> None:
    """A run resumes where it stopped only if the samples are the same ones."""
    first = build(filled(server)).fingerprint

    assert build(server).fingerprint == first
    assert build(server, "train/").fingerprint == build(server).filter(glob="train/*").fingerprint != first
    server.put("a.txt", b"a.txt")
    assert build(server).fingerprint != first, "the same content in a new version"


@pytest.mark.parametrize(
    "changed",
    [
        [*ROWS[:-1], ("y", *ROWS[-1][1:])],
        [*ROWS[:-1], (ROWS[-1][0], 1, *ROWS[-1][2:])],
        [*ROWS[:-1], (*ROWS[-1][:2], '"0x8E"', ROWS[-1][3])],
        [*ROWS[:-1], (*ROWS[-1][:2], None, ROWS[-1][3])],
        ROWS[::-1],
        ROWS[:-1],
        [*ROWS, ("zz", 0, '"0x1"', 1)],
    ],
    ids=["name", "size", "etag", "no etag", "order", "fewer", "more"],
)
def test_fingerprint_changes_with_everything_that_matters(changed: list[Row]) -> None:
    """Each of these is another data set."""
    assert listing_of(changed).fingerprint != listing_of(ROWS).fingerprint


def test_fingerprint_knows_the_container_and_not_the_sas() -> None:
    """A SAS is renewed every week, and the data set stays the same."""
    listing = listing_of(ROWS)

    assert listing_of(ROWS, f"{CONTAINER}?{SAS}").fingerprint == listing.fingerprint
    assert listing_of(ROWS, f"{CONTAINER}2").fingerprint != listing.fingerprint
    assert re.fullmatch("[0-9a-f]{32}", listing.fingerprint)


def test_pickle_is_the_same_listing(tmp_path: Path) -> None:
    """Datasets hold one, and workers get them pickled; no token could be in it, the credential is not kept."""
    listing = listing_of(ROWS, f"{CONTAINER}?{SAS}", archived=("old",))
    listing.save(tmp_path / "list")

    same(pickle.loads(pickle.dumps(listing)), listing)
    same(pickle.loads(pickle.dumps(BlobListing.load(tmp_path / "list"))), listing)
    assert pickle.loads(pickle.dumps(listing))._container.sas == SAS
    assert TOKEN.encode() not in pickle.dumps(listing)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_workers_get_a_loaded_listing_without_its_content(method: str, tmp_path: Path) -> None:
    """The file is mapped by all, also when it was replaced since."""
    rows: list[Row] = [(f"{i:06d}", i, f'"0x{i + 1:X}"', 1) for i in range(50_000)]
    listing_of(rows).save(tmp_path / "list")

    lines = output_of(
        f"""
        import multiprocessing, os
        from azstoragetorch.listing import BlobListing

        def work(listing, fingerprint):
            assert listing.fingerprint == fingerprint
            assert listing._table._memory.view.readonly
            assert listing[49_999].name == "049999"

        if __name__ == "__main__":
            listing = BlobListing.load({str(tmp_path / "list")!r})
            os.unlink({str(tmp_path / "list")!r})
            context = multiprocessing.get_context({method!r})
            worker = context.Process(target=work, args=(listing, listing.fingerprint))
            worker.start()
            worker.join()
            print(worker.exitcode)
        """,
        tmp_path,
    )

    assert lines == ["0"]


def test_progress_bar_counts_the_blobs(server: BlobServer, capsys: pytest.CaptureFixture[str]) -> None:
    """A million blobs take a while."""
    filled(server)

    BlobListing.build(server.container_url, credential=False, progress=True)

    shown = capsys.readouterr()
    assert "listing" in shown.err
    assert f"{len(NAMES)}" in shown.err
    assert shown.out == ""


def test_without_progress_nothing_is_shown(server: BlobServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Eight ranks write into one log."""
    build(filled(server))

    assert capsys.readouterr() == ("", "")


def test_progress_bar_starts_no_thread_and_no_process(server: BlobServer, tmp_path: Path) -> None:
    """tqdm's own monitor would be a second thread in a process that is about to fork."""
    lines = output_of(
        f"""
        import contextlib, io, multiprocessing, os, pathlib, threading
        multiprocessing.set_start_method("spawn")
        from azstoragetorch.listing import BlobListing

        with contextlib.redirect_stderr(io.StringIO()) as shown:
            listing = BlobListing.build({server.container_url!r}, credential=False, progress=True)
        print(bool(shown.getvalue()), *{{thread.name.partition("-")[0] for thread in threading.enumerate()[1:]}})
        print(pathlib.Path(f"/proc/self/task/{{os.getpid()}}/children").read_text())
        """,
        tmp_path,
    )

    assert lines == ["True azstoragetorch", ""]


def test_progress_without_tqdm_names_the_extra(server: BlobServer, tmp_path: Path) -> None:
    """The error says what to install, before anything is listed."""
    lines = output_of(
        f"""
        import sys
        sys.modules["tqdm"] = None
        from azstoragetorch.listing import BlobListing
        try:
            BlobListing.build({server.container_url!r}, credential=False, progress=True)
        except ImportError as error:
            print(error)
        """,
        tmp_path,
    )

    assert lines == ["progress=True needs an extra: pip install 'azstoragetorch[progress]'"]
    assert not server.requests()


def test_listing_imports_without_torch_and_tqdm() -> None:
    """A tool that lists and filters has no use for 200 MB of torch."""
    script = (
        "import sys; sys.modules['torch'] = sys.modules['tqdm'] = None; import azstoragetorch.listing, threading;"
        "print(threading.active_count())"
    )
    ended = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)

    assert (ended.stdout, ended.stderr) == ("1\n", "")


def test_public_members_are_documented() -> None:
    """``help(BlobListing)`` is the reference."""
    bare = [
        name
        for name, value in vars(BlobListing).items()
        if not name.startswith("_") and not (getattr(value, "__doc__", None) or "").strip()
    ]

    assert bare == []


def test_azurite_lists_what_was_written(container_url: str) -> None:
    """The emulator answers as the service does, with a SAS in the URL, which stays inside and out of sight."""
    container = ContainerUrl.parse(container_url)
    url = container.blob("dir/a b.bin")
    with BlobIO(f"{url.url}?{url.sas}", "wb") as file:
        file.write(b"content")

    listing = BlobListing.build(container_url)

    assert [(entry.name, entry.size) for entry in listing] == [("dir/a b.bin", 7)]
    assert listing.container_url == container.url
    assert listing._container.sas == container.sas
