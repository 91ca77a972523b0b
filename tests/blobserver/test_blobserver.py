"""The blob server must be what the real SDK takes for the service, or nothing measured against it means anything."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import http.client
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from azure.core import MatchConditions
from azure.core.credentials import AzureSasCredential
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.storage.blob import BlobBlock, BlobClient, ContainerClient, StandardBlobTier
from azure.storage.blob.aio import BlobClient as AsyncBlobClient

from tests.blobserver import (
    Action,
    BlobServer,
    Call,
    ContentRange,
    CutBody,
    Delay,
    Drop,
    FlipBit,
    Garbage,
    Hang,
    Header,
    Hold,
    IgnoreRange,
    LoseAnswer,
    ServerProcess,
    ShortBody,
    StallBody,
    Status,
    Trickle,
    crc32,
    on,
    synthetic_bytes,
)
from tests.conftest import TlsBlobServer

MiB = 1024 * 1024
VERSION = {"x-ms-version": "2024-11-04"}


@contextmanager
def blob_client(server: BlobServer, name: str, **options: Any) -> Iterator[BlobClient]:
    with BlobClient.from_blob_url(server.url(name), retry_total=0, **options) as client:
        yield client


def ask(server: BlobServer, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    """Send one request the plain way and return the status and the body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, {**VERSION, **named})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def raw(server: BlobServer, data: bytes) -> bytes:
    """Send bytes and receive until the server ends the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
        sock.sendall(data)
        received = bytearray()
        receive_all(sock, received)
        return bytes(received)


def receive_all(sock: socket.socket, received: bytearray) -> None:
    """Receive until the end, keeping what came before an error."""
    while chunk := sock.recv(65536):
        received += chunk


def code(error: HttpResponseError) -> str | None:
    """Return the error code that the SDK read from the answer."""
    value: str | None = getattr(error, "error_code", None)
    return value


def get_request(name: str, *lines: str) -> bytes:
    head = [f"GET /devstoreaccount1/data/{name} HTTP/1.1", "Host: x", "x-ms-version: 2024-11-04", *lines]
    return ("\r\n".join(head) + "\r\n\r\n").encode()


class TestSdk:
    """The official client sees the service."""

    def test_upload_and_ranged_download(self, server: BlobServer) -> None:
        """Small and block uploads, whole and ranged downloads are what everything else is built from."""
        data = synthetic_bytes(0, 5 * MiB + 3)
        with blob_client(server, "a b/ü%.bin", max_single_put_size=MiB, max_block_size=2 * MiB) as client:
            client.upload_blob(data, max_concurrency=3)
            assert client.download_blob().readall() == data
            assert client.download_blob(offset=MiB, length=17).readall() == data[MiB : MiB + 17]
            assert client.get_blob_properties().size == len(data)
        assert server.get("a b/ü%.bin") == data
        assert len(server.requests("PUT", comp="block")) == 3
        assert len(server.requests("PUT", comp="blocklist")) == 1

    def test_async_upload_and_download(self, server: BlobServer) -> None:
        """The async client sends through aiohttp, whose requests look different on the wire."""
        data = synthetic_bytes(5, 3 * MiB)

        async def main() -> bytes:
            async with AsyncBlobClient.from_blob_url(
                server.url("a"), max_single_get_size=MiB, max_single_put_size=MiB // 2, max_block_size=MiB // 2
            ) as client:
                await client.upload_blob(data, overwrite=True)
                download = await client.download_blob(max_concurrency=4)
                return await download.readall()

        assert asyncio.run(main()) == data
        assert server.get("a") == data

    @pytest.mark.parametrize("size", [0, 1])
    def test_tiny_blobs(self, server: BlobServer, size: int) -> None:
        """The SDK reads an empty blob by a range that is refused with 416, and then without."""
        with blob_client(server, "tiny") as client:
            client.upload_blob(b"x" * size)
            assert client.download_blob().readall() == b"x" * size

    def test_list_pages_in_order(self, server: BlobServer) -> None:
        """Markers have to lead through all pages once, whatever characters the names have."""
        names = sorted([f"p/{index:03}" for index in range(23)] + ["p/<&>'\"", "p/ü", "q", "p/\x01x"])
        for name in names:
            server.put(name, name.encode())
        with ContainerClient.from_container_url(server.container_url) as client:
            found = list(client.list_blobs(name_starts_with="p/", results_per_page=5))
        assert [blob.name for blob in found] == [name for name in names if name.startswith("p/")]
        assert found[0].size == len(found[0].name.encode())
        assert found[0].etag == server.version(found[0].name).etag.strip('"')

    def test_list_from_a_name_on(self, server: BlobServer) -> None:
        """Listings by ranges begin in the middle, and go on by markers from there."""
        names = [f"p/{index:02}" for index in range(23)] + ["q"]
        for name in names:
            server.put(name, b"x")
        with ContainerClient.from_container_url(server.container_url, api_version="2026-02-06") as client:
            for start, expected in [("p/07", names[7:23]), ("p/07x", names[8:23]), ("a", names[:23]), ("q", [])]:
                found = client.list_blobs(name_starts_with="p/", results_per_page=5, start_from=start)
                assert [blob.name for blob in found] == expected
            server.start_from = False
            assert len(list(client.list_blobs(name_starts_with="p/", start_from="p/07"))) == 23
        server.start_from = True
        with ContainerClient.from_container_url(server.container_url, api_version="2025-11-05") as client:
            assert len(list(client.list_blobs(start_from="p/07"))) == 24

    def test_archived_blobs_are_listed_and_not_read(self, server: BlobServer) -> None:
        """Data sets have some, after a lifecycle rule."""
        server.put("a", b"x", tier="Archive")
        with ContainerClient.from_container_url(server.container_url) as client:
            client.upload_blob("b", b"x", standard_blob_tier=StandardBlobTier.COOL)
            found = {blob.name: blob.blob_tier for blob in client.list_blobs()}
            assert found == {"a": "Archive", "b": "Cool"}
            with pytest.raises(HttpResponseError) as caught:
                client.download_blob("a")
            assert (caught.value.status_code, code(caught.value)) == (409, "BlobArchived")

    def test_directories_are_listed_as_blobs(self, server: BlobServer) -> None:
        """Accounts with a hierarchical namespace have a placeholder for each, and Hadoop makes some elsewhere."""
        server.put_directory("d")
        server.put_directory("h", resource_type=False)
        server.put("x", b"")
        with ContainerClient.from_container_url(server.container_url) as client:
            found = {blob.name: (blob.size, blob.metadata) for blob in client.list_blobs(include=["metadata"])}
        assert found == {"d": (0, {"hdi_isfolder": "true"}), "h": (0, {"hdi_isfolder": "true"}), "x": (0, None)}
        _, body = ask(server, "GET", "/devstoreaccount1/data?restype=container&comp=list")
        assert body.count(b"<ResourceType>directory</ResourceType>") == 1
        assert b"hdi_isfolder" not in body

    @pytest.mark.parametrize("count", [0, 1, 5000, 5001])
    def test_synthetic_listing_is_one_of_real_blobs(self, server: BlobServer, count: int) -> None:
        """A million blobs must not cost the server more than the client that is measured."""
        server.put_listing(count, "p/<")
        expected = [f"p/<{i // 5000:06}-{i % 5000:04}.bin" for i in range(count)]
        with ContainerClient.from_container_url(server.container_url, api_version="2026-02-06") as client:
            found = list(client.list_blobs(results_per_page=1234))
            assert [blob.name for blob in found] == expected
            assert len({blob.etag for blob in found}) == count
            some = client.list_blobs(start_from="p/<000000-4990", results_per_page=3)
            assert [blob.name for blob in some] == [name for name in expected if name >= "p/<000000-4990"]
            some = client.list_blobs(name_starts_with="p/<000001")
            assert [blob.name for blob in some] == [name for name in expected if name.startswith("p/<000001")]
            assert list(client.list_blobs(name_starts_with="q")) == []

    def test_block_list_rules(self, server: BlobServer) -> None:
        """A commit of unknown blocks fails, and a good one drops the blocks it does not name."""
        with blob_client(server, "blocks") as client:
            for block in ("aa", "bb", "cc"):
                client.stage_block(block, block.encode() * 10)
            committed, staged = client.get_block_list("all")
            assert not committed
            assert {block.id for block in staged} == {"aa", "bb", "cc"}
            with pytest.raises(HttpResponseError) as caught:
                client.commit_block_list([BlobBlock("zz")])
            assert (caught.value.status_code, code(caught.value)) == (400, "InvalidBlockList")
            client.commit_block_list([BlobBlock("bb"), BlobBlock("aa")])
            assert client.get_block_list("all")[1] == []
            client.stage_block("longer", b"x")
            with pytest.raises(HttpResponseError) as caught:
                client.stage_block("other", b"x")
            assert code(caught.value) == "InvalidBlobOrBlock"
        assert server.get("blocks") == b"bb" * 10 + b"aa" * 10

    def test_create_only_conflicts(self, server: BlobServer) -> None:
        """Create-only writes are decided by the server, for both ways to write."""
        server.put("there", b"old")
        with blob_client(server, "there") as client:
            with pytest.raises(ResourceExistsError) as caught:
                client.upload_blob(b"new")
            assert code(caught.value) == "BlobAlreadyExists"
            client.stage_block("a", b"new")
            with pytest.raises(ResourceExistsError):
                client.commit_block_list([BlobBlock("a")], match_condition=MatchConditions.IfMissing)
        assert server.get("there") == b"old"

    def test_versions_and_snapshots_are_read(self, server: BlobServer) -> None:
        """A client that drops ``versionid`` on the way must get the wrong bytes here."""
        first = server.put("v", b"first")
        with blob_client(server, "v") as client:
            snapshot = str(client.create_snapshot()["snapshot"])
        second = server.put("v", b"second")
        assert (first.etag, first.version_id) != (second.etag, second.version_id)
        with BlobClient(server.account_url, "data", "v", snapshot=snapshot) as old:
            assert old.download_blob().readall() == b"first"
        with BlobClient(server.account_url, "data", "v") as client:
            assert client.download_blob(version_id=first.version_id).readall() == b"first"
            assert client.download_blob().readall() == b"second"
            with pytest.raises(ResourceNotFoundError):
                client.download_blob(version_id="2020-01-01T00:00:00.0000000Z")

    def test_errors_are_the_typed_ones(self, server: BlobServer) -> None:
        """The SDK maps status and code to its classes, so both have to be right."""
        with blob_client(server, "gone") as client, pytest.raises(ResourceNotFoundError) as missing:
            client.download_blob()
        assert code(missing.value) == "BlobNotFound"
        with BlobClient(server.account_url, "nowhere", "x") as client, pytest.raises(ResourceNotFoundError) as nowhere:
            client.upload_blob(b"x")
        assert code(nowhere.value) == "ContainerNotFound"
        server.put("here", b"x")
        with blob_client(server, "here") as client, pytest.raises(ResourceModifiedError) as modified:
            client.download_blob(etag='"0x0"', match_condition=MatchConditions.IfNotModified)
        assert code(modified.value) == "ConditionNotMet"
        with blob_client(server, "here") as client, pytest.raises(HttpResponseError) as beyond:
            client.download_blob(offset=1, length=1)
        assert (beyond.value.status_code, code(beyond.value)) == (416, "InvalidRange")

    def test_containers(self, server: BlobServer) -> None:
        """Tests need containers beside the first one."""
        with ContainerClient(server.account_url, "more") as client:
            assert not client.exists()
            client.create_container()
            assert client.exists()
            with pytest.raises(ResourceExistsError):
                client.create_container()
            client.upload_blob("x/y", b"1")
            client.delete_blob("x/y")
            assert list(client.list_blobs()) == []

    def test_sas_is_checked(self, server: BlobServer) -> None:
        """A signature must reach the wire exactly, and an expired one is refused."""
        server.put("s", b"x")
        server.require_sas = {"sig": "a+b/c=", "sv": "2024-11-04"}
        with blob_client(server, "s") as client, pytest.raises(ClientAuthenticationError):
            client.download_blob()
        good = AzureSasCredential("sv=2024-11-04&sig=a%2Bb%2Fc%3D&se=2999-01-01T00%3A00%3A00Z")
        with blob_client(server, "s", credential=good) as client:
            assert client.download_blob().readall() == b"x"
        expired = AzureSasCredential("sv=2024-11-04&sig=a%2Bb%2Fc%3D&se=2020-01-01T00%3A00%3A00Z")
        with blob_client(server, "s", credential=expired) as client, pytest.raises(ClientAuthenticationError) as caught:
            client.download_blob()
        assert code(caught.value) == "AuthenticationFailed"

    def test_token_is_challenged(self, server: BlobServer) -> None:
        """A credential learns the tenant from the challenge of a 401."""
        server.require_token = "secret"
        server.put("t", b"x")
        reply = raw(server, get_request("t", "Connection: close"))
        assert reply.startswith(b"HTTP/1.1 401 ")
        assert b"WWW-Authenticate: Bearer authorization_uri=https://login.microsoftonline.com/" in reply
        assert ask(server, "GET", "/devstoreaccount1/data/t", Authorization="Bearer secret") == (200, b"x")

    def test_https(self, tls_server: TlsBlobServer) -> None:
        """https is the usual case in the field."""
        data = synthetic_bytes(0, 3 * MiB)
        with BlobClient.from_blob_url(tls_server.url("s"), connection_verify=tls_server.ca_file) as client:
            client.upload_blob(data)
            assert client.download_blob().readall() == data


class TestProtocol:
    """What no well-behaved client shows."""

    @pytest.mark.parametrize(
        "head",
        [
            b"GET / HTTP/1.0\r\nHost: x",
            b"GET  / HTTP/1.1\r\nHost: x",
            b"GET http://x/ HTTP/1.1\r\nHost: x",
            b"GET /%zz HTTP/1.1\r\nHost: x",
            b"GET /%ff HTTP/1.1\r\nHost: x",
            b"GET /a?b HTTP/1.1\r\nHost: x",
            b"GET /a?b=1&b=2 HTTP/1.1\r\nHost: x",
            b"GET /a HTTP/1.1\r\nNothing: x",
            b"GET /a HTTP/1.1\r\nHost: x\r\nHost: x",
            b"GET /a HTTP/1.1\r\nHost : x",
            b"GET /a HTTP/1.1\r\nHost: x\r\n folded",
            b"GET /a HTTP/1.1\nHost: x",
            b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: +1",
        ],
    )
    def test_malformed_requests_are_refused(self, server: BlobServer, head: bytes) -> None:
        """A lenient server would hide a client that only works with lenient servers."""
        assert raw(server, head + b"\r\n\r\n").startswith(b"HTTP/1.1 400 ")
        assert len(server.malformed) == 1
        server.malformed.clear()

    def test_put_needs_a_length(self, server: BlobServer) -> None:
        """The service takes no chunked bodies."""
        head = b"PUT /devstoreaccount1/data/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        assert raw(server, head).startswith(b"HTTP/1.1 411 ")
        server.malformed.clear()

    def test_version_header_is_required(self, server: BlobServer) -> None:
        """Without it the service falls back to a protocol of 2009."""
        reply = raw(server, b"GET /devstoreaccount1/data/a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert reply.startswith(b"HTTP/1.1 400 ")
        assert b"MissingRequiredHeader" in reply

    def test_content_md5_is_verified(self, server: BlobServer) -> None:
        """The checksum option of the writer relies on it."""
        path = "/devstoreaccount1/data/m?comp=block&blockid=YQ%3D%3D"
        good = base64.b64encode(hashlib.md5(b"body").digest()).decode()
        assert ask(server, "PUT", path, b"body", Content_MD5=good)[0] == 201
        status, body = ask(server, "PUT", path, b"bodx", Content_MD5=good)
        assert (status, b"Md5Mismatch" in body) == (400, True)

    def test_more_than_50000_blocks_are_refused(self, server: BlobServer) -> None:
        """The emulator accepts them, the service does not."""
        path = "/devstoreaccount1/data/many"
        ask(server, "PUT", f"{path}?comp=block&blockid=YQ%3D%3D", b"x")
        document = b"<BlockList>" + b"<Latest>YQ==</Latest>" * 50_001 + b"</BlockList>"
        status, body = ask(server, "PUT", f"{path}?comp=blocklist", document)
        assert (status, b"BlockListTooLong" in body) == (400, True)

    def test_request_log_has_what_was_sent(self, server: BlobServer) -> None:
        """Counting requests is how the benchmarks explain their results."""
        server.put("a", b"0123456789")
        ask(server, "GET", "/devstoreaccount1/data/a?snapshot=", x_ms_range="bytes=2-4")
        ask(server, "GET", "/devstoreaccount1/data/%61", x_ms_range="bytes=2-4")
        [record] = server.requests("GET", comp="", path="/devstoreaccount1/data/%61")
        assert (record.status, record.range, record.bytes_sent) == (206, "bytes=2-4", 3)
        assert len(server.requests(blob="a")) == 2
        assert server.requests()[0].query == {"snapshot": ""}
        server.clear()
        assert server.requests() == []

    def test_synthetic_blobs_have_the_computed_bytes(self, server: BlobServer) -> None:
        """A 100 GiB blob must be checkable at any place without holding it."""
        size = 100 * 1024 * MiB
        server.put_synthetic("huge", size, seed=7)
        start = 99 * 1024 * MiB - 5
        status, body = ask(server, "GET", "/devstoreaccount1/data/huge", Range=f"bytes={start}-{start + 8 * MiB - 1}")
        assert status == 206
        assert body == synthetic_bytes(start, start + 8 * MiB, seed=7)
        assert body != synthetic_bytes(0, 8 * MiB, seed=7)

    def test_discarded_uploads_keep_size_and_checksum(self, server: BlobServer) -> None:
        """Saving more than the machine has memory for must be testable."""
        server.discard_uploads = True
        data = synthetic_bytes(0, 3 * MiB + 1)
        with blob_client(server, "big", max_single_put_size=1, max_block_size=MiB) as client:
            client.upload_blob(data)
        version = server.version("big")
        assert version.size == len(data)
        assert crc32(version.blocks[0].content) == zlib.crc32(data[:MiB])
        assert ask(server, "GET", "/devstoreaccount1/data/big")[0] == 409

    def test_latency_does_not_add_up_across_connections(self) -> None:
        """64 readers at 50 ms take 50 ms, or no measurement of concurrency would mean anything."""
        with BlobServer(latency=0.05) as server:
            server.put("a", b"x")
            answers: list[tuple[int, bytes]] = []

            def read() -> None:
                answers.append(ask(server, "GET", "/devstoreaccount1/data/a"))

            threads = [threading.Thread(target=read) for _ in range(64)]
            start = time.monotonic()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert time.monotonic() - start < 64 * 0.05 / 2
            assert answers == [(200, b"x")] * 64
            assert server.peak_requests > 8
            assert all(record.answered - record.started >= 0.05 for record in server.requests())

    def test_bandwidth_is_paced_both_ways(self) -> None:
        """1 MiB at 10 MiB/s takes 0.1 s, up as well as down."""
        with BlobServer(bandwidth=10 * MiB) as server:
            start = time.monotonic()
            status, _ = ask(server, "PUT", "/devstoreaccount1/data/a", bytes(MiB), x_ms_blob_type="BlockBlob")
            middle = time.monotonic()
            assert status == 201
            assert ask(server, "GET", "/devstoreaccount1/data/a") == (200, bytes(MiB))
            end = time.monotonic()
        assert middle - start >= 0.1
        assert end - middle >= 0.1

    def test_idle_connections_are_closed(self) -> None:
        """Clients have to survive a connection that ended while they were not looking."""
        with BlobServer(keep_alive=0.05) as server, socket.create_connection(("127.0.0.1", server.port)) as sock:
            sock.settimeout(10)
            assert sock.recv(1) == b""
            server.wait_closed()
            assert server.connections == 0

    def test_close_ends_all_threads_and_sockets(self) -> None:
        """Thousands of tests start one server each."""
        before = set(threading.enumerate())
        server = BlobServer()
        server.put("a", b"x")
        hanging = server.fault("GET", Hang(), times=None)
        with ExitStack() as stack:
            address = ("127.0.0.1", server.port)
            sockets = [stack.enter_context(socket.create_connection(address, timeout=10)) for _ in range(5)]
            for sock in sockets:
                sock.sendall(get_request("a"))
            hanging.wait(hits=5)
            server.close()
            assert set(threading.enumerate()) <= before  # what earlier tests left may end meanwhile
            assert [sock.recv(1) for sock in sockets] == [b""] * 5


class TestFaults:
    """Each fault looks on the wire as its name says."""

    @pytest.fixture
    def blob(self, server: BlobServer) -> bytes:
        data = synthetic_bytes(0, MiB)
        server.put("f", data)
        return data

    def test_rules_happen_one_after_the_other(self, server: BlobServer, blob: bytes) -> None:
        """A retry test scripts what each attempt meets."""
        first = server.fault("GET", Status(503, "ServerBusy", {"Retry-After": "1"}), times=2)
        third = server.fault(on("GET", blob="f"), Status(500, "InternalError"))
        path = "/devstoreaccount1/data/f"
        assert [ask(server, "GET", path)[0] for _ in range(4)] == [503, 503, 500, 200]
        assert (first.hits, third.hits) == (2, 1)

    def test_nth_and_range_choose_one_request(self, server: BlobServer, blob: bytes) -> None:
        """Faults in the middle of a parallel read must hit one chosen range."""
        server.fault(on("GET", covers=10), Status(500), nth=2)
        path = "/devstoreaccount1/data/f"
        ranges = ["bytes=0-9", "bytes=10-19", "bytes=5-15", "bytes=10-10"]
        assert [ask(server, "GET", path, Range=value)[0] for value in ranges] == [206, 206, 500, 206]

    def test_reset_before_the_answer(self, server: BlobServer, blob: bytes) -> None:
        """A reset, not an orderly end."""
        server.fault("GET", Drop())
        with pytest.raises(ConnectionResetError):
            raw(server, get_request("f"))

    def test_reset_and_end_after_n_body_bytes(self, server: BlobServer, blob: bytes) -> None:
        """Resuming starts at the first missing byte, so the count has to be exact."""
        server.fault("GET", CutBody(700_001, "close"))
        reply = raw(server, get_request("f"))
        assert reply.partition(b"\r\n\r\n")[2] == blob[:700_001]
        server.fault("GET", CutBody(700_001, "reset"))
        received = bytearray()
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
            sock.sendall(get_request("f"))
            with pytest.raises(ConnectionResetError):
                receive_all(sock, received)
        assert received.partition(b"\r\n\r\n")[2] == blob[:700_001]

    def test_lost_answer_is_performed(self, server: BlobServer) -> None:
        """The write happened although the client cannot know."""
        server.fault("PUT", LoseAnswer())
        with pytest.raises(ConnectionResetError):
            ask(server, "PUT", "/devstoreaccount1/data/lost", b"content", x_ms_blob_type="BlockBlob")
        assert server.get("lost") == b"content"

    def test_hang_and_stall(self, server: BlobServer, blob: bytes) -> None:
        """No byte more, and no end either."""
        for action, expected in [(Hang(), b""), (StallBody(5), blob[:5])]:
            rule = server.fault("GET", action)
            with socket.create_connection(("127.0.0.1", server.port), timeout=0.2) as sock:
                sock.sendall(get_request("f"))
                rule.wait()
                received = bytearray()
                with pytest.raises(TimeoutError):
                    receive_all(sock, received)
                assert received.partition(b"\r\n\r\n")[2] == expected
        server.wait_closed()

    def test_hold_until_released(self, server: BlobServer, blob: bytes) -> None:
        """A test acts while a request is known to be under way, without sleeping."""
        hold = Hold()
        rule = server.fault("GET", hold)
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
            sock.sendall(get_request("f", "Connection: close"))
            rule.wait()
            server.put("f", b"replaced")
            hold.release()
            received = bytearray()
            receive_all(sock, received)
        assert received.endswith(b"replaced")

    def test_answers_that_lie(self, server: BlobServer, blob: bytes) -> None:
        """A reader that verifies has to meet each wrong answer once."""

        def answer(*actions: Action) -> tuple[http.client.HTTPResponse, bytes]:
            server.fault("GET", *actions)
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
            connection.request("GET", "/devstoreaccount1/data/f", None, {**VERSION, "Range": "bytes=10-19"})
            try:
                response = connection.getresponse()
                return response, response.read()
            finally:
                connection.close()

        response, body = answer(IgnoreRange())
        assert (response.status, body) == (200, blob)
        assert response.getheader("Content-Range") is None
        response, body = answer(ContentRange(shift=1))
        assert response.getheader("Content-Range") == f"bytes 11-20/{MiB}"
        response, body = answer(ContentRange(total=5), Header("ETag", None))
        assert response.getheader("Content-Range") == "bytes 10-19/5"
        assert response.getheader("ETag") is None
        response, body = answer(ShortBody(3))
        assert body == blob[10:17]
        assert response.getheader("Content-Range") == f"bytes 10-19/{MiB}"
        response, body = answer(FlipBit(2), Trickle(1000), Delay(0.01))
        assert body == blob[10:12] + bytes([blob[12] ^ 1]) + blob[13:20]
        called: list[int] = []
        response, body = answer(Call(lambda: called.append(1)), Header("x-ms-client-request-id", "other"))
        assert called == [1]
        assert response.getheader("x-ms-client-request-id") == "other"
        with pytest.raises(http.client.BadStatusLine):
            answer(Garbage())


def test_own_process_is_controlled_by_requests() -> None:
    """Benchmarks run the server beside them and read its counts."""
    with ServerProcess("--latency", "0.001", "--discard-uploads") as server:
        server.put_synthetic(("a", 10), ("b", 20))
        with BlobClient.from_blob_url(server.url("b")) as client:
            assert client.download_blob().readall() == synthetic_bytes(0, 20)
        server.fault(503, method="GET", code="ServerBusy")
        server.configure(latency=0.2, bandwidth=None)
        [request] = server.requests("GET")
        assert (request["status"], request["bytes_sent"]) == (206, 20)
        with BlobClient.from_blob_url(server.url("a"), retry_total=0) as client, pytest.raises(HttpResponseError):
            client.download_blob()
        refused = server.requests("GET")[1]
        assert refused["status"] == 503
        assert refused["answered"] - refused["started"] >= 0.2
        server.clear()
        assert server.requests() == []


def test_own_process_admits_so_many_requests_a_second() -> None:
    """Processes that share an account are measured against it."""
    with ServerProcess() as server:
        server.put_synthetic(("a", 10))
        server.admit(rate=0.01, burst=2)
        with BlobClient.from_blob_url(server.url("a"), retry_total=0) as client:
            assert client.download_blob().readall() == synthetic_bytes(0, 10)
            assert client.exists()
            with pytest.raises(HttpResponseError) as refused:
                client.download_blob()
        assert code(refused.value) == "ServerBusy"
        assert [record["status"] for record in server.requests()] == [206, 200, 503]


def test_own_process_lists_what_is_not_there() -> None:
    """The listing of a million blobs is measured against it."""
    with (
        ServerProcess("--listing", "1000000") as server,
        ContainerClient.from_container_url(server.container_url, api_version="2026-02-06") as client,
    ):
        [last] = client.list_blobs(start_from="000199-4999")
        assert last.name == "000199-4999.bin"
        server.configure(start_from=False)
        server.put_listing(3, "x/")
        assert len(list(client.list_blobs(start_from="x/000000-0001"))) == 3


def test_connections_are_refused_until_it_listens() -> None:
    """A test of a restarting host needs a port that nobody answers on and nobody else can take."""
    with BlobServer(listening=False) as server:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port))

        server.listen()

        socket.create_connection(("127.0.0.1", server.port)).close()
