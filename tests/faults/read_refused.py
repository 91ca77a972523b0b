"""Reads that the service refuses, and reads of many of which it refuses some."""

from __future__ import annotations

__all__ = ["REFUSED"]

import random
import threading
from contextlib import closing
from dataclasses import replace

from azstoragetorch import TransferOptions
from azstoragetorch._data.blob import Blob
from azstoragetorch._values.url import BlobUrl
from azstoragetorch.exceptions import (
    BlobAccessError,
    BlobModifiedError,
    BlobNotFoundError,
    BlobServiceError,
    ContainerNotFoundError,
)
from tests.blobserver import Action, Call, Hold, Status, on
from tests.blobserver.wire import Request
from tests.faults.case import BRIEF, Case, KiB, Result, Table, Use, raises
from tests.faults.reading import FILES, MANY, READS, THIRD, loading, spoil
from tests.faults.scene import Scene

SAMPLES = 300
AT_ONCE = 32


def _small(scene: Scene, result: Result) -> None:
    assert len(str(result.error)) < 600, "a page of a proxy is in the message"


def _refused(name: str, action: Action, error: type[Exception]) -> Case:
    fault = spoil(action, times=None)
    return Case(name=name, fault=fault, outcome=raises(error), requests=1, uses=READS, seconds=1, check=_small)


def _fail_one(scene: Scene) -> None:
    """Refuse the third range while the others are under way: they must end before the error is raised."""
    held = Hold()
    scene.server.fault(THIRD, Status(403, "AuthenticationFailed"), times=None)
    scene.server.fault(on("GET", when=_is_later), held, times=None)
    scene.finally_(held.release)


def _is_later(request: Request) -> bool:
    bounds = request.range()
    return bounds is not None and bounds[0] >= 3 * 64 * KiB


def _siblings_ended(scene: Scene, result: Result) -> None:
    # They are held back until the scene ends, so nothing but being given up can have ended them.
    scene.server.wait_idle(5)


def _read_many(scene: Scene, options: TransferOptions) -> bytes:
    made = loading(scene, options, prefetch=AT_ONCE)
    blobs = [Blob(BlobUrl.parse(scene.url_of(f"sample {number}")), made.access) for number in range(SAMPLES)]
    with closing(made.samples(blobs)) as samples:
        return b"".join(sample["data"] for sample in samples)


def _busy_sometimes(scene: Scene) -> None:
    for number in range(SAMPLES):
        scene.server.put(f"sample {number}", scene.content[number * 100 :])
    scene.expected = b"".join(scene.content[number * 100 :] for number in range(SAMPLES))
    dice, lock = random.Random(17), threading.Lock()

    def unlucky(request: Request) -> bool:
        with lock:
            return dice.random() < 0.3

    # The first are answered when all of them are there, however slowly a busy machine opens connections.
    together = threading.Barrier(AT_ONCE, timeout=5)
    scene.server.fault("GET", Call(together.wait), times=AT_ONCE)
    scene.server.fault(on("GET", when=unlucky), Status(503, "ServerBusy"), times=None)


def _many_at_once(scene: Scene, result: Result) -> None:
    assert scene.server.peak_requests == AT_ONCE


MANY_SAMPLES = Use(f"dataset of {SAMPLES} blobs", _read_many)

REFUSED = Table(
    "reads-refused",
    (
        _refused("400", Status(400, "InvalidHeaderValue"), BlobServiceError),
        _refused("401, no credential", Status(401, "NoAuthenticationInformation"), BlobAccessError),
        _refused("403, wrong credential", Status(403, "AuthenticationFailed"), BlobAccessError),
        _refused("403, right missing", Status(403, "AuthorizationPermissionMismatch"), BlobAccessError),
        _refused("403 of a proxy: a page of HTML", Status(403, "", body=b"<html>" * 100_000), BlobAccessError),
        _refused("404, no such blob", Status(404, "BlobNotFound"), BlobNotFoundError),
        _refused("404, no such container", Status(404, "ContainerNotFound"), ContainerNotFoundError),
        _refused("409, blob in the archive tier", Status(409, "BlobArchived"), BlobServiceError),
        _refused("412", Status(412, "ConditionNotMet"), BlobModifiedError),
        _refused("501", Status(501, ""), BlobServiceError),
        Case(
            name="403 for one of many ranges while others are under way",
            fault=_fail_one,
            outcome=raises(BlobAccessError),
            size=MANY,
            options=replace(BRIEF, deadline=20, idle_timeout=20),
            requests=(3, 8),
            uses=FILES,
            seconds=5,
            check=_siblings_ended,
        ),
        Case(
            name="503 for 30 % of the requests",
            fault=_busy_sometimes,
            options=replace(BRIEF, deadline=30, idle_timeout=10, memory_budget=32 * 1024 * KiB),
            requests=(SAMPLES + 50, 3 * SAMPLES),
            uses=(MANY_SAMPLES,),
            # Three times the most that two busy cores took, 5 to 15 s: the rate falls once before it shows that this
            # does not help.
            seconds=45,
            check=_many_at_once,
        ),
    ),
)
