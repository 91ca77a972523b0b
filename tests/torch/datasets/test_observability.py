"""What a dataset logs at DEBUG: which part of which epoch, and what came of it."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest

from azstoragetorch.datasets import BlobDataset, IterableBlobDataset
from tests.blobserver import BlobServer
from tests.observability.lines import listening
from tests.processes.script import Script
from tests.torch.datasets.making import KINDS, LISTED, filled, make
from tests.torch.datasets.program import FLAGS

pytestmark = pytest.mark.timeout(60)

SEEN = r"{} samples in \d+\.\d{{3}} s; the dataset so far: samples {}, requests {}, repeated 0, throttled 0, .*"


@pytest.fixture
def blobs(server: BlobServer) -> BlobServer:
    return filled(server)


@KINDS
@pytest.mark.parametrize("asynchronous", [False, True], ids=["for", "async for"])
async def test_iteration_says_how_it_ended(blobs: BlobServer, kind: Any, asynchronous: bool) -> None:
    """One line, however many samples; also when the loop is left early."""
    dataset = make(kind, blobs)
    count = len(LISTED)
    with listening(logging.INFO) as lines:
        if asynchronous:
            assert len([sample async for sample in dataset]) == count
        else:
            assert len(list(dataset)) == count
            samples = iter(dataset)
            next(samples)
            samples.close()

    said = [line for line in lines.of("datasets") if "samples in" in line]
    assert re.fullmatch(SEEN.format(count, count, count), said[0]), said
    assert len(said) == (1 if asynchronous else 2)
    assert asynchronous or said[1].startswith("1 samples in ")


def test_epoch_and_share_are_told(blobs: BlobServer) -> None:
    """Which worker of which rank reads what is what goes wrong in a training job of many."""
    dataset = make(IterableBlobDataset, blobs, rank=1, world_size=2)
    with listening(logging.INFO) as lines:
        list(dataset)
        list(dataset)

    count = len(LISTED) // 2
    said = [line for line in lines.of("datasets") if line.startswith("epoch")]
    assert said == [
        f"epoch {epoch} of {blobs.container_url}: worker 0 of 1 reads {count} blobs, from number 0 of its share on"
        for epoch in (0, 1)
    ]


@pytest.mark.parametrize("kind", [BlobDataset, IterableBlobDataset])
def test_forked_worker_counts_from_zero(blobs: BlobServer, tmp_path: Path, kind: Any) -> None:
    """As a spawned one: whoever adds up the counts of all workers would count those of the parent with each of them."""
    source = f"""
        from azstoragetorch.datasets import {kind.__name__}

        dataset = {kind.__name__}.from_container_url({blobs.container_url!r}, credential=False)

        def counted():
            stats = dataset.stats()
            say(stats.requests, stats.bytes > 0, stats.in_flight, stats.samples)

        list(dataset)
        counted()
        child = os.fork()
        if child == 0:
            counted()
            list(dataset)
            counted()
            os._exit(0)
        wait_for(child)
        counted()
        """
    with Script(source, tmp_path, blobs, flags=FLAGS) as script:
        parent, begun, child, still = script.end().silently()
    assert parent == still
    assert begun == "0 False 0 0"
    assert child == f"{len(LISTED)} True 0 {len(LISTED)}"
