"""Reads from Azurite over a network that breaks."""

from __future__ import annotations

__all__ = ["AZURITE"]

import gzip
from dataclasses import replace

from azure.storage.blob import ContentSettings

from azstoragetorch import TransferOptions
from azstoragetorch.exceptions import (
    BlobAccessError,
    BlobIntegrityError,
    BlobModifiedError,
    BlobNotFoundError,
    BlobResponseError,
    BlobServiceError,
    BlobTimeoutError,
)
from tests.blobserver import Action, Call, CutBody, Delay, Drop, Garbage, Hang, Header, ShortBody, StallBody, Status
from tests.faults.case import BRIEF, Case, Result, Table, raises
from tests.faults.reading import FILE, FILES, LISTED, MANY, READS, THIRD, spoil
from tests.faults.scene import Scene


def _azurite(name: str, action: Action, *others: Action, requests: int = 2) -> Case:
    fault = spoil(action, *others)
    return Case(name=name, fault=fault, service="azurite", requests=requests, uses=READS, seconds=3)


def _azurite_always(name: str, action: Action, error: type[Exception], requests: tuple[int, int] = (2, 16)) -> Case:
    return Case(
        name=f"{name}, always",
        fault=spoil(action, times=None),
        service="azurite",
        outcome=raises(error),
        requests=requests,
        uses=(FILE,),
        seconds=3,
    )


def _gzip_blob(scene: Scene) -> None:
    scene.content = scene.expected = gzip.compress(scene.content)
    scene.etag = scene.by_another_tool(
        lambda blob: blob.upload_blob(
            scene.content, overwrite=True, content_settings=ContentSettings(content_encoding="gzip")
        )
    )["etag"]


def _said_gzip(scene: Scene, result: Result) -> None:
    settings = scene.by_another_tool(lambda blob: blob.get_blob_properties().content_settings)
    assert settings.content_encoding == "gzip"


def _replace_on_azurite(scene: Scene) -> None:
    scene.server.fault(THIRD, Call(lambda: scene.put(bytes(MANY))))


def _delete_on_azurite(scene: Scene) -> None:
    scene.by_another_tool(lambda blob: blob.delete_blob())


AZURITE = Table(
    "reads-azurite",
    (
        _azurite("connection reset before an answer", Drop("reset")),
        _azurite("connection closed within the body", CutBody(20_000, "close")),
        _azurite("connection reset within the body", CutBody(20_000, "reset")),
        _azurite("body shorter than the range, Content-Length agrees", ShortBody(1)),
        _azurite("no Content-Range", Header("Content-Range", None)),
        _azurite("an answer that is not HTTP", Garbage()),
        _azurite("no answer", Hang()),
        _azurite("nothing more within the body", StallBody(20_000)),
        # One request has to do, so what counts as silence is longer than a busy machine pauses.
        replace(
            _azurite("answer 0.2 s late", Delay(0.2), requests=1), options=replace(BRIEF, idle_timeout=2, deadline=5)
        ),
        _azurite("503 ServerBusy", Status(503, "ServerBusy")),
        _azurite_always("connection closed before an answer", Drop("close"), BlobResponseError),
        Case(
            name="connection closed before the body, always, with the default limits",
            fault=spoil(CutBody(0, "close"), times=None),
            service="azurite",
            options=TransferOptions(),
            outcome=raises(BlobResponseError),
            # The deadline is far away. Seven waits of at most 0.1, 0.2, ... 6.4 s.
            requests=8,
            uses=(FILE,),
            seconds=14,
        ),
        _azurite_always("body shorter than the range, Content-Length agrees", ShortBody(1), BlobIntegrityError),
        _azurite_always("no answer", Hang(), BlobTimeoutError),
        _azurite_always("503 ServerBusy", Status(503, "ServerBusy"), BlobServiceError, (2, 30)),
        Case(
            name="no such blob",
            fault=lambda scene: None,
            service="azurite",
            exists=False,
            outcome=raises(BlobNotFoundError),
            requests=1,
            uses=READS[:3],
            seconds=2,
            again=False,
        ),
        # Here If-Match is looked at before whether there is a blob; the scripted service answers 404.
        Case(
            name="blob deleted since it was listed",
            fault=_delete_on_azurite,
            service="azurite",
            outcome=raises(BlobModifiedError),
            requests=1,
            uses=(LISTED,),
            seconds=2,
            again=False,
        ),
        Case(
            name="SAS with another signature",
            fault=lambda scene: scene.give_wrong_credential(),
            service="azurite",
            outcome=raises(BlobAccessError),
            requests=1,
            uses=FILES,
            seconds=2,
        ),
        Case(
            name="blob that is gzip, and says so in its Content-Encoding",
            fault=_gzip_blob,
            service="azurite",
            requests=1,
            uses=READS,
            seconds=2,
            check=_said_gzip,
            again=False,
        ),
        Case(
            name="blob replaced between two ranges",
            fault=_replace_on_azurite,
            service="azurite",
            outcome=raises(BlobModifiedError),
            size=MANY,
            requests=(3, 12),
            uses=FILES,
            again=False,
        ),
    ),
)
