"""A DataLoader whose workers share an account that refuses what is too much."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from tests.blobserver import ServerProcess
from tests.faults.test_throttling import ADMITTED, MEASURED, ROOT, SETTLED, measured
from tests.torch.datasets.program import FLAGS

pytestmark = pytest.mark.timeout(120)

PROGRAM = """
import itertools, sys, time
from torch.utils.data import DataLoader
from azstoragetorch.datasets import IterableBlobDataset

if __name__ == "__main__":
    url, seconds = sys.argv[1], float(sys.argv[2])
    urls = [f"{url}/sample-{number % 8}" for number in range(100_000)]
    dataset = IterableBlobDataset.from_blob_urls(urls, credential=False, prefetch=32)
    batches = iter(DataLoader(dataset, batch_size=16, num_workers=4))
    next(batches)
    until = time.monotonic() + seconds
    samples = sum(len(batch["data"]) for batch in itertools.takewhile(lambda _: time.monotonic() < until, batches))
    print(samples, flush=True)
"""


def test_workers_share_what_the_service_admits(tmp_path: Path) -> None:
    """Batches come from the workers in turn, so the slowest share is what the training sees."""
    script = tmp_path / "script.py"
    script.write_text(PROGRAM, encoding="utf-8")
    with ServerProcess() as server:
        server.put_synthetic(*((f"sample-{number}", 1000) for number in range(8)))
        server.admit(ADMITTED, burst=20)
        command = [sys.executable, *FLAGS, str(script), server.container_url, str(SETTLED + MEASURED + 1)]
        with Popen(
            command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=PIPE, stderr=PIPE, text=True
        ) as program:
            try:
                printed, complaints = program.communicate()
            finally:
                program.kill()
        requests = server.requests()

    assert complaints == ""
    service = measured(requests)
    assert service.useful >= 0.85, service
    assert service.refused <= 0.15, service
    assert int(printed) >= 0.75 * ADMITTED * MEASURED, "what was fetched came to the loop of the training"
