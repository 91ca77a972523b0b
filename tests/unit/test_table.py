"""Blobs packed into columns: what went in comes out, in little memory, and once for all processes."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azstoragetorch._values.chunk import FIRST_TEXT
from azstoragetorch._values.shared import SharedMemory
from azstoragetorch._values.table import BlobTable, Shape, TableChunk
from azstoragetorch._values.version import BlobEntry
from tests.bridge.script import output_of

Row = tuple[str, int | None, str | None, int | None]

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=0, max_size=30)
sizes = st.none() | st.integers(0, 1 << 62)
numbers = st.one_of(
    st.integers(0, (1 << 64) + 5),
    st.sampled_from([FIRST_TEXT - 1, FIRST_TEXT, FIRST_TEXT + 1, (1 << 64) - 1]),
)
etags = st.one_of(
    st.none(),
    numbers.map(lambda number: f'"0x{number:X}"'),
    st.sampled_from(['""', "", '"0x"', '"0x0"', '"0x01"', '"0xab"', '"0x A"', '"0x1_0"', "0x12", '"0x-1"', '"é"', "0"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
times = st.none() | st.integers(1, (1 << 32) - 1)
rows = st.lists(st.tuples(names, sizes, etags, times), max_size=12)


def chunk_of(rows: Iterable[Row]) -> TableChunk:
    chunk = TableChunk()
    for row in rows:
        chunk.append(*row)
    return chunk


def table_of(rows: Sequence[Row], cuts: Sequence[int] = ()) -> BlobTable:
    """Pack ``rows``, in chunks that end at ``cuts``."""
    bounds = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    return BlobTable.of(chunk_of(rows[start:stop]) for start, stop in pairwise(bounds))


def listed(row: Row) -> BlobEntry:
    name, size, etag, modified = row
    return BlobEntry(name, size, etag, None if modified is None else datetime.fromtimestamp(modified, UTC))


def typical(count: int, start: int = 0) -> list[Row]:
    """Rows such as a data set of images has."""
    return [
        (
            f"imagenet/train/n01440764/n01440764_{i:08d}.JPEG",
            100_000 + i,
            f'"0x{0x8DC000000000000 + i:X}"',
            1_700_000_000,
        )
        for i in range(start, start + count)
    ]


@given(rows, st.lists(st.integers(0, 12), max_size=3))
def test_what_went_in_comes_out(rows: list[Row], cuts: list[int]) -> None:
    """A name that changes is a blob that is not found; an ETag that changes is one that was 'modified'."""
    table = table_of(rows, cuts)

    expected = [listed(row) for row in rows]
    assert list(chunk_of(rows)) == expected
    assert list(table) == expected
    assert [table[i] for i in range(len(table))] == expected
    assert [table[i - len(rows)] for i in range(len(rows))] == expected
    assert list(table.names()) == [table.name(i) for i in range(len(table))] == [row[0] for row in rows]
    assert table.size == (None if None in [row[1] for row in rows] else sum(row[1] or 0 for row in rows))


@given(rows, st.lists(st.integers(0, 12), max_size=3))
def test_digest_is_of_the_content_and_not_of_the_pages_it_came_in(rows: list[Row], cuts: list[int]) -> None:
    """The service cuts pages where it likes; a resumed run must not be refused for that."""
    assert table_of(rows, cuts).digest() == table_of(rows).digest()


@given(rows.filter(bool), st.data())
def test_digest_changes_with_every_column(rows: list[Row], data: st.DataObject) -> None:
    """A run that resumes over other blobs reads other samples than it thinks."""
    i = data.draw(st.integers(0, len(rows) - 1))
    other = data.draw(st.tuples(names, sizes, etags, times))
    changed = [*rows[:i], other, *rows[i + 1 :]]

    assert (table_of(changed).digest() == table_of(rows).digest()) == (changed == rows)
    assert table_of([*rows, other]).digest() != table_of(rows).digest()


def test_digest_changes_with_the_order() -> None:
    """A position in an epoch means another sample then."""
    rows = typical(2)

    assert table_of(rows).digest() != table_of(rows[::-1]).digest()


@given(rows.filter(bool), st.data())
def test_select_is_the_same_as_packing_the_chosen(rows: list[Row], data: st.DataObject) -> None:
    """A filtered listing must not differ from one that was listed that way."""
    chosen = data.draw(st.lists(st.integers(-len(rows), len(rows) - 1), max_size=20))

    selected = table_of(rows, [3]).select(chosen)

    assert list(selected) == [listed(rows[i]) for i in chosen]
    assert selected.digest() == table_of([rows[i] for i in chosen]).digest()
    assert selected.nbytes == table_of([rows[i] for i in chosen]).nbytes


def test_select_over_many_rows() -> None:
    """It works through its rows in parts."""
    table = table_of(typical(10_000))

    selected = table.select(range(9_999, -1, -1))

    assert list(selected.names()) == list(table.names())[::-1]
    assert selected[0] == table[9_999]
    assert list(table[100:9_000:7]) == [table[i] for i in range(100, 9_000, 7)]


@pytest.mark.parametrize("index", [3, -4, 1 << 70])
def test_index_out_of_range_is_an_index_error(index: int) -> None:
    """Loops over a sequence end by it."""
    table = table_of(typical(3))

    for ask in (table.__getitem__, table.name, lambda i: table.select([i]), chunk_of(typical(3)).__getitem__):
        with pytest.raises(IndexError, match="3 blobs"):
            ask(index)


def test_empty_table() -> None:
    """A prefix that matches nothing is no error here."""
    table = BlobTable.of([])

    assert (len(table), list(table), list(table.names()), table.nbytes, table.size) == (0, [], [], 0, 0)
    assert len(pickle.loads(pickle.dumps(table))) == 0
    assert len(table.select([])) == 0


def test_list_of_chunks_is_emptied_on_the_way() -> None:
    """Kept, the pages of a million blobs would be there twice."""
    chunks = [chunk_of(typical(3)), chunk_of(typical(2, 3))]

    table = BlobTable.of(chunks)

    assert chunks == []
    assert len(table) == 5


def test_part_of_a_chunk_is_a_chunk() -> None:
    """What a service sends beyond the bounds it was given is cut off."""
    chunk = chunk_of([*typical(5), ("text", None, "weak", None)])

    part = chunk.part(2, 6)

    assert list(part) == list(chunk)[2:6]
    assert chunk.name(3) == part.name(1)


def test_sealed_chunk_is_the_same_chunk() -> None:
    """A page is sealed when it is complete, so that its memory goes back to the system when it goes."""
    rows = [("text", None, "weak", None), *typical(3000)]
    chunk = chunk_of(rows)
    before = list(chunk)

    chunk.seal()
    chunk.seal()

    assert list(chunk) == before
    assert (len(chunk), chunk.name(7), list(chunk.part(1, 3))) == (3001, before[7].name, before[1:3])
    assert BlobTable.of([chunk_of(typical(2)), chunk]).digest() == table_of([*typical(2), *rows]).digest()
    with pytest.raises(AttributeError):
        chunk.append("more", 1, None, None)


def test_small_chunk_is_not_worth_a_mapping() -> None:
    """Pages of a few blobs, as some services send them, would each take a page of memory and an entry of the kernel."""
    chunk = chunk_of(typical(10))
    chunk.seal()

    chunk.append("more", 1, None, None)

    assert len(chunk) == 11


@pytest.mark.parametrize("size", [-1, 1 << 64])
def test_size_that_is_none_leaves_the_chunk_as_it_was(size: int) -> None:
    """A broken page must not shift the names against the sizes."""
    chunk = chunk_of(typical(1))

    with pytest.raises(OverflowError):
        chunk.append("bad", size, None, None)
    chunk.append("good", 1, None, None)

    assert [blob.name for blob in chunk] == [typical(1)[0][0], "good"]
    assert chunk[1].size == 1


@pytest.mark.parametrize("modified", [0, -1, 1 << 32])
def test_time_that_cannot_be_is_unknown(modified: int) -> None:
    """A listing does not fail over a date that nobody needs."""
    assert chunk_of([("name", 1, None, modified)])[0].last_modified is None


def test_typical_blob_takes_at_most_100_bytes() -> None:
    """A million are to fit 100 MB; 48 characters of name are more than most have."""
    table = table_of(typical(1000))

    assert table.nbytes / len(table) <= 80
    assert table.nbytes == len(table.content)


def test_pickle_of_100_000_blobs_is_small() -> None:
    """Some start their workers with plain pickles."""
    table = table_of(typical(100_000))

    data = pickle.dumps(table)

    assert len(data) < 8_000_000
    assert list(pickle.loads(data)[99_990:]) == list(table[99_990:])


def test_memory_too_small_for_its_shape_is_refused() -> None:
    """Numbers read from a file are checked before anything is read by them."""
    for memory, shape, offset in [
        (100, Shape(10, 0, 0, 0), 0),
        (1000, Shape(10, 0, 0, 0), 4),
        (9, Shape(0, -1, 1, 0), 0),
    ]:
        with pytest.raises(ValueError, match="is not in"):
            BlobTable(SharedMemory(memory), shape, offset)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_share_the_memory_of_the_table(method: str, tmp_path: Path) -> None:
    """Eight workers with a copy of a million blobs each would take 640 MB."""
    lines = output_of(
        f"""
        import multiprocessing
        from azstoragetorch._values.table import BlobTable, TableChunk

        def work(table):
            assert table[1999].name == "name-1999"
            # Only a test writes here: a change that the parent sees proves that there is one memory.
            table._memory.view[table.shape.starts[6]] = ord("N")

        if __name__ == "__main__":
            chunk = TableChunk()
            for i in range(2000):
                chunk.append(f"name-{{i}}", i, f'"0x{{i + 1:X}}"', 1)
            table = BlobTable.of([chunk])
            worker = multiprocessing.get_context({method!r}).Process(target=work, args=(table,))
            worker.start()
            worker.join()
            print(worker.exitcode, table.name(0), table.name(1))
        """,
        tmp_path,
    )

    assert lines == ["0 Name-0 name-1"]
