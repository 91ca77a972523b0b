"""A service that refuses what is too much is used to what it admits, by processes that know nothing of each other."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.blobserver import ServerProcess
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


def test_processes_share_what_the_service_admits() -> None:
    """Four workers that each ask as fast as their retries allow would have two of three requests refused."""
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
    counted = [json.loads(printed) for printed, _ in ended]
    service = measured(requests)
    assert service.useful >= 0.85, (service, counted)
    assert service.refused <= 0.15, (service, counted)
