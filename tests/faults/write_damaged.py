"""Writes of which a bit flips on the way to the service."""

from __future__ import annotations

__all__ = ["DAMAGED"]

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from azstoragetorch.exceptions import BlobServiceError, FatalBlobIOWriteError
from tests.blobserver import Match
from tests.faults.case import BRIEF, WRITTEN, Case, Result, Table, kept
from tests.faults.scene import Scene
from tests.faults.writing import PUT_BLOB, PUT_BLOCK, PUT_BLOCK_LIST, WRITE, WRITES, FlipUpload, small


def _flipped(code: str, times: int = 1) -> Any:
    def check(scene: Scene, result: Result) -> None:
        refused = [record.error_code for record in result.records if record.status == 400]
        assert refused[:times] == [code] * times

    return check


def _damaged() -> Iterator[Case]:
    places: tuple[tuple[str, Match, int | bytes, Any, int, type[Exception]], ...] = (
        ("block", PUT_BLOCK, 100, lambda fault: fault, 8, FatalBlobIOWriteError),
        # The second of seven block ids becomes the third: without a checksum the service would take it.
        ("list of blocks", PUT_BLOCK_LIST, b"MDAx", lambda fault: fault, 8, BlobServiceError),
        ("single request", PUT_BLOB, 100, small, 1, BlobServiceError),
    )
    for what, match, at, begin, requests, error in places:
        for checksum in ("md5", "crc64"):

            def flip(scene: Scene, times: int | None = 1, match: Match = match, at: int | bytes = at) -> None:
                scene.server.fault(match, FlipUpload(at), times=times)

            def always(scene: Scene, flip: Any = flip) -> None:
                flip(scene, None)

            code = "Crc64Mismatch" if checksum == "crc64" and what != "list of blocks" else "Md5Mismatch"
            options = replace(BRIEF, checksum=checksum)
            yield Case(
                name=f'bit flipped in the {what}, once, `checksum="{checksum}"`',
                fault=begin(flip),
                outcome=WRITTEN,
                options=options,
                requests=requests + 1,
                uses=WRITES,
                seconds=1.5,
                check=_flipped(code),
            )
            yield Case(
                name=f'bit flipped in the {what}, always, `checksum="{checksum}"`',
                fault=begin(always),
                outcome=kept(error),
                options=options,
                requests=(3, 40),
                uses=(WRITE,),
                seconds=3,
                check=_flipped(code, 2),
            )
    yield Case(
        name='bit flipped in a block behind TLS, once, `checksum="md5"`',
        fault=lambda scene: scene.server.fault(PUT_BLOCK, FlipUpload(100)),
        service="tls",
        outcome=WRITTEN,
        options=replace(BRIEF, checksum="md5"),
        requests=9,
        uses=WRITES,
        seconds=2,
        check=_flipped("Md5Mismatch"),
    )


DAMAGED = Table("writes-damaged", tuple(_damaged()))
