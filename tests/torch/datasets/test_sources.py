"""What datasets are made of: containers, listings and URLs; how often they are listed, how many blobs they may have."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from torch.utils.data import DataLoader

from azstoragetorch.datasets import BlobDataset, IterableBlobDataset
from azstoragetorch.listing import BlobListing
from tests.blobserver import BlobServer, synthetic_bytes
from tests.secrets.canaries import SIGNATURE, TOKEN, found_in
from tests.torch.datasets.child import checked, content_of, name_only, names
from tests.torch.datasets.program import flat, put, results

pytestmark = pytest.mark.timeout(120)

SAS = "sv=2024-11-04&se=2199-01-01T00%3A00%3A00Z&sr=c&sp=rl&sig=canary%2Fsignature%2Bof%3Dthe%2Btest%3D%3D"
Face = Any
FACES = pytest.mark.parametrize("face", [BlobDataset, IterableBlobDataset])


def listings(server: BlobServer) -> int:
    return len(server.requests("GET", "list"))


@pytest.mark.parametrize("kind", ["map", "iterable"])
def test_container_is_listed_once(kind: str, server: BlobServer, tmp_path: Path) -> None:
    """Not by every worker in every epoch: on a million blobs that is minutes, and bills, and samples that differ."""
    put(server, *names(23))
    loaders = [
        {"workers": 2},
        {"workers": 2, "persistent": True},
        {"workers": 2, "method": "forkserver"},
        {},
    ]
    steps = [["len"], ["read"], ["read"], ["len"]]
    runs = [{"dataset": {"kind": kind}, "loader": loader, "steps": steps} for loader in loaders]

    found = results(server, tmp_path, *runs)

    assert all(sorted(flat(run[epoch])) == names(23) for run in found for epoch in (1, 2))
    assert listings(server) == len(runs)  # one a dataset
    assert not server.requests("HEAD")
    server.wait_idle()
    content = [record for record in server.requests("GET") if record.comp == ""]
    assert len(content) == len(runs) * 2 * 23  # one a sample; that of an empty blob finds out whether it still is


def test_lazy_dataset_lists_while_it_reads(server: BlobServer, tmp_path: Path) -> None:
    """0.2.0's way, by choice: every worker, every epoch; nothing is asked for before."""
    put(server, *names(23))
    dataset = {"kind": "iterable", "lazy": True}

    made, one, two = results(
        server,
        tmp_path,
        {"dataset": dataset, "steps": [["len"], ["set_epoch", 1], ["load_dataset_state", {}]]},
        {"dataset": dataset, "loader": {}, "steps": [["read"], ["read"]]},
        {"dataset": dataset, "loader": {"workers": 2, "stateful": True}, "steps": [["read"], ["read"]]},
    )

    assert [made[0]["error"][0], made[2]["error"][0]] == ["TypeError", "ValueError"]
    assert [flat(epoch) for epoch in one] == [names(23)] * 2
    assert [sorted(flat(epoch)) for epoch in two] == [names(23)] * 2
    assert listings(server) == 2 + 2 * 2


@FACES
@pytest.mark.parametrize("count", [0, 1, 2, 5001])
def test_any_number_of_blobs(face: Face, count: int, server: BlobServer) -> None:
    """None, fewer than a batch, one more than a page of the listing."""
    put(server, *names(count))
    server.put("other/blob", b"not of the prefix")

    dataset = face.from_container_url(
        server.container_url, prefix="train/", credential=False, transform=name_only, prefetch=0
    )

    assert len(dataset) == count
    assert list(dataset) == names(count)
    loader: Any = DataLoader(dataset, batch_size=1000, collate_fn=list)
    assert flat(list(loader)) == names(count)
    if count <= 2:
        read = face.from_container_url(server.container_url, prefix="train/", credential=False)
        assert [checked(sample) for sample in read] == names(count)


@pytest.fixture
def many(server: BlobServer) -> list[str]:
    """20,000 blobs of one byte."""
    listed = names(20_000, "many")
    for name in listed:
        server.put(name, name[-5:-4].encode())
    return listed


