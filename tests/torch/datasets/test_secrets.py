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
from azstoragetorch.exceptions import BlobAccessError, BlobResponseError, BlobServiceError, BlobTimeoutError
from azstoragetorch.listing import BlobListing
from tests.blobserver import Action, BlobServer, CutBody, Drop, Garbage, Hang, Redirect, Status, on
from tests.processes.script import Script
from tests.secrets.canaries import KEY, SIGNATURE, TOKEN, found_in, texts_of
from tests.torch.datasets.child import names
from tests.torch.datasets.program import FLAGS, put

pytestmark = pytest.mark.timeout(180)


FAULTS: dict[str, tuple[Action, type[Exception]]] = {
    "faulty/refused": (Status(403, "AuthenticationFailed"), BlobAccessError),
    "faulty/busy": (Status(503, "ServerBusy"), BlobServiceError),
    "faulty/echoing": (
        Status(400, "InvalidUri", body=f"The URI ?sig={SIGNATURE} is wrong, Bearer {TOKEN}".encode()),
        BlobServiceError,
    ),
    "faulty/redirected": (Redirect("http://127.0.0.1:1/elsewhere"), BlobServiceError),
    "faulty/not-http": (Garbage(), BlobResponseError),
    "faulty/cut": (CutBody(10), BlobResponseError),
    "faulty/silent": (Hang(), BlobTimeoutError),
}
"""Each always, and each of a blob of its own, so that one program meets them all."""


@pytest.mark.parametrize(
    ("method", "accesses"),
    [("fork", ["token", "in_url"]), ("fork", ["key", "sas"]), ("spawn", ["token", "key"])],
    ids=lambda value: "-".join(value) if isinstance(value, list) else str(value),
)
def test_workers_show_no_secret(server: BlobServer, tmp_path: Path, method: str, accesses: list[str]) -> None:
    """A training job's log goes to whoever may look at the cluster. asyncio's debug mode is on in each process."""
    put(server, *names(6), *FAULTS)
    for name, (action, _) in FAULTS.items():
        server.fault(on("GET", blob=name), action, times=None)
    for action in (CutBody(0), Drop()):
        server.fault(on("GET", ""), action)
    job = {"container_url": server.container_url, "method": method, "accesses": accesses, "faulty": list(FAULTS)}
    (tmp_path / "job.json").write_text(json.dumps(job), encoding="utf-8")
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
    failed = [line for line in said if line.startswith("failed ")]
    assert bool(failed) == (method == "fork")
    skipped = [line for line in said if "skipped http" in line]
    for name, (_, error) in FAULTS.items():
        told = [line.split()[1] for line in failed if f"/{name}" in line]
        assert len(told) == (len(accesses) if method == "fork" else 0), (name, failed)
        # A machine that is busy at the deadline may not have got as far.
        assert set(told) <= {error.__name__, BlobTimeoutError.__name__}, (name, failed)
        assert len([line for line in skipped if f"/{name}:" in line]) == len(accesses)
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
