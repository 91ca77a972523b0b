"""Iterations that end early, in every way in which loops end, and workers that die."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.blobserver import BlobServer
from tests.torch.datasets import endings
from tests.torch.datasets.child import names
from tests.torch.datasets.program import outcome, program, put

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.skipif(sys.platform != "linux", reason="counts by /proc"),
]

LISTED = names(60)
KINDS: dict[str, dict[str, Any]] = {
    "iterable": {"kind": "iterable"},
    "map": {"kind": "map"},
    "urls": {"kind": "iterable", "source": "urls", "names": LISTED, "prefetch": 8},
    "few ahead": {"kind": "iterable", "prefetch": 8},
}


WAYS = [
    ("by_break", "iterable"),
    ("by_break", "map"),
    ("by_break", "urls"),
    ("by_error", "few ahead"),
    ("by_close", "few ahead"),
    ("by_never_starting", "few ahead"),
    ("by_a_cycle", "few ahead"),
    ("by_two_at_once", "few ahead"),
    ("by_break_in_async_for", "few ahead"),
    ("by_break_in_a_loader", "map"),
    ("by_break_with_a_worker", "few ahead"),
]


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Any]:
    """What was counted around each of the ways, in one program, which also has to end silently."""
    with BlobServer() as server:
        put(server, *LISTED)
        job = {"container_url": server.container_url, "ways": [(way, KINDS[kind]) for way, kind in WAYS]}
        lines = outcome(program(endings.breaks, job, tmp_path_factory.mktemp("endings"), server))
        server.wait_closed()
        assert not server.malformed
    return dict(zip(WAYS, lines, strict=True))


@pytest.mark.parametrize(("way", "kind"), WAYS)
def test_loop_left_fifty_times_leaves_nothing(way: str, kind: str, counted: dict[tuple[str, str], Any]) -> None:
    """Validation on a few batches between epochs is such a loop, and a job has thousands of them."""
    before, after, blocks, grown = counted[way, kind]
    assert after == before, "descriptors, kernel threads, threads, tasks, children"
    assert blocks < 500, "ten objects a loop: an iterator, a task or a window of samples is more"
    assert grown < 32, "MiB: a buffer of one range a loop is more"


def test_worker_killed_by_the_kernel(server: BlobServer, tmp_path: Path) -> None:
    """A container over its memory loses one process: the loader has to say so instead of waiting for it."""
    listed = LISTED[:12]
    put(server, *listed)
    methods = ["fork", "spawn"]
    job = {"container_url": server.container_url, "dataset": {"kind": "iterable"}, "methods": methods}

    lines = outcome(program(endings.loses_a_worker, job, tmp_path, server))

    assert len(lines) == len(methods)
    for message, children, alone, workers in lines:
        assert "DataLoader worker" in message
        assert "killed" in message.lower() or "exited unexpectedly" in message
        assert children == []
        assert alone == workers == listed
    server.wait_closed()
