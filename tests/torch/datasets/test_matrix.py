"""Every sample once and with its own bytes, whatever the workers, however they start, whatever the dataset did before.

By default a selection of the cells in which every two values of two factors meet; all of them where
``AZSTORAGETORCH_MATRIX`` is set, as in the tox environment ``matrix``.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.blobserver import BlobServer
from tests.torch.datasets.cells import main
from tests.torch.datasets.child import names
from tests.torch.datasets.program import gone, program, put

ALL = bool(os.environ.get("AZSTORAGETORCH_MATRIX"))

pytestmark = pytest.mark.timeout(900 if ALL else 180)

METHODS = ("fork", "spawn", "forkserver")
HISTORIES = ("untouched", "one sample", "one epoch", "abandoned", "abandoned loader")

Cell = dict[str, Any]


def every() -> Iterator[Cell]:
    """Yield all cells. Without workers there is nothing to start and nobody to persist."""
    # Further choices alternate, at lengths without a common divisor, so that all their combinations come up.
    shuffles = itertools.cycle([False, True])
    sources = itertools.cycle(["container", "listing", "urls"])
    prefetches = itertools.cycle([32, 0, 32, 3, 32])
    starts = [("", 0, False), *itertools.product(METHODS, (1, 4), (False, True))]
    for kind, history, (method, workers, persistent) in itertools.product(("map", "iterable"), HISTORIES, starts):
        yield {
            "kind": kind,
            "method": method,
            "workers": workers,
            "persistent": persistent,
            "history": history,
            "shuffle": next(shuffles),
            "source": next(sources),
            "prefetch": next(prefetches),
        }


def pairs(cell: Cell) -> set[frozenset[tuple[str, Any]]]:
    return {frozenset(pair) for pair in itertools.combinations(cell.items(), 2)}


def cost(cell: Cell) -> float:
    """Return about how many seconds a cell takes: what torch needs to be imported in every worker it starts."""
    processes: int = cell["workers"] * (1 if cell["persistent"] else 2)
    return 0.4 + {"": 0.0, "fork": 0.05, "forkserver": 0.2, "spawn": 1.0}[cell["method"]] * processes


def covering(cells: list[Cell]) -> list[Cell]:
    """Choose cheap cells, greedily, until all pairs of values that occur in ``cells`` occur in the choice."""
    missing = set().union(*map(pairs, cells))
    chosen = []
    while missing:
        best = max(cells, key=lambda cell: len(pairs(cell) & missing) / cost(cell))
        chosen.append(best)
        missing -= pairs(best)
    return chosen


CELLS = list(every()) if ALL else covering(list(every()))


@pytest.mark.parametrize("method", ["", *METHODS], ids=["no workers", *METHODS])
def test_each_sample_comes_once_with_its_own_bytes(method: str, server: BlobServer, tmp_path: Path) -> None:
    """What a data loader is for; nothing on stderr, no hang, no process left."""
    listed = names(23)
    put(server, *listed)
    cells = [cell for cell in CELLS if cell["method"] == method]
    # Every worker of a fork server imports torch, 1.5 s of it, unless the fork server has it already.
    preload = [] if ALL else ["torch.utils.data"]
    job = {"container_url": server.container_url, "names": listed, "cells": cells, "preload": preload}

    with program(main, job, tmp_path, server) as script:
        ended = script.end()
        gone(script)

    wrong = [f"{cells[number]}: {why}" for number, why in map(json.loads, ended.lines) if why]
    assert not wrong, "\n".join(wrong)
    assert len(ended.silently()) == len(cells)


def test_selection_meets_every_pair() -> None:
    """A selection that forgot a pair would look just as green."""
    cells = list(every())
    assert len(cells) == 2 * 5 * (1 + 3 * 2 * 2)
    assert set().union(*map(pairs, covering(cells))) == set().union(*map(pairs, cells))
