"""What of a blob leaves the process: to workers and back, into logs and into errors."""

from __future__ import annotations

import copy
import io
import multiprocessing
import pickle
import threading
import time
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest
from azure.core.credentials import AccessToken, AzureNamedKeyCredential, AzureSasCredential

from azstoragetorch.exceptions import AZStorageTorchError, BlobModifiedError
from tests.blobserver import BlobServer
from tests.conftest import TlsBlobServer
from tests.data.blobs import SMALL, Blob, Read, access, at, by_aread, by_areader, by_read, by_reader, hold, listed
from tests.secrets.canaries import KEY, SIGNATURE, TOKEN, found_in, texts_of

pytestmark = pytest.mark.timeout(40)

SAS = f"sv=2021-12-02&sig={quote(SIGNATURE, safe='')}"
WAYS = pytest.mark.parametrize("read", [by_read, by_aread, by_reader, by_areader])


class Token:
    """A credential as users write them."""

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        return AccessToken(TOKEN, int(time.time()) + 3600)


class Unpicklable(Token):
    """A credential with a client inside."""

    def __init__(self) -> None:
        self.lock = threading.RLock()


class Broken(Token):
    """A credential whose pickling goes wrong in its own way, with a secret in the message."""

    def __reduce__(self) -> Any:
        raise RuntimeError(f"sig={SIGNATURE}")


def said_by(blob: Blob) -> list[str]:
    """Return everything that a blob and its files say of themselves."""
    with blob.reader() as file:
        texts = [repr(file), str(file), file.name, repr(file.stats())]
    return [*texts, repr(blob), str(blob), f"{blob}", blob.url, blob.blob_name, repr(blob.areader())]


@WAYS
async def test_sas_in_the_url_is_used_and_never_shown(server: BlobServer, read: Read) -> None:
    """URLs of samples go to logs and experiment trackers."""
    server.put("a", b"content")
    server.require_sas = {"sv": "2021-12-02", "sig": SIGNATURE}
    blob = at(f"{server.url('a')}?{SAS}", access(None))

    assert await read(blob) == b"content"
    assert not found_in(said_by(blob))
    assert blob.url == server.url("a")

    server.delete("a")
    with pytest.raises(AZStorageTorchError) as caught:
        await read(blob)
    assert not found_in(texts_of(caught.value))


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_blob_with_sas_is_readable_in_another_process(server: BlobServer, method: str) -> None:
    """Worker processes get datasets, and return what a transform returned: perhaps the blob."""
    server.put("a", b"content")
    server.require_sas = {"sig": SIGNATURE}
    blob = at(f"{server.url('a')}?{SAS}", access(AzureSasCredential("sig=other")))
    assert blob.read() == b"content"

    context: Any = multiprocessing.get_context(method)
    with context.Pool(1) as pool:
        returned, content, requests = pool.apply(_read_there, (blob,))
        pool.close()
        pool.join()

    assert content == b"content"
    assert requests == 1
    assert returned.read() == b"content"
    assert (returned.size, returned.etag) == (blob.size, blob.etag)
    assert not found_in(said_by(returned))


def _read_there(blob: Blob) -> tuple[Blob, bytes, int]:
    before = blob.reader().stats().requests
    content = blob.read()
    return blob, content, blob.reader().stats().requests - before


def test_content_travels_with_the_blob_that_holds_it(server: BlobServer) -> None:
    """A transform that returns the blob returns what was fetched for it, not a promise to fetch it again."""
    server.put("a", b"the content")
    blob = hold(listed(server, "a"), b"the content")

    for copied in (pickle.loads(pickle.dumps(blob)), copy.copy(blob), copy.deepcopy(blob)):
        assert copied.read() == b"the content"
        with copied.reader() as file:
            assert file.read(3) == b"the"
        assert (copied.url, copied.size, copied.etag) == (blob.url, blob.size, blob.etag)
    assert server.requests() == []


def test_promise_travels_with_the_blob(server: BlobServer) -> None:
    """Pinned or not: a read in another process is of the version that it would be here."""
    server.put("a", b"before")
    pinned, free = listed(server, "a"), at(server.url("a"))
    assert free.read() == b"before"
    pinned, free = pickle.loads(pickle.dumps((pinned, free)))
    server.put("a", b"after")

    assert free.read() == b"after"
    with pytest.raises(BlobModifiedError):
        pinned.read()


def test_blobs_of_one_dataset_share_what_they_share_in_a_pickle_too(server: BlobServer) -> None:
    """A batch of blobs must not carry options and credential once for each; counters start at zero elsewhere."""
    server.put("a", b"content")
    shared = access()
    blobs = [listed(server, "a", shared) for _ in range(100)]
    blobs[0].read()

    packed = pickle.dumps(blobs)
    copies = pickle.loads(packed)

    assert len(packed) < 100 * 250
    assert copies[0].reader().stats().requests == 0
    copies[0].read()
    assert all(each.reader().stats().requests == 1 for each in copies)
    assert shared.stats.requests == 1


def test_no_token_is_in_a_pickle(tls_server: TlsBlobServer) -> None:
    """Pickles of datasets lie in queues and temporary files of other processes; each gets its own token."""
    tls_server.put("a", b"content")
    tls_server.require_token = TOKEN
    shared = access(Token(), replace(SMALL, ca_file=tls_server.ca_file))
    blob = listed(tls_server, "a", shared)
    assert blob.read() == b"content"

    packed = pickle.dumps(blob)

    assert not found_in([packed.decode("latin-1"), repr(shared), *said_by(blob)])
    assert pickle.loads(packed).read() == b"content"


@pytest.mark.parametrize("credential", [AzureSasCredential(SAS), AzureNamedKeyCredential("name", KEY)])
def test_secrets_that_must_travel_are_not_shown(server: BlobServer, credential: Any) -> None:
    """SAS and key go with the pickle, as they must, and nowhere else."""
    blob = pickle.loads(pickle.dumps(at(server.url("a"), access(credential))))

    assert not found_in([*said_by(blob), repr(access(credential))])


@pytest.mark.parametrize("credential", [Unpicklable(), Broken()], ids=["lock", "broken"])
def test_credential_that_cannot_be_pickled_is_named(server: BlobServer, credential: Any) -> None:
    """Not "cannot pickle '_thread.RLock' object" from the depth of a DataLoader that starts its workers."""
    blob = at(server.url("a"), access(credential))

    with pytest.raises(TypeError, match=rf"{type(credential).__name__}.*credential=None.*SAS.*'fork'") as caught:
        pickle.dumps(blob)

    assert not found_in(texts_of(caught.value))


def test_class_that_others_can_pickle_is_left_to_them(server: BlobServer) -> None:
    """Picklers that copy classes by value (Ray and Spark use one) must not be refused what they can do."""

    class Local(Token):
        pass

    class ByValue(pickle.Pickler):
        def reducer_override(self, value: Any) -> Any:
            return (Token, ()) if isinstance(value, Local) else NotImplemented

    server.put("a", b"content")
    packed = io.BytesIO()
    ByValue(packed).dump(at(f"{server.url('a')}?{SAS}", access(Local())))

    assert pickle.loads(packed.getvalue()).read() == b"content"
    with pytest.raises((AttributeError, pickle.PicklingError), match="Local"):
        pickle.dumps(at(server.url("a"), access(Local())))
