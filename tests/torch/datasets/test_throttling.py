"""A DataLoader whose workers share an account that refuses what is too much.

That four processes use 85 % of what the service admits is shown by tests/faults/test_throttling.py, where they do
nothing else. Here a training loop, tensors and queues want the same two cores, which may be busy; so what is asked of
the rate is less, and the rest does not depend on the machine.
"""

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

AHEAD = 4 * (32 + 3 * 16)
"""Samples that four workers hold at most: each what it prefetches, two batches that wait and one that is made."""

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
    """Four that each ask as fast as they may have two of three requests refused; what is admitted comes to the loop."""
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
    assert service.refused <= 0.15, service
    assert service.useful >= 0.5, service
    # Batches come from the workers in turn: had one hardly any share, the others would wait for it.
    admitted = sum(record["status"] != 503 for record in requests)
    assert int(printed) >= admitted - AHEAD - 16, "all but the first batch, and what is on its way, came to the loop"