def test_twenty_thousand_blobs(many: list[str], server: BlobServer, tmp_path: Path) -> None:
    """All of them by name, from two workers, and the content of some, at random."""
    listing = {"kind": "iterable", "prefix": "many/", "transform": "name_only", "prefetch": 0}
    mapped = {**listing, "kind": "map"}
    loader = {"workers": 2, "batch_size": 500}
    steps = [["len"], ["read"], ["read"]]

    plain, shuffled, by_index = results(
        server,
        tmp_path,
        {"dataset": listing, "loader": loader, "steps": steps},
        {"dataset": {**listing, "shuffle": True, "batch_size": 500}, "loader": loader, "steps": steps},
        {"dataset": mapped, "loader": loader, "steps": steps},
    )

    for length, *epochs in (plain, shuffled, by_index):
        assert length == 20_000
        assert [sorted(flat(epoch)) for epoch in epochs] == [many, many]
    begun = [one for one in server.requests("GET", "list") if not one.query.keys() & {"marker", "startFrom"}]
    assert len(begun) == 3, "one listing each; how many requests follow depends on how quickly they are answered"
    dataset = BlobDataset.from_container_url(server.container_url, prefix="many/", credential=False)
    chosen = list(range(0, 20_000, 1999))
    assert [sample["data"] for sample in dataset.__getitems__(chosen)] == [many[i][-5:-4].encode() for i in chosen]


class Credential:
    """A token credential as `azure.identity` has them."""

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return AccessToken(TOKEN, int(time.time()) + 3600)


@FACES
def test_pickle_of_100_000_blobs_is_small_and_holds_no_token(face: Face, server: BlobServer) -> None:
    """It is sent to every spawned worker, and kept by everything that caches datasets."""
    server.put_listing(100_000)
    server.require_token = TOKEN
    dataset = face.from_container_url(server.container_url, credential=Credential(), transform=name_only, prefetch=0)

    pickled = pickle.dumps(dataset)

    assert len(dataset) == 100_000
    assert len(pickled) < 20_000_000
    assert found_in([pickled.decode("latin-1")]) == []
    again = pickle.loads(pickled)
    assert len(again) == 100_000
    assert next(iter(again)) == next(iter(dataset))


@FACES
def test_generator_of_urls_is_read_once_and_serves_all_epochs(face: Face, server: BlobServer) -> None:
    """In 0.2.0 the second epoch was empty, and workers got nothing to unpickle."""
    listed = names(5)
    put(server, *listed)
    taken = []

    def urls() -> Iterator[str]:
        for name in listed:
            taken.append(name)
            yield server.url(name)

    dataset = face.from_blob_urls(urls(), credential=False)

    assert taken == listed
    assert len(dataset) == 5
    assert [[checked(sample) for sample in dataset] for _ in range(2)] == [listed] * 2
    again = pickle.loads(pickle.dumps(dataset))
    assert [checked(sample) for sample in again] == listed
    assert listings(server) == 0


@FACES
def test_one_url_is_one_blob(face: Face, server: BlobServer) -> None:
    """And not one for each of its letters."""
    put(server, "train/one.bin")
    dataset = face.from_blob_urls(server.url("train/one.bin"), credential=False)
    assert len(dataset) == 1
    assert [checked(sample) for sample in dataset] == ["train/one.bin"]
    nothing = face.from_blob_urls([], credential=False)
    assert len(nothing) == 0
    assert list(nothing) == []
    assert list(DataLoader(nothing)) == []


@FACES
def test_urls_keep_their_order_and_their_repetitions(face: Face, server: BlobServer) -> None:
    """Users weight samples by repeating them."""
    put(server, "b", "a")
    order = ["b", "a", "b", "b", "a"]
    dataset = face.from_blob_urls([server.url(name) for name in order], credential=False)
    assert [checked(sample) for sample in dataset] == order


