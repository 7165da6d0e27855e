"""Values of many types, as Arrow columns laid out in every way, and what makes them equal."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

TEXTS = ["", "a", "b", "ab\0", "ab", "\0", "abcdefgh", "abcdefgh\0", "user-12345", "Grüße, 東京", "x" * 16, "x" * 17, "x" * 300, "y" * 2000]
FLOATS = [0.0, -0.0, math.nan, 1.5, -1.5, math.inf, -math.inf, 1e300]
PAIR = pa.struct([("a", pa.int32()), ("b", pa.string())])

VALUES: dict[pa.DataType, list[Any]] = {
    pa.int8(): [-128, -1, 0, 1, 127],
    pa.int32(): [-(2**31), -1, 0, 1, 7],
    pa.int64(): [-(2**63), -1, 0, 1, 2**63 - 1],
    pa.uint64(): [0, 1, 2**63, 2**64 - 1],
    pa.bool_(): [True, False],
    pa.float32(): [0.0, -0.0, math.nan, 1.5, -1.5],
    pa.float64(): FLOATS,
    pa.decimal128(9, 2): [Decimal("1.50"), Decimal("-1.50"), Decimal("0.00")],
    pa.decimal128(38, 0): [Decimal(10**38 - 1), Decimal(-(10**38) + 1), Decimal(0), Decimal(2**64)],
    pa.decimal256(70, 3): [Decimal("1.5").quantize(Decimal("1.000")), Decimal(-7).quantize(Decimal("1.000"))],
    pa.date32(): [date(1970, 1, 1), date(2024, 2, 29), date(1900, 1, 1)],
    pa.time64("us"): [time(0), time(23, 59, 59, 999999)],
    pa.timestamp("us"): [datetime(1970, 1, 1), datetime(2024, 2, 29, 1)],
    pa.timestamp("ms", "UTC"): [datetime(1970, 1, 1).astimezone(), datetime(2024, 2, 29).astimezone()],
    pa.string(): TEXTS,
    pa.large_string(): TEXTS,
    pa.string_view(): TEXTS,
    pa.binary(): [text.encode() for text in TEXTS],
    pa.binary(2): [b"ab", b"\0\0", b"a\0"],
    pa.dictionary(pa.uint8(), pa.string()): ["a", "b", ""],
    pa.null(): [None],
    pa.list_(pa.int32()): [[], [1], [1, None], [None, 1], [1, 2, 3]],
    pa.list_(pa.list_(pa.string())): [[], [[]], [None], [["a"], ["b"]], [["a", "b"]], [["ab"], []], [[None]]],
    pa.list_(PAIR): [[], [None], [{"a": 1, "b": "x"}], [{"a": None, "b": None}]],
    pa.list_(pa.int32(), 2): [[1, 2], [2, 1], [None, 1]],
    pa.map_(pa.string(), pa.int32()): [[], [("a", 1)], [("a", 1), ("b", None)]],
    PAIR: [{"a": 1, "b": "x"}, {"a": None, "b": "x"}, {"a": None, "b": None}, {"a": 1, "b": ""}],
    pa.struct([("p", PAIR), ("f", pa.float64())]): [{"p": None, "f": 0.0}, {"p": None, "f": -0.0}, {"p": {"a": None, "b": None}, "f": 0.0}],
    pa.month_day_nano_interval(): [(0, 0, 0), (1, 2, 3), (0, 31, 5)],
}


def plain(value: Any) -> Any:
    """Give what is equal where values are."""
    match value:
        case float():
            return ("float", "nan" if math.isnan(value) else value + 0.0)
        case dict():
            return tuple((name, plain(item)) for name, item in value.items())
        case pa.MonthDayNano():
            return value
        case list() | tuple():
            return tuple(plain(item) for item in value)
        case bool():
            return ("bool", value)
        case _:
            return value


def exactly(value: Any) -> Any:
    """Give what is equal where values are, to the sign of zero."""
    match value:
        case float():
            return "nan" if math.isnan(value) else struct.pack("d", value)
        case dict():
            return tuple((name, exactly(item)) for name, item in value.items())
        case list():
            return tuple(exactly(item) for item in value)
        case _:
            return plain(value)


def rows_of(columns: Sequence[pa.Array], equal: Any = plain) -> list[tuple[Any, ...]]:
    """Give rows as tuples that compare and hash as the values do."""
    return list(zip(*([equal(value) for value in column.to_pylist()] for column in columns), strict=True))


@st.composite
def laid_out(draw: st.DrawFn, kind: pa.DataType, rows: int) -> pa.Array:
    """Draw a column of so many rows, some NULL; a slice of a longer one at times."""
    values = draw(st.lists(st.one_of(st.none(), st.sampled_from(VALUES[kind])), min_size=rows, max_size=rows))
    before, after = draw(st.integers(0, 9)), draw(st.integers(0, 3))
    padding = [VALUES[kind][0]]
    array = pa.array(padding * before + values + padding * after, kind)
    return array.slice(before, rows)


@st.composite
def batches(draw: st.DrawFn, most_rows: int = 12, most_columns: int = 3) -> tuple[pa.Schema, list[list[pa.Array]]]:
    """Draw a schema and some batches of it."""
    kinds = draw(st.lists(st.sampled_from(list(VALUES)), min_size=1, max_size=most_columns))
    schema = pa.schema([pa.field(f"c{number}", kind) for number, kind in enumerate(kinds)])
    sizes = draw(st.lists(st.integers(0, most_rows), min_size=1, max_size=4))
    return schema, [[draw(laid_out(kind, size)) for kind in kinds] for size in sizes]
