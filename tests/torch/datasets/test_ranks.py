"""Each sample once over all ranks and their workers: with real processes, a real process group, real workers."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from tests.blobserver import BlobServer
from tests.torch.datasets import ranks
from tests.torch.datasets.child import names
from tests.torch.datasets.program import outcome, program, put, torchrun
from tests.torch.datasets.reading import Run

pytestmark = pytest.mark.timeout(180)

EVEN, ODD = names(24, "even"), names(23, "odd")
ITERABLE = {"kind": "iterable", "prefix": "even/"}
UNEVEN = {"kind": "iterable", "prefix": "odd/"}
SHUFFLED = {"shuffle": True, "seed": 9, "batch_size": 4}

Check = dict[str, Any]

CHECKS: dict[str, Check] = {
    "plain": {"dataset": ITERABLE},
    "main process": {"dataset": ITERABLE, "workers": 0},
    "shuffled": {"dataset": {**ITERABLE, **SHUFFLED}, "epochs": [7, None, 0], "persistent": True},
    "drop": {"dataset": {**UNEVEN, "uneven": "drop"}},
    "pad": {"dataset": {**UNEVEN, "uneven": "pad", "batch_size": 4}},
    "none": {"dataset": UNEVEN},
    "urls": {"dataset": {"kind": "iterable", "source": "urls", "names": EVEN}},
    "urls auto": {"dataset": {"kind": "iterable", "source": "urls", "names": EVEN, "sharding": "auto"}},
    "listing": {"dataset": {**ITERABLE, "source": "listing"}},
    "explicit": {"dataset": {**ITERABLE, "rank": 0, "world_size": 3}},
    "map": {"dataset": {"kind": "map", "prefix": "even/"}, "epochs": [1, 2], "persistent": True},
}


Found = dict[str, list[dict[str, Any]]]
"""What the ranks said, by check: for each rank its orders, one an epoch, and what it logged."""


@pytest.fixture(scope="module", params=[2, 4], ids=["2 ranks", "4 ranks"])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Found:
    """All checks, in one start of that many ranks with two workers each: what takes long is to import torch."""
    world: int = request.param
    folder = tmp_path_factory.mktemp(f"{world}-ranks")
    with BlobServer() as server:
        put(server, *EVEN, *ODD)
        job = {"container_url": server.container_url, "folder": str(folder), "checks": list(CHECKS.values())}
        lines = outcome(torchrun("tests.torch.datasets.ranks", world, job, folder, server))
    assert all([rank["rank"] for rank in line] == list(range(world)) for line in lines)
    return dict(zip(CHECKS, lines, strict=True))


def read(ranks: list[dict[str, Any]]) -> list[list[str]]:
    """Return for each epoch the names that all ranks read together, sorted."""
    return [sorted(itertools.chain(*orders)) for orders in zip(*(rank["orders"] for rank in ranks), strict=True)]


def counts(ranks: list[dict[str, Any]]) -> list[int]:
    return [len(rank["orders"][0]) for rank in ranks]


def interleaved(ranks: list[dict[str, Any]], epoch: int) -> list[str]:
    """Return the order that the ranks took in turn: rank r has the positions r, r + world, ... of it."""
    turns = itertools.zip_longest(*(rank["orders"][epoch] for rank in ranks))
    return [name for turn in turns for name in turn if name is not None]


def alone(url: str, epoch: int) -> list[str]:
    """Return the order of the check "shuffled" in a process that is no rank and has no workers."""
    run = Run(url, {"dataset": CHECKS["shuffled"]["dataset"]})
    run.do_set_epoch(epoch)
    return run.do_read()


@pytest.mark.parametrize("check", ["plain", "main process", "urls auto", "listing", "shuffled", "map", "none"])
def test_ranks_of_torchrun_read_each_sample_once(found: Found, check: str) -> None:
    """The usual way to train."""
    listed = ODD if check == "none" else EVEN
    assert read(found[check]) == [listed] * len(CHECKS[check].get("epochs", [None]))


def test_urls_belong_to_the_rank_that_was_given_them(found: Found) -> None:
    """As in 0.2.0: programs pass each rank its own slice, and half of a slice would go missing without a word."""
    assert read(found["urls"]) == [sorted(EVEN * len(found["urls"]))]


def test_explicit_rank_counts_more_than_the_process_group(found: Found) -> None:
    """Data-parallel groups are often fewer than ranks: those of one tensor-parallel group read the same."""
    assert all(sorted(rank["orders"][0]) == EVEN[0::3] for rank in found["explicit"])


def test_counts_of_ranks_are_equal_where_promised(found: Found) -> None:
    """Ranks with a batch less leave the others waiting in a collective for ever."""
    world = len(found["plain"])
    assert counts(found["none"]) == [len(range(rank, 23, world)) for rank in range(world)]
    assert counts(found["drop"]) == [23 // world] * world
    assert counts(found["pad"]) == [24 // world] * world
    (dropped,), (padded,) = read(found["drop"]), read(found["pad"])
    assert len(set(dropped)) == len(dropped)
    assert sorted(set(padded)) == ODD


def test_len_is_that_of_the_rank(found: Found) -> None:
    """Schedulers and progress bars are made from it."""
    for name, line in found.items():
        if name != "map":
            assert [rank["len"] for rank in line] == counts(line), name


def test_all_ranks_have_one_permutation(found: Found, server: BlobServer) -> None:
    """The one that a single process has, for any number of ranks: else samples come twice and others not at all."""
    put(server, *EVEN)
    for number, epoch in enumerate((7, 8, 0)):
        assert interleaved(found["shuffled"], number) == alone(server.container_url, epoch)


def test_ranks_say_what_they_read_and_warn_where_counts_differ(found: Found) -> None:
    """Once per iteration, however many workers; the warning names what nobody finds in a job that stands still."""
    for check in ("none", "drop", "plain", "main process", "shuffled"):
        line = found[check]
        total = 23 if check in ("none", "drop") else 24
        for rank, count in zip(line, counts(line), strict=True):
            said = [text for text in rank["log"] if "azstoragetorch.datasets" in text and " reads " in text]
            expected = f"INFO azstoragetorch.datasets rank {rank['rank']} of {len(line)} reads {count} of {total}"
            assert len(said) == len(rank["orders"]), (check, rank["log"])
            assert all(expected in text for text in said), (check, rank["log"])
            warned = [text for text in rank["log"] if text.startswith("WARNING azstoragetorch.datasets ")]
            assert bool(warned) == (check == "none"), (check, rank["log"])


def of_children(method: str, who: str, used: bool) -> Check:
    return {
        "dataset": {**ITERABLE, **SHUFFLED},
        "epochs": [None, None],
        "method": method,
        "workers": 2 if method else 0,
        "persistent": method == "spawn",
        "made": who,
        "used": used,
    }


STARTS: dict[str, list[Check]] = {
    "spawn": [
        of_children("spawn", "parent", True),
        of_children("fork", "parent", False),
        of_children("fork", "child", False),
    ],
    "fork": [
        of_children("fork", "parent", True),
        of_children("fork", "child", False),
        of_children("", "parent", True),
        of_children("spawn", "parent", False),
    ],
}


@pytest.mark.parametrize("start", STARTS)
def test_ranks_started_by_multiprocessing_read_each_sample_once(start: str, server: BlobServer, tmp_path: Path) -> None:
    """Notebooks and older scripts call `torch.multiprocessing.spawn`: no RANK in the environment, and in spawned
    workers no process group either. Ranks that got one dataset from their parent must not count each other's epochs.
    """
    put(server, *EVEN)
    job = {"container_url": server.container_url, "folder": str(tmp_path), "start": start, "checks": STARTS[start]}

    lines = outcome(program(ranks.children, job, tmp_path, server))

    assert len(lines) == len(STARTS[start])
    for check, line in zip(STARTS[start], lines, strict=True):
        for epoch in range(2):
            assert sorted(interleaved(line, epoch)) == EVEN, (check, epoch)
            assert [len(rank["orders"][epoch]) for rank in line] == [12, 12], (check, epoch)
        assert interleaved(line, 0) != interleaved(line, 1), check
