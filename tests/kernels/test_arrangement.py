"""Arrangements and consolidation against a Counter of rows."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamq.kernels.arrangement import Arrangement
from streamq.kernels.weights import consolidate
from tests.kernels.values import batches, exactly, rows_of

SCHEMA = pa.schema([pa.field("k", pa.string()), pa.field("v", pa.float64())])
ROWS = st.tuples(st.sampled_from(["a", "b", "", None]), st.sampled_from([0.0, -0.0, 1.0, None]))


def batch_of(rows: list[tuple[Any, ...]]) -> pa.RecordBatch:
    return pa.record_batch([pa.array([row[at] for row in rows], SCHEMA.field(at).type) for at in range(2)], schema=SCHEMA)


def bag(rows: pa.RecordBatch | pa.Table, times: np.ndarray[Any, np.dtype[np.int64]]) -> Counter[Any]:
    counts = Counter[Any]()
    for row, weight in zip(rows_of(rows.columns, exactly), times.tolist(), strict=True):
        counts[row] += weight
    return counts


def content(kept: Arrangement) -> Counter[Any]:
    state = kept.snapshot()
    return bag(state.drop_columns(["#weight"]), state.column("#weight").to_numpy())


@pytest.mark.parametrize("keys", [["k"], ["v", "k"], []], ids=str)
@given(data=st.data())
def test_it_is_a_bag_of_rows_by_key(keys: list[str], data: st.DataObject) -> None:
    """Rows are added, withdrawn and found as in a Counter, over epochs and a restart."""
    kept, known = Arrangement(SCHEMA, keys), Counter[Any]()
    for _ in range(data.draw(st.integers(1, 4))):
        added = data.draw(st.lists(ROWS, max_size=8))
        there = known + bag(batch_of(added), np.ones(len(added), np.int64))
        taken = [as_values(row) for row in there.elements() if data.draw(st.booleans())]
        weights = np.array([1] * len(added) + [-1] * len(taken), np.int64)
        delta = batch_of(added + taken)
        kept.apply(delta, weights)
        known.update(bag(delta, weights))
        known = +known
        assert content(kept) == known
        assert kept.num_rows == len(known)
        check_keys(kept, keys, known)
        if data.draw(st.booleans()):
            again = Arrangement(SCHEMA, keys)
            again.restore(kept.snapshot())
            kept = again


def as_values(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return row[0], None if row[1] is None else float(np.frombuffer(row[1])[0])


def check_keys(kept: Arrangement, keys: list[str], known: Counter[Any]) -> None:
    """Every key gives its rows; one that is not there gives none."""
    if not keys:
        codes = kept.find([])
        assert (codes.tolist() == [-1]) == (not known)
        rows, times, which = kept.rows(codes)
        assert (bag(rows, times), set(which.tolist())) == (known, {0} if known else set())
        return
    wanted = batch_of([*(as_values(row) for row in known), ("missing", 9.0)])
    codes = kept.find([wanted.column(name) for name in keys])
    assert codes[-1] == -1
    rows, times, which = kept.rows(codes)
    places = [SCHEMA.get_field_index(name) for name in keys]
    own = [tuple(_key(row[place]) for place in places) for row in rows_of(wanted.columns, exactly)]
    for at, key in enumerate(own):
        mine = which == at
        expected = Counter({row: count for row, count in known.items() if tuple(_key(row[place]) for place in places) == key})
        assert bag(rows.filter(pa.array(mine)), times[mine]) == expected


def _key(value: Any) -> Any:
    return exactly(0.0) if value == exactly(-0.0) else value


def test_a_row_that_is_not_there_cannot_be_withdrawn() -> None:
    """A multiplicity below 0 is an error in the program."""
    kept = Arrangement(SCHEMA, ["k"])
    kept.apply(batch_of([("a", 1.0)]), None)
    with pytest.raises(AssertionError, match="not there"):
        kept.apply(batch_of([("a", 2.0)]), np.array([-1]))


def test_evicted_rows_give_their_room_back() -> None:
    """Rows that come and go take no more room than those that are there at a time; their keys go with them."""
    kept = Arrangement(SCHEMA, ["k"])
    for turn in range(30):
        kept.apply(batch_of([(f"a rather long key {turn} {number}", float(number)) for number in range(500)]), None)
        if turn == 9:
            taken = kept.bytes
        if turn % 2:
            kept.evict(kept.numbers())
        else:
            kept.forget(kept.find([kept.snapshot().column("k")]))
    assert kept.num_rows == 0
    assert kept.capacity == 500
    assert kept.bytes < 1.5 * taken


def test_part_of_the_rows_is_evicted() -> None:
    """The other rows of a key stay."""
    kept = Arrangement(SCHEMA, ["k"])
    kept.apply(batch_of([("a", float(number)) for number in range(10)]), np.arange(1, 11))
    numbers = kept.numbers()
    values = kept.take(numbers)[0].column("v").to_numpy()
    kept.evict(numbers[values % 2 == 0])
    rows, times, _ = kept.rows(kept.find([pa.array(["a"])]))
    assert sorted(zip(rows.column("v").to_pylist(), times.tolist(), strict=True)) == [(1.0, 2), (3.0, 4), (5.0, 6), (7.0, 8), (9.0, 10)]


def test_codes_of_emptied_keys_stay_until_the_next_change() -> None:
    """A key that loses its rows and gets new ones in one call keeps its code, and what was withdrawn last is not found."""
    kept = Arrangement(SCHEMA, ["k"])
    first = kept.apply(batch_of([("a", 1.0), ("b", 1.0)]), None)
    codes = kept.apply(batch_of([("a", 1.0), ("b", 1.0), ("a", 2.0)]), np.array([-1, -1, 1]))
    assert codes.tolist() == [*first, first[0]]
    assert kept.find([pa.array(["a", "b"])]).tolist() == [first[0], -1]
    assert kept.keys(codes).column(0).to_pylist() == ["a", "b", "a"]


@given(batches(), st.data())
def test_consolidation_sums_weights_of_equal_rows(case: tuple[pa.Schema, list[list[pa.Array]]], data: st.DataObject) -> None:
    """Equal rows become one with the sum of their weights, and those with 0 go."""
    schema, (columns, *_) = case
    rows = pa.RecordBatch.from_arrays(columns, schema=schema)
    weights = np.array(data.draw(st.lists(st.sampled_from([-2, -1, 1, 2]), min_size=rows.num_rows, max_size=rows.num_rows)), np.int64)
    expected = Counter[Any]()
    for row, weight in zip(rows_of(columns, exactly), weights.tolist(), strict=True):
        expected[row] += weight
    net, sums = consolidate(rows, weights)
    assert dict(zip(rows_of(net.columns, exactly), sums.tolist(), strict=True)) == {row: n for row, n in expected.items() if n}


@pytest.mark.parametrize("kind", [pa.string_view(), pa.binary_view()])
def test_consolidation_takes_views(kind: pa.DataType) -> None:
    """Columns of views, which Arrow cannot take rows of, are consolidated too."""
    rows = pa.record_batch({"a": pa.array(["x", None, "a text of more than twelve bytes", "x"], pa.string()).cast(kind)})
    kept, weights = consolidate(rows, np.array([1, 2, -1, -1]))
    assert (kept.schema, kept.column("a").cast(pa.string()).to_pylist()) == (rows.schema, [None, "a text of more than twelve bytes"])
    assert weights.tolist() == [2, -1]
