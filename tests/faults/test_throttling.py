"""A service that refuses what is too much is used to what it admits, by processes that know nothing of each other."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from azstoragetorch import TransferOptions
from azstoragetorch.aio import AsyncBlobIO
from azstoragetorch.exceptions import BlobServiceError
from tests.blobserver import BlobServer, ServerProcess, Status, on
from tests.faults.throttled import SAMPLE_SIZE

pytestmark = pytest.mark.timeout(120)

ROOT = Path(__file__).parents[2]
ADMITTED = 200.0
"""Requests a second."""
SETTLED = 5.0
"""Seconds after which the processes must have found their rates."""
MEASURED = 12.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What a service saw of its clients after they had settled."""

    useful: float
    """Part of the admitted rate that was used."""
    refused: float
    """Part of the requests that were refused."""


def measured(records: list[dict[str, Any]]) -> Measured:
    """Look at the requests of ``MEASURED`` seconds."""
    since = min(record["started"] for record in records) + SETTLED
    settled = [record["status"] for record in records if 0 <= record["started"] - since < MEASURED]
    admitted = sum(status != 503 for status in settled)
    return Measured(admitted / MEASURED / ADMITTED, 1 - admitted / len(settled))


def played() -> Measured:
    """Let four processes ask for all they can get."""
    with ServerProcess() as server:
        server.put_synthetic(*((f"sample-{number}", SAMPLE_SIZE) for number in range(8)))
        server.admit(ADMITTED, burst=20)
        command = [sys.executable, "-m", "tests.faults.throttled", server.container_url, str(SETTLED + MEASURED + 1)]
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        workers: list[Any] = [subprocess.Popen(command, cwd=ROOT, text=True, **pipes) for _ in range(4)]
        try:
            for worker in workers:
                assert worker.stdout.readline() == "ready\n"
            for worker in workers:
                worker.stdin.write("go\n")
                worker.stdin.flush()
            ended = [worker.communicate() for worker in workers]
        finally:
            for worker in workers:
                worker.kill()
                worker.communicate()
        requests = server.requests()

    assert [errors for _, errors in ended] == [""] * 4
    return measured(requests)


def test_processes_share_what_the_service_admits() -> None:
    """Four workers that each ask as fast as their retries allow would have two of three requests refused."""
    service = played()
    if service.useful < 0.85:  # five processes on two cores: where others want these, too, they cannot ask for so much
        service = played()
    assert service.useful >= 0.85, service
    assert service.refused <= 0.15, service


async def _read(url: str, options: TransferOptions) -> AsyncBlobIO:
    async with AsyncBlobIO(url, "rb", credential=False, options=options) as file:
        await file.read()
    return file


@pytest.mark.parametrize(("status", "code"), [(503, "ServerBusy"), (429, "TooManyRequests")])
async def test_another_account_is_not_slowed_down(
    server: BlobServer, status: int, code: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoints may go to one account and samples come from another; only the one that refuses is asked less."""
    caplog.set_level(logging.DEBUG, "azstoragetorch.pace")
    lowered = asyncio.Event()

    def hear(record: logging.LogRecord) -> bool:
        lowered.set()
        return True

    monkeypatch.setattr(logging.getLogger("azstoragetorch.pace"), "filters", [hear])
    server.fault(on(), Status(status, code), times=None)
    with BlobServer() as other:
        server.put("a", b"content")
        other.put("a", b"content")
        options = TransferOptions(deadline=3)

        async def beside() -> list[AsyncBlobIO]:
            await lowered.wait()
            return [await _read(other.url("a"), options) for _ in range(50)]

        reading = asyncio.create_task(beside())
        refusing = [asyncio.create_task(_read(server.url("a"), options)) for _ in range(16)]
        files = await reading
        ended = await asyncio.gather(*refusing, return_exceptions=True)

    assert {type(end) for end in ended} == {BlobServiceError}
    assert f"{server.origin}/" in caplog.text
    assert other.origin not in caplog.text
    assert [file.stats().waited for file in files] == [0.0] * 50
    assert len(other.requests()) == 50
