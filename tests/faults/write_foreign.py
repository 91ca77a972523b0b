"""Writes of a blob that somebody else holds, or has left something of."""

from __future__ import annotations

__all__ = ["FOREIGN"]

import logging
from collections.abc import Callable, Iterator
from typing import Any

from azure.storage.blob import BlobClient

from azstoragetorch import TransferOptions
from azstoragetorch.exceptions import BlobServiceError, FatalBlobIOWriteError
from azstoragetorch.io import BlobIO
from tests.faults.case import WRITTEN, Case, Service, Table, Use, kept
from tests.faults.scene import Scene
from tests.faults.writing import WRITES, small


def _sdk(action: Callable[[Scene, BlobClient], object]) -> Any:
    """Return a fault that somebody with another tool leaves."""

    def fault(scene: Scene) -> None:
        logging.disable()  # this other tool writes the signature to its log, and that is not the question here
        try:
            with BlobClient.from_blob_url(scene.url) as blob:
                action(scene, blob)
        finally:
            logging.disable(logging.NOTSET)
        scene.server.clear()

    return fault


def _leased(scene: Scene, blob: BlobClient) -> None:
    blob.acquire_lease(15)


def _leased_at_commit(scene: Scene) -> None:
    scene.meanwhile = lambda: _sdk(_leased)(scene)


def _flushed(scene: Scene, options: TransferOptions) -> None:
    with BlobIO(scene.url, "wb", options=options) as file:
        file.write(scene.written[: 4 * options.block_size])
        file.flush()
        scene.meanwhile()


def _page_blob(scene: Scene, blob: BlobClient) -> None:
    blob.delete_blob()
    blob.create_page_blob(len(scene.content))
    blob.upload_page(scene.content, 0, len(scene.content))


def _append_blob(scene: Scene, blob: BlobClient) -> None:
    blob.delete_blob()
    blob.create_append_blob()
    blob.append_block(scene.content)


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
            (Use("BlobIO wb", _flushed, again=False),),
            requests=2,  # the commit, and the question whether an unseen first one had won
        ),
        _emulated("a page blob of that name, blocks", _sdk(_page_blob), FatalBlobIOWriteError),
        _emulated("an append blob of that name, blocks", _sdk(_append_blob), FatalBlobIOWriteError),
    ),
)
