"""Let cases that wait do so at the same time: each has a thread and a server of its own.

What a call waits for is not this machine, so all of them together take as long as the longest of them.
"""

from __future__ import annotations

__all__ = ["SAS", "Ended", "Wait", "chosen", "container_url_of", "together", "url_of"]

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from urllib.parse import quote

import pytest

from azstoragetorch._bridge import run
from azstoragetorch.aio import aclose
from azstoragetorch.exceptions import AZStorageTorchError
from tests.blobserver import BlobServer
from tests.faults.play import watch
from tests.files.leaks import Leaks
from tests.secrets.canaries import SIGNATURE, found_in, texts_of

SAS = f"sp=rwdl&sig={quote(SIGNATURE, safe='')}"


@dataclass(frozen=True, slots=True)
class Wait:
    """A call that is not answered, or late.

    :ivar act: does it; what it checks itself it asserts.
    :ivar fault: prepares the server.
    :ivar error: class of the error that it ends with; exactly this one. ``None`` if it succeeds.
    :ivar least: seconds before which it would be given up too early.
    :ivar most: seconds that it takes at most by the documentation, without what the machine takes to notice.
    :ivar requests: how many requests reach the server, least and most.
    :ivar deaf: the server has stopped reading, so that it does not see when a connection is closed.
    """

    act: Callable[[BlobServer], object]
    fault: Callable[[BlobServer], object]
    error: type[AZStorageTorchError] | None
    least: float
    most: float
    requests: tuple[int, int] | None = None
    deaf: bool = False

    def check(self, ended: Ended, slack: float) -> None:
        """Compare this with what came of it."""
        if type(ended.error) is not (self.error or type(None)):
            raise AssertionError(f"not {self.error}, but {ended.error!r}") from ended.error
        assert self.least <= ended.seconds <= self.most + slack, f"took {ended.seconds:.1f} s"
        if self.requests is not None:
            least, most = self.requests
            assert least <= ended.requests <= most, ended.requests


@dataclass(frozen=True, slots=True)
class Ended:
    """How a call ended: its error, seconds, requests that it sent."""

    error: BaseException | None
    seconds: float
    requests: int


def url_of(server: BlobServer, name: str = "blob") -> str:
    """Return the URL of a blob, with the SAS that the server asks for."""
    return f"{server.url(name)}?{SAS}"


def container_url_of(server: BlobServer) -> str:
    """Return the URL of the container, likewise."""
    return f"{server.container_url}?{SAS}"


def chosen(cases: Mapping[str, Wait], request: pytest.FixtureRequest) -> dict[str, Wait]:
    """Return the cases whose tests of this module are to run; they are parametrised by name."""
    names = {item.name for item in request.session.items if item.path == request.path}
    return {name: case for name, case in cases.items() if any(test.endswith(f"[{name}]") for test in names)}


def together(cases: Mapping[str, Wait]) -> dict[str, Ended]:
    """Do all of them; look at what they leave together, and for secrets in what is said meanwhile."""
    ends: dict[str, Ended] = {}
    servers: dict[str, BlobServer] = {}

    def act(name: str) -> None:
        start = time.monotonic()
        error: BaseException | None = None
        try:
            cases[name].act(servers[name])
        except BaseException as raised:  # the test looks at its class
            error = raised
        ends[name] = Ended(error, time.monotonic() - start, len(servers[name].requests()))

    with ExitStack() as stack, watch() as seen:
        for name, case in cases.items():
            servers[name] = server = stack.enter_context(BlobServer())
            server.require_sas = {"sig": SIGNATURE}
            case.fault(server)
        leaks = Leaks()
        _join([threading.Thread(target=act, args=[name]) for name in cases])
        for name, end in sorted(ends.items(), key=lambda item: item[1].seconds):
            print(f"{name}: {type(end.error).__name__} after {end.seconds:.1f} s and {end.requests} requests")
        leaks.wait()
        assert leaks.memory() == 0
        run(aclose)
        for name, server in servers.items():
            if cases[name].deaf:
                server.drop_connections()
            server.wait_closed()
            assert not server.malformed
            assert not server.errors
    assert not seen.alarms
    errors = [end.error for end in ends.values() if end.error is not None]
    assert not found_in([*seen.texts(), *(text for error in errors for text in texts_of(error))])
    return ends


def _join(threads: Iterable[threading.Thread]) -> None:
    started = [*threads]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
