"""A Blob service on loopback whose every answer a test can script.

    with BlobServer(latency=0.02) as server:
        server.put("a.bin", b"content")
        rule = server.fault(on("GET", blob="a.bin"), Status(503, "ServerBusy", {"Retry-After": "1"}))
        ...                                        # the code under test reads server.url("a.bin")
        assert len(server.requests("GET")) == 2

One thread accepts, one thread serves each connection with blocking calls, so that 64 clients cost 64 sleeping
threads and a fault of one connection never holds up another.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from types import TracebackType
from urllib.parse import quote, unquote, urlsplit

from tests.blobserver.connection import Connection
from tests.blobserver.content import BytesContent, SyntheticContent
from tests.blobserver.faults import Action, Faults, Match, Rule
from tests.blobserver.link import Link, Model
from tests.blobserver.listing import catalog
from tests.blobserver.log import PATIENCE, Record, RequestLog
from tests.blobserver.service import ACCOUNT, Service
from tests.blobserver.store import Block, Store, Version
from tests.blobserver.wire import ServiceError

_JOIN_SECONDS = 10.0


class BlobServer(Model):
    """The server, listening from construction until `close`.

    :param tls: serve https with this server-side context.
    :param container: made at the start; names given to the methods are in it.
    :param keep_versions: keep replaced content readable by ``versionid``, at the cost of its memory.
    :param listening: ``False`` refuses connections until `listen` is called, on a port that is nobody else's meanwhile.
    :param discard_uploads: keep only sizes (and with ``discarded_crc`` CRC-32 sums) of what is uploaded.

    ``latency``, ``bandwidth``, ``connect_latency`` and ``keep_alive`` are those of `Model` and can be set at any
    time, as can ``require_sas`` (query pairs every request must have), ``require_token`` (the bearer token) and
    ``start_from`` (whether listings begin where ``startFrom`` asks).
    ``malformed`` holds a line for each request that was not HTTP, ``errors`` what went wrong in the server itself:
    a test that uses the server checks that both are empty at its end.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        latency: float = 0.0,
        connect_latency: float = 0.0,
        bandwidth: float | None = None,
        keep_alive: float | None = None,
        tls: ssl.SSLContext | None = None,
        container: str = "data",
        keep_versions: bool = True,
        discard_uploads: bool = False,
        discarded_crc: bool = True,
        listening: bool = True,
    ) -> None:
        super().__init__(latency, connect_latency, bandwidth, keep_alive)
        self.store = Store(keep_versions=keep_versions)
        self.service = Service(self.store)
        self.faults = Faults()
        self.log = RequestLog()
        self.discard_uploads = discard_uploads
        self.discarded_crc = discarded_crc
        self.malformed: list[str] = []
        self.errors: list[Exception] = []
        self.container = container
        self.store.create_container(container)
        self._tls = tls
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._links: dict[threading.Thread, Link] = {}
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((host, port))
        self.port: int = self._listener.getsockname()[1]
        scheme = "http" if tls is None else "https"
        self.origin = f"{scheme}://{host}:{self.port}"
        self.account_url = f"{self.origin}/{ACCOUNT}"
        self.container_url = f"{self.account_url}/{container}"
        self._acceptor = threading.Thread(target=self._accept, name="blobserver", daemon=True)
        if listening:
            self.listen()

    def listen(self) -> None:
        """Accept connections from now on; not to be called twice."""
        self._listener.listen(512)
        self._acceptor.start()

    def __enter__(self) -> BlobServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop all connections and wait for all threads.

        :raises RuntimeError: if a thread does not end.
        """
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        if self._acceptor.ident is not None:
            self._acceptor.join(_JOIN_SECONDS)
        self._listener.close()
        with self._lock:
            links = dict(self._links)
        for link in links.values():
            link.wake()
        for thread in links:
            thread.join(_JOIN_SECONDS)
        alive = [thread.name for thread in (self._acceptor, *links) if thread.is_alive()]
        if alive:
            raise RuntimeError(f"threads did not end: {alive}")

    def drop_connections(self) -> None:
        """End all open connections, as a restarted load balancer does; new ones are accepted."""
        with self._lock:
            links = list(self._links.values())
        for link in links:
            link.wake()

    # Blobs, by name in the server's container or by URL.

    def url(self, name: str) -> str:
        """Return the URL of a blob of the server's container."""
        return f"{self.container_url}/{quote(name, safe='/~')}"

    def put(self, name: str, data: bytes, *, tier: str | None = None) -> Version:
        """Replace a blob; the result has ``etag`` and ``version_id``.

        :param tier: ``"Archive"`` makes one that is listed and cannot be read.
        """
        properties = {} if tier is None else {"x-ms-access-tier": tier}
        return self.store.put(*self._locate(name), BytesContent(bytes(data)), properties)

    def put_directory(self, name: str, *, resource_type: bool = True, metadata: bool = True) -> Version:
        """Make the placeholder of a directory, as accounts with a hierarchical namespace list it.

        :param resource_type: whether it says so by its type, as those do.
        :param metadata: whether it says so by its metadata, as those do and as Hadoop does in other accounts.
        """
        properties = {"x-ms-resource-type": "directory"} if resource_type else {}
        if metadata:
            properties["x-ms-meta-hdi_isfolder"] = "true"
        return self.store.put(*self._locate(name), BytesContent(b""), properties)

    def put_listing(self, count: int, prefix: str = "") -> None:
        """List ``count`` blobs that cannot be read instead of those of the server's container: see `Catalog`."""
        self.store.set_catalog(self.container, catalog(count, prefix))

    def put_synthetic(self, name: str, size: int, seed: int = 0) -> Version:
        """Replace a blob by ``size`` bytes of the pattern that `synthetic_bytes` computes, whatever the size."""
        return self.store.put(*self._locate(name), SyntheticContent(size, seed))

    def get(self, name: str) -> bytes:
        """Return the committed content.

        :raises KeyError: if there is no such blob.
        """
        content = self.version(name).content
        return b"".join(content.slices(0, content.size))

    def version(self, name: str) -> Version:
        """Return the current state of a blob, with ``etag``, ``version_id``, ``size`` and committed ``blocks``.

        :raises KeyError: if there is no such blob.
        """
        try:
            return self.store.read(*self._locate(name))
        except ServiceError as error:
            raise KeyError(name) from error

    def staged(self, name: str) -> list[Block]:
        """Return the uncommitted blocks of a blob in the order they were staged; none if there is nothing."""
        try:
            return self.store.block_lists(*self._locate(name))[1]
        except ServiceError:
            return []

    def delete(self, name: str) -> None:
        """Delete a blob."""
        self.store.delete(*self._locate(name))

    def _locate(self, name: str) -> tuple[str, str]:
        if not name.startswith(self.origin):
            return self.container, name
        _, account, container, blob = urlsplit(name).path.split("/", 3)
        if account != ACCOUNT:
            raise ValueError(f"not a URL of this server: {name}")
        return container, unquote(blob)

    # What was asked, and what goes wrong.

    def requests(
        self, method: str | None = None, comp: str | None = None, path: str | None = None, *, blob: str | None = None
    ) -> list[Record]:
        """Return the records of all requests since the last `clear`, in order of arrival.

        :param comp: the operation; ``""`` is a request without one (Get Blob, Put Blob).
        :param path: the path as sent.
        :param blob: name in the server's container, or URL.
        """
        wanted = None if blob is None else "/".join(("", ACCOUNT, *self._locate(blob)))
        return [
            record
            for record in self.log.records()
            if (method is None or record.method == method)
            and (comp is None or record.comp == comp)
            and (path is None or record.path == path)
            and (wanted is None or unquote(record.path) == wanted)
        ]

    def clear(self) -> None:
        """Forget all records and all faults; the blobs stay."""
        self.log.clear()
        self.faults.clear()

    def fault(self, match: Match | str, *actions: Action, times: int | None = 1, nth: int = 1) -> Rule:
        """Spoil requests: see `Faults.add`."""
        return self.faults.add(match, *actions, times=times, nth=nth)

    def wait_idle(self, timeout: float = PATIENCE) -> None:
        """Wait until no request is under way.

        :raises TimeoutError: if one still is after ``timeout`` seconds.
        """
        self.log.wait(active=0, timeout=timeout)

    def wait_closed(self, connections: int = 0, timeout: float = PATIENCE) -> None:
        """Wait until the peers have closed all but so many connections.

        :raises TimeoutError: if more are open after ``timeout`` seconds.
        """
        self.log.wait(connections=connections, timeout=timeout)

    @property
    def connections(self) -> int:
        """Connections open now."""
        return self.log.connections

    @property
    def peak_requests(self) -> int:
        """Most requests under way at one moment since the last `clear`."""
        return self.log.peak_requests

    @property
    def require_sas(self) -> dict[str, str] | None:
        return self.service.require_sas

    @require_sas.setter
    def require_sas(self, pairs: dict[str, str] | None) -> None:
        self.service.require_sas = pairs

    @property
    def require_token(self) -> str | None:
        return self.service.require_token

    @require_token.setter
    def require_token(self, token: str | None) -> None:
        self.service.require_token = token

    @property
    def start_from(self) -> bool:
        return self.service.start_from

    @start_from.setter
    def start_from(self, honoured: bool) -> None:
        self.service.start_from = honoured

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                self._closing.wait(0.01)  # closing, or out of file descriptors for a moment
                continue
            link = Link(sock, self, self._closing)
            thread = threading.Thread(target=self._serve, args=(link,), name="blobserver connection", daemon=True)
            with self._lock:
                self._links[thread] = link
            thread.start()

    def _serve(self, link: Link) -> None:
        try:
            Connection(self, link, self._tls).run()
        finally:
            with self._lock:
                del self._links[threading.current_thread()]
