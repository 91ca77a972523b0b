"""Epochs in real DataLoader workers: what the seed of a worker is, when workers start, end and live on is torch's."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

import pytest

from tests.bridge.script import output_of
from tests.torch.epochs import Way

pytestmark = [
    pytest.mark.timeout(150),
    pytest.mark.skipif("__import__('sys').platform == 'win32'", reason="workers share no memory there"),
]

ALWAYS = ["advance", "break_off", "seed", "seed_after_resume", "at_once"]
FORKING = ["forked_ranks", "fork_in_worker"]
RUNS = {
    Way("fork", 0): [*ALWAYS, "forked_ranks"],
    Way("fork", 2): ALWAYS,
    Way("fork", 2, persistent=True): [*ALWAYS, *FORKING],
    Way("fork", 4): ALWAYS,
    Way("fork", 4, persistent=True): ALWAYS,
    # Every worker that is started afresh imports torch: few of those.
    Way("spawn", 2): ["seed", "seed_after_resume"],
    Way("spawn", 2, persistent=True): ["seed"],
    Way("forkserver", 2): ALWAYS,
}


@functools.cache
def results(way: Way) -> dict[str, str]:
    """Return what became of everything that is tried with such workers."""
    source = f"""
        from tests.torch.epochs import Way, main
        if __name__ == "__main__":
            main({way!r}, {RUNS[way]!r})
    """
    with tempfile.TemporaryDirectory() as folder:
        lines = output_of(source, Path(folder), seconds=140)
    return dict(line.split(": ", 1) for line in lines)


def label(way: Way) -> str:
    return f"{way.how}-{way.workers}{'-persistent' if way.persistent else ''}"


def ways_of(name: str) -> pytest.MarkDecorator:
    """Run a test with all ways with which ``name`` is tried."""
    return pytest.mark.parametrize("way", [w for w, names in RUNS.items() if name in names], ids=label)


@ways_of("advance")
def test_epochs_advance_and_can_be_set(way: Way) -> None:
    """By one from iteration to iteration, from what was set, however the workers live."""
    assert results(way)["advance"] == "well"


@ways_of("break_off")
def test_iteration_that_breaks_off_takes_one_epoch(way: Way) -> None:
    """Some of its workers may not have begun: they must take neither the next epoch nor what is set for it."""
    assert results(way)["break_off"] == "well"


@ways_of("seed")
def test_seed_before_every_epoch_repeats_no_epoch(way: Way) -> None:
    """``torch.manual_seed`` makes all base seeds equal; a model must not train on one order, or one half, for ever."""
    assert results(way)["seed"] == "well"


@ways_of("seed_after_resume")
def test_seed_before_every_epoch_after_resume_repeats_no_start(way: Way) -> None:
    """Every epoch after a checkpoint would lack what came before it, and nobody would be told."""
    assert results(way)["seed_after_resume"] == "well"


@ways_of("at_once")
def test_two_iterations_at_once_read_two_epochs(way: Way) -> None:
    """Of two loaders over one dataset, as for two streams of the same data."""
    assert results(way)["at_once"] == "well"


@ways_of("forked_ranks")
def test_forked_ranks_with_loaders_count_for_themselves(way: Way) -> None:
    """Ranks of one parent and one seed have the same keys, and each is its own training run."""
    assert results(way)["forked_ranks"] == "well"


@ways_of("fork_in_worker")
def test_worker_that_forks_stays_a_worker(way: Way) -> None:
    """Before its first claim and after it: the cell asks torch whether this process is a worker."""
    assert results(way)["fork_in_worker"] == "well"
