"""Writes over connections that break within large blocks, are slow, or carry many requests of which one fails."""

from __future__ import annotations

__all__ = ["SENDING"]

import random
import socket
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from azstoragetorch.exceptions import BlobRequestError, BlobTimeoutError, FatalBlobIOWriteError
from tests.blobserver import CutUpload, Hold, Match, StallUpload, Status, on
from tests.faults.case import BRIEF, WRITTEN, Case, Table, kept
from tests.faults.scene import Scene
from tests.faults.writing import FLUSHED, PARTS, PUT_BLOB, PUT_BLOCK, RESTARTED, WRITE, WRITES, TrickleUpload


def _cut(what: str, match: Match, size: int, requests: int) -> Iterator[Case]:
    """Cut what is sent at several places; the second attempt begins at the first byte again."""

    def cut(after: int, how: Any) -> Any:
        def fault(scene: Scene) -> None:
            scene.written = random.Random(1).randbytes(size)
            scene.server.fault(match, CutUpload(after, how), times=2)

        return fault

    for how in ("reset", "close"):
        for after in (0, 1, 300_000, 899_999):
            yield Case(
                name=f"{what}: connection {how.replace('close', 'closed')} after {after:,} bytes of 1,000,000, twice",
                fault=cut(after, how),
                outcome=WRITTEN,
                options=replace(BRIEF, block_size=1_000_000, memory_budget=8_000_000, idle_timeout=2, deadline=10),
                requests=requests + 2,
                uses=(WRITE,),
                seconds=3,
            )


def _large(scene: Scene) -> None:
    # More than the buffers of a socket hold, so that the client still sends when the service reads no more.
    scene.written = bytes(range(256)) * (40 * 1024)
    scene.server.fault(PUT_BLOCK, StallUpload(1000))


def _trickle(match: Match, times: int | None = 1) -> Any:
    def fault(scene: Scene) -> None:
        scene.written = bytes(range(256)) * (40 * 1024)
        scene.server.fault(match, TrickleUpload(100_000), times=times)

    return fault


def _gone_before_the_commit(scene: Scene) -> None:
    def leave() -> None:
        scene.server.close()
        # So that nobody else gets the port: it refuses while nobody listens.
        kept = socket.socket()
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind(("127.0.0.1", scene.server.port))
        scene.finally_(kept.close)

    scene.meanwhile = leave


def _slow(scene: Scene) -> None:
    scene.written = bytes(range(256)) * (40 * 1024)
    scene.server.bandwidth = 100_000


def _idle_close(scene: Scene) -> None:
    def closed() -> None:
        scene.server.wait_idle()
        scene.server.drop_connections()
        scene.server.wait_closed()

    scene.meanwhile = closed


def _one_of_many(scene: Scene) -> None:
    # Its siblings are still under way when it is refused: they have to end before the error is raised.
    scene.server.fault(PUT_BLOCK, Status(403, "AuthorizationFailure"), nth=3)
    scene.server.fault(PUT_BLOCK, Hold(), times=None)


def _third(scene: Scene) -> None:
    dice = random.Random(5)
    scene.server.fault(on(when=lambda _: dice.random() < 0.3), Status(503, "ServerBusy"), times=None)


SENDING = Table(
    "writes-connection",
    (
        *_cut("Put Block", PUT_BLOCK, 2_500_000, 4),
        *_cut("Put Blob", PUT_BLOB, 1_000_000, 1),
        Case(
            name="Put Block: the connection takes nothing more within a block of 8 MiB, once",
            fault=_large,
            outcome=WRITTEN,
            options=replace(BRIEF, block_size=8 << 20, memory_budget=32 << 20, deadline=10),
            requests=4,
            uses=(RESTARTED,),
            seconds=5,
        ),
        Case(
            name="Put Block: the connection takes less than `min_rate`, blocks of 8 MiB, always",
            fault=_slow,
            outcome=kept(FatalBlobIOWriteError),
            options=replace(BRIEF, block_size=8 << 20, memory_budget=32 << 20, min_rate=4 << 20),
            requests=(2, 8),
            uses=(RESTARTED,),
            seconds=5,
            again=False,
        ),
        Case(
            name="Put Block: the connection takes less than `min_rate`, a block of 8 MiB, once",
            fault=_trickle(PUT_BLOCK),
            outcome=WRITTEN,
            options=replace(BRIEF, block_size=8 << 20, memory_budget=32 << 20, min_rate=1 << 20, deadline=10),
            requests=4,
            uses=(RESTARTED,),
            seconds=5,
        ),
        *[
            Case(
                name=f"Put Blob: the connection takes less than `min_rate`, 10 MiB, {times}",
                fault=fault,
                outcome=outcome,
                options=replace(
                    BRIEF, block_size=16 << 20, memory_budget=64 << 20, min_rate=1 << 20, deadline=deadline
                ),
                requests=requests,
                uses=(RESTARTED,),
                seconds=5,
                again=False,
            )
            for times, fault, outcome, requests, deadline in (
                ("once", _trickle(PUT_BLOB), WRITTEN, 2, 10),
                # Each attempt costs an `idle_timeout` and a wait; what became of the last one is asked.
                ("always", _trickle(PUT_BLOB, times=None), kept(BlobTimeoutError), (3, 8), 2),
            )
        ],
        Case(
            name="the host is gone when the blocks are staged",
            fault=_gone_before_the_commit,
            outcome=kept(BlobRequestError),
            requests=4,
            uses=(FLUSHED,),
            seconds=4,
            again=False,
        ),
        Case(
            name="connections of 200 kB a second",
            fault=lambda scene: setattr(scene.server, "bandwidth", 200_000),
            outcome=WRITTEN,
            requests=8,
            uses=WRITES,
            seconds=3,
        ),
        Case(
            name="idle connections closed by the service between two blocks",
            fault=_idle_close,
            outcome=WRITTEN,
            requests=(8, 14),
            uses=(PARTS,),
            seconds=2,
        ),
        Case(
            name="one of four blocks under way is refused",
            fault=_one_of_many,
            outcome=kept(FatalBlobIOWriteError),
            requests=(3, 4),
            uses=WRITES,
            seconds=1.5,
        ),
        Case(
            name="30 % of all requests answered by 503",
            fault=_third,
            outcome=WRITTEN,
            options=replace(BRIEF, deadline=10),
            requests=(8, 40),
            uses=WRITES,
            seconds=8,
        ),
    ),
)
