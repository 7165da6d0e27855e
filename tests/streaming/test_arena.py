"""Arenas: what is written is read, in other processes too, over and over in the same memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from streamq.streaming.arena import LEAST_BYTES, Arena, ArenaReader, Place

ROWS = pa.record_batch({"n": pa.array(np.arange(1_000)), "s": pa.array([None, "é"] * 500)})


@pytest.fixture
def arena() -> Iterator[Arena]:
    made = Arena(4 * LEAST_BYTES)
    yield made
    made.close()


@pytest.fixture
def reader() -> Iterator[ArenaReader]:
    made = ArenaReader()
    yield made
    made.close()


def written(arena: Arena, rows: pa.RecordBatch) -> Place:
    place = arena.write(rows)
    assert place is not None
    return place


def read(reader: ArenaReader, place: Place) -> pa.RecordBatch:
    (rows,) = pa.ipc.open_stream(reader.copy(place))
    return rows


@pytest.mark.parametrize(
    "rows",
    [
        ROWS,
        ROWS.slice(7, 90),
        ROWS.slice(0, 0),
        pa.record_batch({"e": pa.array(["a", "b", "a"]).dictionary_encode(), "l": [[1], None, []]}),
    ],
    ids=["all", "slice", "none", "dictionary"],
)
def test_what_is_written_is_read(arena: Arena, reader: ArenaReader, rows: pa.RecordBatch) -> None:
    """A batch comes back as it was, of whatever types."""
    assert read(reader, written(arena, rows)).equals(rows)


def test_parcels_lie_behind_each_other(arena: Arena, reader: ArenaReader) -> None:
    """What was written stays until the arena is cleared, also while it grows."""
    parts = [ROWS.slice(first, 100) for first in range(0, 1_000, 100)]
    large = pa.record_batch({"n": np.arange(LEAST_BYTES // 8 * 2)})
    places = [written(arena, rows) for rows in (*parts, large)]
    for rows, place in zip((*parts, large), places, strict=True):
        assert read(reader, place).equals(rows)


def test_cleared_memory_is_used_again(arena: Arena, reader: ArenaReader) -> None:
    """After clearing, rows are written over those of before; copies that were taken stay as they are."""
    first = written(arena, ROWS)
    taken = read(reader, first)
    arena.clear()
    other = ROWS.slice(500)
    second = written(arena, other)
    assert second.first == first.first
    assert taken.equals(ROWS)
    assert read(reader, second).equals(other)


def test_an_arena_has_a_largest_size(arena: Arena) -> None:
    """What has no room is not written; there is room again after clearing."""
    rows = pa.record_batch({"n": np.arange(LEAST_BYTES // 8 * 3)})
    written(arena, rows)
    assert arena.write(rows) is None
    arena.clear()
    written(arena, rows)


def test_a_reader_sees_an_arena_grow(arena: Arena, reader: ArenaReader) -> None:
    """A reader that has opened a small arena reads what is behind its end when it has grown."""
    read(reader, written(arena, ROWS))
    large = pa.record_batch({"n": np.arange(LEAST_BYTES // 8 * 2)})
    assert read(reader, written(arena, large)).equals(large)


def test_nothing_is_left_open(no_residue: None) -> None:
    """Closing gives descriptors and memory back; an arena that nothing was written into has none."""
    arena, reader = Arena(), ArenaReader()
    arena.close()
    read(reader, written(arena, ROWS))
    reader.close()
    arena.close()
