"""No secret comes out of a DataLoader: not of its workers' logs, nor of the errors that they send home."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from azure.core.credentials import AzureNamedKeyCredential

from azstoragetorch._values.table import BlobTable
from azstoragetorch._values.url import ContainerUrl
from azstoragetorch.datasets import BlobDataset, IterableBlobDataset
from azstoragetorch.listing import BlobListing
from tests.blobserver import BlobServer, CutBody, Drop, Status, on
from tests.processes.script import Script
from tests.secrets.canaries import KEY, SIGNATURE, TOKEN, found_in, texts_of
from tests.torch.datasets.child import names
from tests.torch.datasets.program import FLAGS, put

pytestmark = pytest.mark.timeout(180)


@pytest.mark.parametrize(
    ("method", "accesses", "fault"),
    [
        ("fork", ["token", "in_url"], None),
        ("fork", ["key", "sas"], None),
        ("fork", ["token", "in_url"], "403"),
        ("fork", ["token", "key"], "cut"),
        ("spawn", ["token"], None),
        ("spawn", ["in_url"], "403"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else str(value),
)
def test_workers_show_no_secret(
    server: BlobServer, tmp_path: Path, method: str, accesses: list[str], fault: str | None
) -> None:
    """A training job's log goes to whoever may look at the cluster. asyncio's debug mode is on in each process."""
    put(server, *names(6))
    if fault == "403":
        server.fault(on("GET", ""), Status(403, "AuthenticationFailed"), nth=4, times=None)
    elif fault == "cut":
        server.fault(on("GET", ""), CutBody(0), Drop(), times=2)
    (tmp_path / "job.json").write_text(
        json.dumps({"container_url": server.container_url, "method": method, "accesses": accesses}), encoding="utf-8"
    )
    source = f"""
        if __name__ == "__main__":
            from tests.torch.datasets.loaded import main
            main({str(tmp_path / "job.json")!r})
        """
    with Script(source, tmp_path, server, flags=["-X", "dev", *FLAGS]) as script:
        ended = script.end()
    said = ended.stderr.splitlines()

    assert ended.status == 0, ended.stderr
    assert ended.lines == ["end"]
    assert "DEBUG:application:worker 0" in ended.stderr
    assert any(line.startswith("failed ") for line in said)
    assert not found_in(said)
    used = {record.query["sig"] for record in server.requests() if "sig" in record.query}
    sent = {record.headers["authorization"] for record in server.requests() if "authorization" in record.headers}
    assert sent == ({f"Bearer {TOKEN}"} if "token" in accesses else set())
    assert (SIGNATURE in used) == bool({"in_url", "sas"} & set(accesses))
    used |= {quote(signature, safe="") for signature in used}
    assert not [line for line in said if any(signature in line for signature in used)]


@pytest.mark.parametrize("face", [BlobDataset, IterableBlobDataset])
@pytest.mark.parametrize("credential", [None, AzureNamedKeyCredential("account", KEY)], ids=["token", "key"])
def test_datasets_refuse_tokens_and_keys_over_plain_http(face: Any, credential: Any) -> None:
    """Before anything is sent, and before the workers that would send it are started."""
    url = "http://account.blob.core.windows.net/data"
    listing = BlobListing(ContainerUrl.parse(url), BlobTable.of([]))
    makers: list[Callable[[], object]] = [
        lambda: face.from_container_url(url, credential=credential),
        lambda: face.from_blob_urls([f"{url}/a"], credential=credential),
        lambda: face.from_listing(listing, credential=credential),
    ]
    if face is IterableBlobDataset:
        makers.append(lambda: face.from_container_url(url, credential=credential, lazy=True))
    for make in makers:
        with pytest.raises(ValueError, match="never sent over plain http") as caught:
            make()
        assert not found_in(texts_of(caught.value))
