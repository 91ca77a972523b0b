"""How far a worker is: saved, checked when it comes back, and carried to another topology."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azstoragetorch._values.progress import Progress
from azstoragetorch._values.shards import Shard, Uneven

SOME = Progress(epoch=3, start=40, consumed=5, rank=1, world=4, worker=0, workers=1, block=2)


def test_comes_back_from_json() -> None:
    """A checkpoint may be a text file; only plain integers survive in every format."""
    values = json.loads(json.dumps(SOME.as_dict()))

    assert all(type(value) is int for value in values.values())
    assert Progress.from_dict(values) == SOME
    assert Progress.from_dict({**values, "version": 1, "fingerprint": "00ff"}) == SOME


@pytest.mark.parametrize("name", list(SOME.as_dict()))
@pytest.mark.parametrize("value", ["7", 7.0, None, True, -1])
def test_state_with_a_wrong_value_is_refused(name: str, value: object) -> None:
    """Half a state would begin somewhere, and nobody would notice which samples are read twice."""
    with pytest.raises(ValueError, match=f"no state of a dataset: .*{name}"):
        Progress.from_dict({**SOME.as_dict(), name: value})


@pytest.mark.parametrize("name", list(SOME.as_dict()))
def test_state_without_a_value_is_refused(name: str) -> None:
    """The state of another dataset, for example."""
    values = {key: value for key, value in SOME.as_dict().items() if key != name}

    with pytest.raises(ValueError, match=f"'{name}' is missing"):
        Progress.from_dict(values)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"rank": 4}, r"rank must be less than world \(4\), got 4"),
        ({"worker": 1}, r"worker must be less than workers \(1\), got 1"),
        ({"block": 0}, "block must be at least 1, got 0"),
    ],
)
def test_impossible_state_is_refused(change: dict[str, int], complaint: str) -> None:
    """Written by hand, or by something that mixed up ranks."""
    with pytest.raises(ValueError, match=complaint):
        Progress.from_dict({**SOME.as_dict(), **change})


def test_error_does_not_show_what_it_was_given() -> None:
    """A state may hold anything, a whole model or a URL with its signature."""
    with pytest.raises(ValueError, match="'epoch' is of type str, not int") as caught:
        Progress.from_dict({**SOME.as_dict(), "epoch": "https://account/container?sig=secret"})

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "change", [{"start": 0}, {"rank": 0}, {"world": 5}, {"worker": 1, "workers": 2}, {"workers": 2}, {"block": 1}]
)
def test_another_topology_does_not_match(change: dict[str, Any]) -> None:
    """To skip ``consumed`` samples of another shard would skip others than those consumed."""
    same: dict[str, Any] = {"count": 100, "start": 40, "rank": 1, "world": 4, "worker": 0, "workers": 1, "block": 2}

    assert SOME.matches(Shard(**same))
    assert not SOME.matches(Shard(**{**same, **change}))


def test_shard_that_is_too_short_does_not_match() -> None:
    """More was consumed than it has: its listing, or ``uneven``, is not what it was."""
    assert not SOME.matches(Shard(50, start=40, rank=1, world=4, block=2))


@given(
    st.data(),
    st.integers(0, 100),
    st.integers(1, 5),
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(1, 4),
    st.sampled_from(["none", "drop", "pad"]),
)
def test_every_interruption_goes_on_with_exactly_the_rest(
    data: st.DataObject, count: int, world: int, other: int, workers: int, block: int, uneven: Uneven
) -> None:
    """Stopped twice at any step of all ranks, continued by another number of ranks and workers: each sample once."""
    start, read = 0, []
    for ranks in (world, other):
        shards = [Shard(count, start, rank, ranks, block=block, uneven=uneven) for rank in range(ranks)]
        most = min(map(len, shards)) if uneven != "pad" else (count - start) // ranks  # the padding comes last
        consumed = data.draw(st.integers(0, most))
        for shard in shards:
            read += shard[:consumed]
        states = {Progress(0, start, consumed, rank, ranks, 0, 1, block).elastic() for rank in range(ranks)}
        assert len(states) == 1  # any rank's state will do
        start = states.pop()
    for worker in range(workers):
        read += Shard(count, start, worker=worker, workers=workers, block=block)

    assert sorted(read) == list(range(count))


def test_state_of_the_whole_epoch_is_at_its_end() -> None:
    """Rank 0 has read the most; beyond the end of an epoch by less than one sample a rank."""
    for count in range(20):
        shard = Shard(count, world=4)
        end = Progress(0, 0, len(shard), 0, 4, 0, 1, 1).elastic()

        assert count <= end < count + 4


def test_state_of_one_of_several_workers_fits_no_other_topology() -> None:
    """It knows its own part only; the error says what to do instead."""
    state = Progress(epoch=0, start=0, consumed=5, rank=0, world=1, worker=1, workers=2, block=4)

    with pytest.raises(ValueError, match=r"worker 1 of 2.*resume\(epoch=\.\.\., batches=\.\.\.\)"):
        state.elastic()
