"""Reads with ``verify="range"``: answers whose bytes are not those of the service."""

from __future__ import annotations

__all__ = ["VERIFIED"]

from dataclasses import replace

from azstoragetorch.exceptions import BlobIntegrityError
from tests.blobserver import CutBody, FlipBit, Header, Status, on
from tests.faults.case import Case, KiB, Table, raises
from tests.faults.reading import FOREVER, MANY, PARTS, READS, SHORT, broken, later, spoil
from tests.faults.scene import Scene

NO_CRC64 = Header("x-ms-content-crc64", None)
NO_MD5 = Header("Content-MD5", None)


def _refuse_crc64(scene: Scene) -> None:
    refused = on("GET", when=lambda request: "x-ms-range-get-content-crc64" in request.headers)
    scene.server.fault(refused, Status(500, "FeatureNotSupported"), times=None)


def _verified(case: Case) -> Case:
    return replace(case, options=replace(case.options, verify="range"))


VERIFIED = Table(
    "reads-verified",
    tuple(
        _verified(case)
        for case in (
            *broken("a flipped bit", FlipBit(30 * KiB), BlobIntegrityError),
            Case(
                name="a flipped bit, once for a range of many",
                fault=later(FlipBit(30 * KiB)),
                size=MANY,
                requests=12,
                uses=PARTS,
            ),
            Case(
                name="connection closed within the body, once",
                fault=spoil(CutBody(20 * KiB, "close")),
                requests=2,
                uses=READS,
                seconds=1,
            ),
            Case(
                name="service or gateway that sends no CRC64, but MD5",
                fault=spoil(NO_CRC64, times=None),
                requests=(1, 2),
                uses=READS,
                seconds=1,
            ),
            Case(
                name="service that refuses CRC64, but computes MD5 (Azurite)",
                fault=_refuse_crc64,
                requests=(1, 2),
                uses=READS,
                seconds=1,
            ),
            Case(
                name="service or gateway that sends no checksum",
                fault=spoil(NO_CRC64, NO_MD5, times=None),
                options=SHORT,
                outcome=raises(BlobIntegrityError),
                requests=(1, 2),
                uses=FOREVER,
                seconds=1,
            ),
        )
    ),
)
