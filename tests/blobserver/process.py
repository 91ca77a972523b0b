"""A blob server in a process of its own, so that it takes no time from the interpreter under test."""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlsplit

_ROOT = Path(__file__).resolve().parents[2]


class ServerProcess:
    """Start ``python -m tests.blobserver`` with these options and wait until it listens.

    :param arguments: as on the command line, such as ``"--latency", "0.02"``.
    """

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.blobserver", "--until-stdin-ends", *arguments],
            cwd=_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.container_url = self._process.stdout.readline().strip()
        if not self.container_url:
            raise RuntimeError(f"the server ended with {self._process.wait()}")
        self._address = urlsplit(self.container_url)
        self.pid = self._process.pid

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process and wait for it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def url(self, name: str) -> str:
        """Return the URL of a blob."""
        return f"{self.container_url}/{quote(name, safe='/~')}"

    def log(self) -> dict[str, Any]:
        """Return what the server saw: see `tests.blobserver.control`."""
        return self._control("GET", "/__log__")

    def requests(self, method: str | None = None, comp: str | None = None) -> list[dict[str, Any]]:
        """Return the records of requests, as dictionaries."""
        return [
            record
            for record in self.log()["requests"]
            if (method is None or record["method"] == method)
            and (comp is None or record["query"].get("comp", "") == comp)
        ]

    def clear(self) -> None:
        """Forget all records and faults."""
        self._control("POST", "/__reset__")

    def configure(self, **settings: float | bool | None) -> None:
        """Change the model of the network and what is kept of uploads, by the names in `BlobServer`."""
        self._control("POST", "/__config__", settings)

    def put_synthetic(self, *blobs: tuple[str, int], seed: int = 0) -> None:
        """Make blobs of these names and sizes, content as `synthetic_bytes`."""
        made = [{"name": name, "size": size, "seed": seed} for name, size in blobs]
        self._control("POST", "/__put__", {"blobs": made})

    def put_listing(self, count: int, prefix: str = "") -> None:
        """List ``count`` blobs that cannot be read instead of those there are: see `BlobServer.put_listing`."""
        self._control("POST", "/__listing__", {"count": count, "prefix": prefix})

    def fault(self, status: int, **rule: Any) -> None:
        """Answer requests with an error status: see `tests.blobserver.control`."""
        self._control("POST", "/__fault__", {"status": status, **rule})

    def admit(self, rate: float, burst: float) -> None:
        """Admit so many requests a second from now on: see `Admit`."""
        self._control("POST", "/__admit__", {"rate": rate, "burst": burst})

    def _control(self, method: str, path: str, values: object = None) -> dict[str, Any]:
        host, port = self._address.hostname or "", self._address.port
        connection: http.client.HTTPConnection
        if self._address.scheme == "https":
            # The certificate is the caller's own and this is loopback: nothing to be learnt from checking it.
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            connection = http.client.HTTPSConnection(host, port, timeout=60, context=context)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=60)
        try:
            connection.request(method, path, json.dumps(values or {}) if method == "POST" else None)
            response = connection.getresponse()
            body = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise RuntimeError(body.decode())
        result: dict[str, Any] = json.loads(body)
        return result
