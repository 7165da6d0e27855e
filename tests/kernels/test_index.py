"""The key index: equality of values, codes, and what it takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from streamq.kernels.index import KeyIndex
from tests.kernels.values import VALUES, batches, exactly, rows_of


def index_of(*kinds: pa.DataType, exact: bool = False) -> KeyIndex:
    return KeyIndex(pa.schema([pa.field(f"c{number}", kind) for number, kind in enumerate(kinds)]), exact=exact)


@pytest.mark.parametrize("kind", VALUES, ids=str)
def test_every_type_comes_back(kind: pa.DataType) -> None:
    """Values of a type, and NULL, have codes of their own and come back as they were first seen."""
    values = pa.array([*VALUES[kind], None, *VALUES[kind]], kind)
    index = index_of(kind)
    codes = index.encode([values])
    keys = index.keys(codes)
    keys.validate(full=True)
    assert keys.column(0).type == kind
    assert rows_of(keys.columns) == rows_of([values])


@given(batches())
def test_codes_are_those_of_a_dict(case: tuple[pa.Schema, list[list[pa.Array]]]) -> None:
    """Equal keys have equal codes, over batches of any layout, and codes are given in the order of first occurrence."""
    schema, columns = case
    index, known = KeyIndex(schema), dict[Any, int]()
    for batch in columns:
        rows = rows_of(batch)
        assert index.find(batch).tolist() == [known.get(row, -1) for row in rows]
        assert index.encode(batch).tolist() == [known.setdefault(row, len(known)) for row in rows]
        assert (index.rows, index.capacity) == (len(known), len(known))
    keys = index.keys(np.array(list(known.values()), np.int64))
    keys.validate(full=True)
    assert rows_of(keys.columns) == list(known)


@given(batches(), st.data())
def test_released_codes_are_given_again(case: tuple[pa.Schema, list[list[pa.Array]]], data: st.DataObject) -> None:
    """A released key is unknown, the others keep their codes, and the next keys take the freed codes first."""
    schema, columns = case
    index, known = KeyIndex(schema), dict[Any, int]()
    for batch in columns:
        rows = rows_of(batch)
        codes = index.encode(batch).tolist()
        for row, code in zip(rows, codes, strict=True):
            assert known.setdefault(row, code) == code
        assert len(set(known.values())) == len(known) == index.rows
        gone = [row for row in known if data.draw(st.booleans())]
        index.release(np.array([known.pop(row) for row in gone], np.int64))
        assert index.find(batch).tolist() == [known.get(row, -1) for row in rows]
    keys = index.keys(np.array(list(known.values()), np.int64))
    assert rows_of(keys.columns) == list(known)


@given(batches())
@example((pa.schema([("a", pa.float64())]), [[pa.array([0.0, -0.0])]]))
def test_an_exact_index_tells_zeros_apart(case: tuple[pa.Schema, list[list[pa.Array]]]) -> None:
    """With `exact`, rows come back to the sign of zero, each under a code of its own."""
    schema, columns = case
    index, known = KeyIndex(schema, exact=True), dict[Any, int]()
    for batch in columns:
        codes = index.encode(batch).tolist()
        assert codes == [known.setdefault(row, len(known)) for row in rows_of(batch, exactly)]
    assert rows_of(index.keys(np.arange(len(known))).columns, exactly) == list(known)


def test_the_first_zero_comes_back() -> None:
    """-0.0 is 0.0; the key is given as it was first seen."""
    index = index_of(pa.float64(), pa.string())
    assert index.encode([pa.array([-0.0, 0.0]), pa.array(["a", "a"])]).tolist() == [0, 0]
    assert str(index.keys(np.array([0])).column(0)[0].as_py()) == "-0.0"


def test_a_month_is_thirty_days() -> None:
    """Intervals are equal as DuckDB has it, and come back as they were."""
    index = index_of(pa.month_day_nano_interval())
    values = pa.array([(1, 0, 0), (0, 30, 0), (0, 29, 86_400_000_000_000)], pa.month_day_nano_interval())
    assert index.encode([values]).tolist() == [0, 0, 0]
    assert index.keys(np.array([0])).column(0)[0].as_py() == pa.MonthDayNano((1, 0, 0))


def test_borders_of_values_are_part_of_a_key() -> None:
    """("a|b", "c") is not ("a", "b|c"), nor ("ab", "c") ("a", "bc")."""
    index = index_of(pa.string(), pa.string())
    left, right = pa.array(["a|b", "a", "ab", "a", "", None]), pa.array(["c", "b|c", "c", "bc", None, ""])
    assert index.encode([left, right]).tolist() == [0, 1, 2, 3, 4, 5]


def test_chunks_do_not_matter() -> None:
    """A chunked column has the codes of the whole."""
    whole = pa.array(["a", "b", None, "a"])
    assert index_of(pa.string()).encode([pa.chunked_array([whole.slice(0, 1), whole.slice(1)])]).tolist() == [0, 1, 2, 0]


@pytest.mark.parametrize(
    ("kinds", "columns"),
    [
        ((pa.int64(),), lambda numbers: [pa.array(numbers)]),
        ((pa.string(),), lambda numbers: [pa.array([f"{'long ' * (number % 7)}key {number}" for number in numbers])]),
        ((pa.int64(), pa.int32()), lambda numbers: [pa.array(numbers // 7), pa.array((numbers % 7).astype(np.int32))]),
    ],
    ids=["int", "text", "two"],
)
def test_it_grows(kinds: tuple[pa.DataType, ...], columns: Any) -> None:
    """Many keys keep their codes while sub-tables, records and the arena grow, and give up their places one by one."""
    index, numbers = index_of(*kinds), np.arange(60_000)
    for first in range(0, len(numbers), 7_777):
        part = numbers[first : first + 7_777]
        assert (index.encode(columns(part)) == part).all()
    assert (index.find(columns(numbers)) == numbers).all()
    assert index.keys(numbers[::-1]).equals(pa.RecordBatch.from_arrays(columns(numbers[::-1]), schema=index.schema))
    index.release(numbers[numbers % 3 != 0])
    assert (index.find(columns(numbers)) == np.where(numbers % 3, -1, numbers)).all()


def test_room_is_used_again() -> None:
    """Keys that come and go take hardly more room than those that are there at a time."""
    index = index_of(pa.string())
    for turn in range(50):
        index.release(index.encode([pa.array([f"{'x' * 40}{turn}-{number}" for number in range(2_000)])]))
        if turn == 9:
            taken = index.bytes
    assert index.rows == 0
    assert index.bytes < 1.5 * taken


@given(st.lists(st.lists(st.integers(0, 9), max_size=20), max_size=4))
def test_distinct_codes(batches_of_codes: list[list[int]]) -> None:
    """Each code is given once a call, where it first comes."""
    index = index_of(pa.int64())
    index.encode([pa.array(range(10))])
    for codes in batches_of_codes:
        assert index.distinct(np.array(codes, np.int64)).tolist() == list(dict.fromkeys(codes))


def test_long_values() -> None:
    """A value larger than a block of the arena has a place, and gives it back."""
    index = index_of(pa.binary())
    values = [bytes([number]) * (200_000 + number) for number in range(4)]
    codes = index.encode([pa.array(values)])
    assert index.keys(codes).column(0).to_pylist() == values
    index.release(codes)
    taken = index.bytes
    index.encode([pa.array(values)])
    assert index.bytes == taken


def test_a_code_is_released_once() -> None:
    """Releasing a code that has no key is an error in the program."""
    index = index_of(pa.int64())
    codes = index.encode([pa.array([1, 2])])
    index.release(codes[:1])
    with pytest.raises(AssertionError, match="has no key"):
        index.release(codes[:1])


def test_columns_of_another_layout_are_taken() -> None:
    """A column whose type differs from the schema's, but whose values do not, is converted."""
    index = index_of(pa.string(), pa.int64())
    index.encode([pa.array(["a"]), pa.array([1])])
    assert index.find([pa.array(["a"], pa.large_string()), pa.array([1], pa.int8())]).tolist() == [0]


def test_types_without_equality_are_refused() -> None:
    """Unions have no codes."""
    with pytest.raises(TypeError, match="cannot be told apart"):
        index_of(pa.sparse_union([pa.field("a", pa.int32())]))