@FACES
def test_urls_of_several_containers_and_accounts(face: Face, server: BlobServer) -> None:
    """Each with its own SAS; a request never carries that of another."""
    with BlobServer(container="elsewhere") as other:
        server.store.create_container("more")
        server.require_sas = {"sig": SIGNATURE}
        other.require_sas = {"sig": "another"}
        plain = f"{server.account_url}/more/in-more.bin"
        urls = []
        for number in range(4):
            put(server, f"{number}.bin")
            other.put(f"{number}.bin", content_of(f"{number}.bin"))
            server.put(plain, content_of("in-more.bin"))
            urls += [
                f"{server.url(f'{number}.bin')}?{SAS}",
                f"{other.url(f'{number}.bin')}?sv=2024-11-04&sp=r&sig=another",
                f"{plain}?{SAS}",
            ]

        dataset = face.from_blob_urls(urls)
        samples = list(dataset)

        assert [checked(sample) for sample in samples] == [
            name for number in range(4) for name in (f"{number}.bin", f"{number}.bin", "in-more.bin")
        ]
        assert [sample["url"] for sample in samples] == [url.partition("?")[0] for url in urls]
        assert not other.errors
        assert all(record.query["sig"] == "another" for record in other.requests())
        assert all(record.query["sig"] == SIGNATURE for record in server.requests())


@FACES
def test_signature_of_a_container_url_is_used_and_never_shown(face: Face, server: BlobServer, caplog: Any) -> None:
    """It lists and it reads; samples, blobs and logs have the bare URL."""
    put(server, *names(3))
    server.require_sas = {"sig": SIGNATURE}
    caplog.set_level("DEBUG")

    def described(blob: Any) -> list[str]:
        texts = [blob.url, blob.blob_name, blob.container_name, blob.etag]
        return [*texts, repr(blob), str(blob), repr(blob.last_modified), repr(vars(type(blob)))]

    url = f"{server.container_url}?{SAS}"
    dataset = face.from_container_url(url, prefix="train/")
    shown = face.from_container_url(url, prefix="train/", transform=described, prefetch=0)
    listing = BlobListing.build(url, prefix="train/")
    lazily = [*face.from_listing(listing)]

    assert [checked(sample) for sample in dataset] == names(3)
    assert [checked(sample) for sample in lazily] == names(3)
    assert [sample["url"] for sample in dataset] == [server.url(name) for name in names(3)]
    texts = [text for sample in shown for text in sample]
    texts += [repr(dataset), str(dataset), repr(listing), str(listing), listing.container_url, listing.fingerprint]
    assert found_in([*texts, *(record.getMessage() for record in caplog.records)]) == []


NAMES = [
    "special/with space.bin",
    "special/unicodé-日本-😀.bin",
    "special/100%25.bin",
    "special/%41.bin",
    "special/a+b.bin",
    "special/a#b.bin",
    "special/a?b=c&d.bin",
    "special/new\nline.bin",
    "special/~tilde'quote\"(paren).bin",
    "special/deep/er//twice/",
    "special/\u007f-delete\ufffe.bin",
]


@FACES
def test_names_that_urls_and_xml_have_to_encode(face: Face, server: BlobServer) -> None:
    """From a listing and from URLs, each gives its own bytes under its own name."""
    put(server, *NAMES)
    listed = sorted(NAMES, key=str.encode)

    by_listing = face.from_container_url(server.container_url, prefix="special/", credential=False)
    blob_names = face.from_container_url(
        server.container_url, prefix="special/", credential=False, transform=name_only, prefetch=0
    )
    by_url = face.from_blob_urls([server.url(name) for name in NAMES], credential=False)

    assert list(blob_names) == listed
    assert [checked(sample) for sample in by_listing] == listed
    assert [checked(sample) for sample in by_url] == NAMES
    for prefix in ("special/100%", "special/a?b", "special/a#", "special/new\n", "special/unicodé"):
        some = face.from_container_url(server.container_url, prefix=prefix, credential=False)
        assert [checked(sample) for sample in some] == [name for name in listed if name.startswith(prefix)]


def read_twice(blob: Any) -> tuple[int, bool]:
    """Transform that reads a blob, then again through a file of its own."""
    first = blob.read()
    with blob.reader() as file:
        second = file.read()
    return len(first), first == second == synthetic_bytes(0, len(first))


@FACES
@pytest.mark.parametrize("size", [0, 3, 64 << 20])
def test_blob_is_read_twice(face: Face, size: int, server: BlobServer) -> None:
    """In 0.2.0 the second read of a blob of 32 MiB or more failed."""
    server.put_synthetic("large.bin", size)
    for arguments in ({}, {"prefetch": 0}):
        dataset = face.from_container_url(
            server.container_url, prefix="large", credential=False, transform=read_twice, **arguments
        )
        assert list(dataset) == [(size, True)]
