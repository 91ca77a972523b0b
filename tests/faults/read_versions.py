"""Reads of a blob that somebody else changes meanwhile."""

from __future__ import annotations

__all__ = ["VERSIONS"]

from collections.abc import Callable
from dataclasses import replace

from azstoragetorch.exceptions import BlobModifiedError, BlobNotFoundError
from tests.blobserver import Call, CutBody, Header, synthetic_bytes
from tests.faults.case import BRIEF, Case, Table, raises
from tests.faults.reading import FILES, LISTED, MANY, PARTS, READS, THIRD, TWICE, later
from tests.faults.scene import Scene


def _replace_before(size: int) -> Callable[[Scene], object]:
    def fault(scene: Scene) -> None:
        scene.server.fault(THIRD, Call(lambda: scene.put(bytes(size))))

    return fault


def _delete_before(scene: Scene) -> None:
    scene.server.fault(THIRD, Call(scene.delete))


def _replace_and_cut(scene: Scene) -> None:
    scene.server.fault(THIRD, CutBody(40_000, "close"), Call(lambda: scene.put(bytes(MANY)), after=True))


def _replace_between(size: int) -> Callable[[Scene], object]:
    def fault(scene: Scene) -> None:
        scene.meanwhile = lambda: scene.put(bytes(size))

    return fault


def _delete_between(scene: Scene) -> None:
    scene.meanwhile = scene.delete


def _listed_before(scene: Scene) -> None:
    scene.put(synthetic_bytes(0, len(scene.content), seed=1))


VERSIONS = Table(
    "reads-versions",
    (
        *[
            Case(
                name=f"blob replaced by {what} between two ranges",
                fault=_replace_before(size),
                outcome=raises(BlobModifiedError),
                size=MANY,
                requests=(3, 12),
                uses=PARTS,
                again=False,
            )
            for what, size in (
                ("one as large", MANY),
                ("a smaller one", 100),
                ("a larger one", 3 * MANY),
                ("an empty one", 0),
            )
        ],
        Case(
            name="blob deleted between two ranges",
            fault=_delete_before,
            outcome=raises(BlobNotFoundError),
            size=MANY,
            requests=(3, 12),
            uses=PARTS,
            again=False,
        ),
        Case(
            name="blob replaced while the rest of a cut range is asked for",
            fault=_replace_and_cut,
            outcome=raises(BlobModifiedError),
            size=MANY,
            requests=(4, 13),
            uses=FILES,
            again=False,
        ),
        Case(
            name="If-Match ignored, ETag of another version",
            fault=later(Header("ETag", '"0x8D0000000000000"')),
            outcome=raises(BlobModifiedError),
            size=MANY,
            requests=(3, 12),
            uses=PARTS,
        ),
        *[
            Case(
                name=f"blob replaced by {what} between two reads",
                fault=_replace_between(size),
                outcome=raises(BlobModifiedError),
                size=MANY,
                options=replace(BRIEF, readahead=0),
                requests=(2, 8),
                uses=(TWICE,),
                again=False,
            )
            for what, size in (("one as large", MANY), ("a smaller one", 100), ("an empty one", 0))
        ],
        Case(
            name="blob deleted between two reads",
            fault=_delete_between,
            outcome=raises(BlobNotFoundError),
            size=MANY,
            options=replace(BRIEF, readahead=0),
            requests=(2, 8),
            uses=(TWICE,),
            again=False,
        ),
        Case(
            name="blob replaced since it was listed",
            fault=_listed_before,
            outcome=raises(BlobModifiedError),
            requests=1,
            uses=(LISTED,),
            again=False,
        ),
        Case(
            name="blob deleted since it was listed",
            fault=lambda scene: scene.delete(),
            outcome=raises(BlobNotFoundError),
            requests=1,
            uses=READS,
            again=False,
        ),
    ),
)
