"""Writes of a blob that somebody else holds, or has left something of."""

from __future__ import annotations

__all__ = ["FOREIGN"]

from collections.abc import Callable, Iterator
from typing import Any

from azure.storage.blob import BlobClient

from azstoragetorch.exceptions import BlobExistsError, BlobServiceError, FatalBlobIOWriteError
from tests.faults.case import WRITTEN, Case, Outcome, Result, Service, Table, Use, kept
from tests.faults.scene import Scene
from tests.faults.writing import CREATES, FLUSHED, WRITES, small


def _sdk(action: Callable[[Scene, BlobClient], object]) -> Any:
    """Return a fault that somebody with another tool leaves."""

    return lambda scene: scene.by_another_tool(lambda blob: action(scene, blob))


def _leased(scene: Scene, blob: BlobClient) -> None:
    blob.acquire_lease(15)


def _leased_at_commit(scene: Scene) -> None:
    scene.meanwhile = lambda: _sdk(_leased)(scene)


def _page_blob(scene: Scene, blob: BlobClient) -> None:
    blob.delete_blob()
    blob.create_page_blob(len(scene.content))
    blob.upload_page(scene.content, 0, len(scene.content))


def _append_blob(scene: Scene, blob: BlobClient) -> None:
    blob.delete_blob()
    blob.create_append_blob()
    blob.append_block(scene.content)


def _is_block_blob(scene: Scene, result: Result) -> None:
    assert scene.by_another_tool(lambda blob: blob.get_blob_properties().blob_type) == "BlockBlob"


def _blocks(length: int) -> Any:
    return _sdk(lambda scene, blob: blob.stage_block("0" * length, b"left by another tool"))


def _foreign(service: Service) -> Iterator[Case]:
    where = ", Azurite" if service == "azurite" else ""
    yield Case(
        name=f"uncommitted blocks of another tool, ids of another length{where}",
        fault=_blocks(8),
        service=service,
        outcome=kept(FatalBlobIOWriteError),
        requests=(1, 4),
        uses=WRITES,
        seconds=2,
        again=False,
    )
    yield Case(
        name=f"uncommitted blocks of another tool, ids of the same length{where}",
        fault=_blocks(36),
        service=service,
        outcome=WRITTEN,
        requests=8,
        uses=WRITES,
        seconds=2,
    )
    yield Case(
        name=f"uncommitted blocks of another tool, content of one request{where}",
        fault=small(_blocks(8)),
        service=service,
        outcome=WRITTEN,
        requests=1,
        uses=WRITES,
        seconds=2,
    )


def _emulated(name: str, fault: Any, error: type[Exception], uses: tuple[Use, ...] = WRITES, **more: Any) -> Case:
    values: dict[str, Any] = {"requests": (1, 4), "seconds": 2, "again": False}
    return Case(name=name, fault=fault, service="azurite", outcome=kept(error), uses=uses, **{**values, **more})


FOREIGN = Table(
    "writes-foreign",
    (
        *_foreign("scripted"),
        *_foreign("azurite"),
        _emulated("a lease is held, blocks", _sdk(_leased), FatalBlobIOWriteError),
        _emulated("a lease is held, one request", small(_sdk(_leased)), BlobServiceError, requests=1),
        _emulated(
            "a lease is taken before the commit",
            _leased_at_commit,
            BlobServiceError,
            (FLUSHED,),
            requests=2,  # the commit, and the question whether an unseen first one had won
        ),
        _emulated("a page blob of that name, blocks", _sdk(_page_blob), FatalBlobIOWriteError),
        _emulated("an append blob of that name, blocks", _sdk(_append_blob), FatalBlobIOWriteError),
        _emulated("a page blob of that name, `xb`", _sdk(_page_blob), BlobExistsError, CREATES, requests=1),
        *[
            Case(
                name=f"{what} of that name, one request",
                fault=small(_sdk(make)),
                service="azurite",
                outcome=Outcome("committed, it is a block blob now", None, "new"),
                requests=1,
                uses=WRITES,
                seconds=2,
                check=_is_block_blob,
            )
            for what, make in (("a page blob", _page_blob), ("an append blob", _append_blob))
        ],
    ),
)
