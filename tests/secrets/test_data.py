"""Listings, manifests and datasets give no secret away: they are printed, logged, saved and sent to other processes."""

from __future__ import annotations

import asyncio
import logging
import pickle
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from azstoragetorch import TransferOptions
from azstoragetorch._data.access import Access as DataAccess
from azstoragetorch._data.loading import Loading, checked_loading
from azstoragetorch._data.source import LazySource, ListingSource, UrlSource
from azstoragetorch._values.url import ContainerUrl
from azstoragetorch.exceptions import AZStorageTorchError
from azstoragetorch.listing import BlobListing
from tests.blobserver import Action, BlobServer, CutBody, Drop, Garbage, Hang, Redirect, ReplaceBody, Status, on
from tests.faults.play import Seen, watch
from tests.secrets.accesses import ACCESSES, Access, given_away, in_url, key, token
from tests.secrets.canaries import SIGNATURE, TOKEN, found_in, texts_of

EACH_ACCESS = pytest.mark.parametrize("access", ACCESSES)
BRIEF = TransferOptions(deadline=0.5, idle_timeout=0.3, connect_timeout=0.3)
NAMES = [f"train/{number:02}.bin" for number in range(3)]

FAULTS: dict[str, Action] = {
    "403": Status(403, "AuthenticationFailed"),
    "404": Status(404, "ContainerNotFound"),
    "400": Status(400, "InvalidInput"),
    "503": Status(503, "ServerBusy"),
    "echoing": Status(400, "InvalidUri", body=f"The URI ?sig={SIGNATURE} is wrong, Bearer {TOKEN}".encode()),
    "reset": Drop("reset"),
    "garbage": Garbage(),
    "cut": CutBody(0),
    "silence": Hang(),
    "no list": ReplaceBody(f"<Error>?sig={SIGNATURE}</Error>".encode()),
    "redirect": Redirect("http://127.0.0.1:1/elsewhere"),
}


@pytest.fixture
def seen() -> Iterator[Seen]:
    """What is logged at DEBUG, by anybody, and what is warned of; nothing of it may hold a secret."""
    with watch() as seen:
        yield seen
    assert not found_in(seen.texts())


@pytest.fixture(autouse=True)
def blobs(server: BlobServer) -> None:
    for name in NAMES:
        server.put(name, name.encode())


def shown(*things: object) -> list[str]:
    """Return what these say of themselves."""
    return [text for thing in things for text in (repr(thing), str(thing))]


def loading(credential: Any, on_error: Any = "raise", options: TransferOptions = BRIEF) -> Loading:
    """What a dataset is inside: the classes around it need torch."""
    return checked_loading(DataAccess.of(credential, options), None, 4, on_error)


@EACH_ACCESS
def test_listing_and_manifest(server: BlobServer, seen: Seen, access: Access, tmp_path: Path) -> None:
    """A manifest is shared, and a listing is printed in every notebook."""
    url, credential = access(server.container_url)
    server.fault(on(), Status(503, "ServerBusy"))
    listing = BlobListing.build(url, credential=credential)
    listing.save(tmp_path / "list")
    listing.save(*access(server.url("list"))[:1], credential=credential)
    loaded = BlobListing.load(access(server.url("list"))[0], credential=credential, container_url=url)

    assert not found_in(shown(listing, loaded, listing[0], listing.filter(suffix=".bin"), listing.fingerprint))
    kept = [(tmp_path / "list").read_bytes().decode("latin-1"), server.get("list").decode("latin-1")]
    assert not found_in(kept)
    assert "sig" not in "".join(kept)
    # It goes to workers with the SAS that its URL had, and with nothing that was only used to make it.
    assert bool(found_in([pickle.dumps(listing).decode("latin-1")])) == (access is in_url)
    assert not given_away(seen.texts(), server, access)


@pytest.mark.parametrize("access", [in_url, key, token])
@pytest.mark.parametrize("fault", FAULTS)
def test_listing_that_fails(server: BlobServer, seen: Seen, access: Access, fault: str) -> None:
    """Listings have an error path of their own, and read XML that somebody else wrote."""
    server.fault(on(), FAULTS[fault], times=None)
    url, credential = access(server.container_url)
    builds: list[Callable[[], object]] = [
        lambda: asyncio.run(BlobListing.abuild(url, credential=credential, options=BRIEF)),
        lambda: BlobListing.load(access(server.url("list"))[0], credential=credential, options=BRIEF),
    ]
    for build in builds:
        with pytest.raises((AZStorageTorchError, ValueError)) as caught:
            build()
        assert not found_in(texts_of(caught.value))
        logging.getLogger("application").error("listing failed", exc_info=caught.value)
    assert not given_away(seen.texts(), server, access)


@EACH_ACCESS
@pytest.mark.parametrize("fault", [None, "403", "503", "cut", "echoing"])
@pytest.mark.parametrize("on_error", ["raise", "skip"])
def test_samples(server: BlobServer, seen: Seen, access: Access, fault: str | None, on_error: str) -> None:
    """A sample is a batch of the user's, an error of one is a line in the log of a training job."""
    url, credential = access(server.container_url)
    listing = BlobListing.build(url, credential=credential)
    made = loading(credential, on_error)
    urls = UrlSource([access(server.url(name))[0] for name in NAMES], made.access)
    source = ListingSource(listing, made.access, allow_modified=False)
    lazy = LazySource(ContainerUrl.parse(url), None, made.access, allow_modified=False)
    things: list[object] = [made, made.access, made.access.stats, urls, urls.name, source, source.name, lazy, lazy.name]
    if fault is not None:
        server.fault(on("GET", ""), FAULTS[fault], times=None)
    for origin in (urls, source):
        blobs = [origin.blob(number) for number in range(len(NAMES))]
        things += blobs
        with closing(made.samples(iter(blobs))) as samples:
            if fault is None or on_error == "skip":
                things += samples
                continue
            with pytest.raises(AZStorageTorchError) as caught:
                next(samples)
        assert not found_in(texts_of(caught.value))
        logging.getLogger("application").error("reading failed", exc_info=caught.value)
    assert not found_in(shown(*things))
    assert not given_away(seen.texts(), server, access)


def test_error_of_a_transform_is_logged_without_the_url_it_was_given(server: BlobServer, seen: Seen) -> None:
    """`on_error="skip"` logs errors of any library, and some show the whole URL."""
    url = in_url(server.url(NAMES[0]))[0]

    def transform(blob: Any) -> Any:
        raise OSError(f"cannot open {url} with Bearer {TOKEN}")

    made = checked_loading(DataAccess.of(None, BRIEF), transform, 4, "skip")
    with closing(made.samples(iter([UrlSource([url], made.access).blob(0)]))) as samples:
        assert list(samples) == []
    assert any("cannot open" in line for line in seen.lines)


@pytest.mark.parametrize("place", ["mode", "credential", "options"])
def test_arguments_in_the_wrong_place(server: BlobServer, place: str) -> None:
    """`BlobIO("rb", url)` is an easy mistake, and its message shows what was given."""
    from azstoragetorch.io import BlobIO

    url: Any = in_url(server.url("a"))[0]
    arguments: dict[str, Any] = {"blob_url": url, "mode": "rb", "credential": None, "options": None, place: url}
    with pytest.raises((TypeError, ValueError)) as caught:
        BlobIO(**arguments)
    assert not found_in(texts_of(caught.value))
