"""Which samples each worker of each rank reads, over all topologies."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import Any, cast

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from azstoragetorch._values.shards import Shard, Uneven

UNEVEN: list[Uneven] = ["none", "drop", "pad"]

counts = st.integers(0, 120)
worlds = st.integers(1, 9)
workers_ = st.integers(1, 6)
blocks = st.integers(1, 8)
unevens = st.sampled_from(UNEVEN)


def shards_of(rank: int, workers: int, **topology: Any) -> list[Shard]:
    """Return the shards of all workers of one rank."""
    return [Shard(rank=rank, worker=worker, workers=workers, **topology) for worker in range(workers)]


def batches(shards: list[Shard], size: int) -> list[list[int]]:
    """Take batches as a DataLoader does: one of each worker in turn, leaving out those that have come to an end."""
    found, readers = [], [iter(shard) for shard in shards]
    while readers:
        for reader in list(readers):
            batch = list(islice(reader, size))
            if batch:
                found.append(batch)
            else:
                readers.remove(reader)
    return found


def order_of(rank: int, **topology: Any) -> list[int]:
    """Return what a rank reads without workers: the definition, spelled out."""
    count, start, world = topology["count"], topology.get("start", 0), topology.get("world", 1)
    rest = count - start
    stop = {"none": count, "drop": start + rest // world * world, "pad": start + -(-rest // world) * world}
    return [position % count for position in range(start + rank, stop[topology.get("uneven", "none")], world)]


@given(st.data(), counts, worlds, workers_, blocks, unevens)
def test_ranks_and_workers_read_every_sample_once(
    data: st.DataObject, count: int, world: int, workers: int, block: int, uneven: Uneven
) -> None:
    """Nothing twice and nothing left out, but for what dropping and padding are for: at most one sample a rank."""
    start = data.draw(st.integers(0, count))
    seen = Counter(
        position
        for rank in range(world)
        for shard in shards_of(rank, workers, count=count, start=start, world=world, block=block, uneven=uneven)
        for position in shard
    )

    rest = set(range(start, count))
    if uneven == "none":
        assert seen == Counter(rest)
    elif uneven == "drop":
        assert set(seen) <= rest
        assert len(rest) - len(seen) < world
        assert all(times == 1 for times in seen.values())
    else:
        assert rest <= set(seen)
        assert seen.total() - len(rest) < world


@given(st.data(), counts, worlds, workers_, blocks, unevens)
def test_ranks_read_equally_many_where_promised(
    data: st.DataObject, count: int, world: int, workers: int, block: int, uneven: Uneven
) -> None:
    """One rank with a batch less than the others leaves them in a collective for ever."""
    start = data.draw(st.integers(0, count))
    sizes, numbers = set(), set()
    for rank in range(world):
        shards = shards_of(rank, workers, count=count, start=start, world=world, block=block, uneven=uneven)
        assert sum(map(len, shards)) == shards[0].rank_size
        sizes.add(shards[0].rank_size)
        numbers.add(len(batches(shards, block)))

    assert max(sizes) - min(sizes) <= (1 if uneven == "none" else 0)
    if uneven != "none":
        assert len(numbers) == 1


@given(st.data(), counts, worlds, workers_, blocks, unevens)
def test_blocks_of_a_batch_keep_the_order_whatever_the_number_of_workers(
    data: st.DataObject, count: int, world: int, workers: int, block: int, uneven: Uneven
) -> None:
    """The same training run with more workers, and a resume that is one integer; only the last batch is short."""
    topology = {"count": count, "start": data.draw(st.integers(0, count)), "world": world, "uneven": uneven}
    rank = data.draw(st.integers(0, world - 1))
    order = order_of(rank, **topology)

    assert batches(shards_of(rank, workers, block=block, **topology), block) == [
        order[i : i + block] for i in range(0, len(order), block)
    ]


@given(counts, workers_)
def test_blocks_of_one_sample_are_the_order_of_020(count: int, workers: int) -> None:
    """Worker w of W reads the samples w, w + W, ...: what jobs that were written for 0.2.0 see."""
    for worker, shard in enumerate(shards_of(0, workers, count=count)):
        assert list(shard) == [i for i in range(count) if i % workers == worker]


@given(st.data(), counts, worlds, worlds, workers_, workers_, blocks)
def test_another_topology_reads_exactly_the_rest(
    data: st.DataObject, count: int, world: int, other_world: int, workers: int, other_workers: int, block: int
) -> None:
    """A job that comes back with fewer machines neither repeats nor loses samples."""
    steps = data.draw(st.integers(0, count // (world * block)))  # whole batches that all ranks have taken
    consumed = [
        position
        for rank in range(world)
        for batch in batches(shards_of(rank, workers, count=count, world=world, block=block), block)[:steps]
        for position in batch
    ]

    start = steps * block * world
    rest = [
        position
        for rank in range(other_world)
        for shard in shards_of(rank, other_workers, count=count, start=start, world=other_world, block=3)
        for position in shard
    ]
    assert sorted(consumed + rest) == list(range(count))


@given(st.data(), counts, worlds, workers_, blocks, unevens)
def test_index_and_iteration_agree(
    data: st.DataObject, count: int, world: int, workers: int, block: int, uneven: Uneven
) -> None:
    """A resume jumps by index to where an iteration was."""
    rank, worker = data.draw(st.integers(0, world - 1)), data.draw(st.integers(0, workers - 1))
    shard = Shard(count, 0, rank, world, worker, workers, block, uneven)
    positions = list(shard)

    assert len(positions) == len(shard)
    assert [shard[i] for i in range(len(shard))] == positions
    assert [shard[i - len(shard)] for i in range(len(shard))] == positions
    assert shard[2::3] == positions[2::3]
    assert shard[-3:] == positions[-3:]
    for index in (len(shard), -len(shard) - 1):
        with pytest.raises(IndexError, match=f"index {index} of a shard with {len(shard)} samples"):
            shard[index]


@pytest.mark.parametrize("uneven", UNEVEN)
def test_more_ranks_than_samples(uneven: Uneven) -> None:
    """Padding goes round more than once; without it some ranks have nothing, which is no error here."""
    read = [list(Shard(2, rank=rank, world=5, uneven=uneven)) for rank in range(5)]

    assert (
        read
        == {
            "none": [[0], [1], [], [], []],
            "drop": [[], [], [], [], []],
            "pad": [[0], [1], [0], [1], [0]],
        }[uneven]
    )


@pytest.mark.parametrize("uneven", UNEVEN)
@pytest.mark.parametrize(("count", "start"), [(0, 0), (7, 7)])
def test_nothing_left_is_nothing_to_read(count: int, start: int, uneven: Uneven) -> None:
    """An empty container, or a resume at the very end; padding must not divide by zero or begin anew."""
    for rank in range(3):
        assert list(Shard(count, start, rank=rank, world=3, uneven=uneven)) == []


@given(st.integers(0, 10**15), st.integers(1, 10**6), st.integers(1, 1000))
def test_size_of_the_epoch_costs_nothing(count: int, world: int, block: int) -> None:
    """Positions are computed: no list as long as the listing, in every worker."""
    shard = Shard(count, rank=world - 1, world=world, worker=3, workers=4, block=block, uneven="drop")
    assume(len(shard))

    assert 0 <= shard[len(shard) // 2] < count


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"count": -1}, "count must be at least 0, got -1"),
        ({"start": -1}, "start must be at least 0, got -1"),
        ({"start": 11}, r"start must be at most count \(10\), got 11"),
        ({"world": 0}, "world must be at least 1, got 0"),
        ({"rank": -1}, "rank must be at least 0, got -1"),
        ({"rank": 2, "world": 2}, r"rank must be less than world \(2\), got 2"),
        ({"workers": 0}, "workers must be at least 1, got 0"),
        ({"worker": 1}, r"worker must be less than workers \(1\), got 1"),
        ({"block": 0}, "block must be at least 1, got 0"),
        ({"uneven": "fill"}, "uneven must be one of .*, got 'fill'"),
    ],
)
def test_impossible_topology_is_refused(arguments: dict[str, Any], complaint: str) -> None:
    """A rank beyond the world would silently read somebody else's samples."""
    with pytest.raises(ValueError, match=complaint):
        Shard(**{"count": 10, **arguments})


@pytest.mark.parametrize("name", ["count", "start", "rank", "world", "worker", "workers", "block"])
def test_numbers_have_to_be_integers(name: str) -> None:
    """``RANK`` straight from the environment is text."""
    with pytest.raises(TypeError, match=f"{name} must be an int, not str"):
        Shard(**{"count": 10, name: cast(Any, "1")})
