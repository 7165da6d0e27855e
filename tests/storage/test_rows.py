"""What inserts accept, what they convert, and what they refuse."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from streamq.errors import SourceError
from streamq.storage.rows import table_of
from tests.oracle import connect_duckdb

SCHEMA = pa.schema([("id", pa.int64()), ("name", pa.string()), ("amount", pa.float64())])
EXPECTED = [{"id": 1, "name": "a", "amount": 1.5}, {"id": 2, "name": None, "amount": None}]


def rows(data: object, schema: pa.Schema = SCHEMA) -> list[dict[str, object]]:
    table = table_of(data, schema, relation="t")
    assert table.schema == schema
    found: list[dict[str, object]] = table.to_pylist()
    return found


def one(value: object, target: pa.DataType) -> object:
    """Insert one value into a column of a type."""
    return rows([{"c": value}], pa.schema([("c", target)]))[0]["c"]


def arrow_one(values: pa.Array, target: pa.DataType) -> list[object]:
    return [row["c"] for row in rows(pa.table({"c": values}), pa.schema([("c", target)]))]


def forms() -> dict[str, object]:
    table = pa.Table.from_pylist(EXPECTED, schema=SCHEMA)
    con = connect_duckdb()
    return {
        "table": table,
        "batch": table.to_batches()[0],
        "reader": table.to_reader(),
        "polars": pl.from_arrow(table),
        "pandas": pd.DataFrame({"id": [1, 2], "name": ["a", None], "amount": [1.5, None]}, index=[7, 8]),
        "duckdb": con.from_arrow(table),
        "dicts": EXPECTED,
        "iterator of dicts": iter(EXPECTED),
        "batches": [table.slice(0, 1), table.slice(1).to_batches()[0]],
        "columns": {"id": [1, 2], "name": ("a", None), "amount": np.array([1.5, math.nan])} | {"amount": [1.5, None]},
        "struct array": pa.array(EXPECTED),
        "other case": [{"ID": 1, "Name": "a", "AMOUNT": 1.5}, {"id": 2}],
        "dictionary": pa.table({"id": [1, 2], "name": pa.array(["a", None]).dictionary_encode(), "amount": [1.5, None]}),
    }


@pytest.mark.parametrize("form", sorted(forms()))
def test_every_form_gives_the_same_rows(form: str) -> None:
    """A form of input says nothing about what is inserted."""
    assert rows(forms()[form]) == EXPECTED


def test_readers_among_others_are_read_once() -> None:
    """A reader has its rows only once: all of them go in."""
    batches = pa.table({"id": [1, 2]}).to_batches()
    data = [pa.table({"id": [0]}), pa.RecordBatchReader.from_batches(batches[0].schema, batches)]
    assert [row["id"] for row in rows(data)] == [0, 1, 2]


def test_what_cannot_be_read_is_named() -> None:
    """Of data that fails as it is read the error has the relation and the kind; what the user's own code raises is left as it is."""
    failing = duckdb.sql("SELECT 1 AS id, error('broken')::VARCHAR AS name FROM range(1)")
    with pytest.raises(SourceError, match=r"t: reading DuckDBPyRelation failed: .*broken"):
        rows(failing)

    def own() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch({"id": [1]})
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        rows(pa.RecordBatchReader.from_batches(pa.schema([("id", pa.int64())]), own()))


def test_a_dict_of_scalars_is_one_row() -> None:
    """A dict that is no set of columns is a row."""
    assert rows({"id": 1, "name": "a", "amount": 1.5}) == EXPECTED[:1]


def test_a_list_in_a_list_column_is_a_value() -> None:
    """A dict with one list for a list column is one row; lists of lists are columns."""
    schema = pa.schema([("tags", pa.list_(pa.string()))])
    assert rows({"tags": ["a", "b"]}, schema) == [{"tags": ["a", "b"]}]
    assert rows({"tags": [["a"], ["b"]]}, schema) == [{"tags": ["a"]}, {"tags": ["b"]}]


def test_nothing_is_no_rows() -> None:
    """An empty list inserts no rows, with the schema."""
    assert rows([]) == []
    assert rows(iter(())) == []


def test_missing_columns_are_null() -> None:
    """Columns that are not given, in any row, are NULL."""
    assert rows([{"id": 1}, {"name": "x"}]) == [
        {"id": 1, "name": None, "amount": None},
        {"id": None, "name": "x", "amount": None},
    ]


@pytest.mark.parametrize(
    ("value", "target", "expected"),
    [
        (3, pa.int32(), 3),
        (3.0, pa.int32(), 3),
        (Decimal("3.00"), pa.int64(), 3),
        (3, pa.float64(), 3.0),
        (0.1, pa.float32(), pytest.approx(0.1)),
        (math.inf, pa.float32(), math.inf),
        (Decimal("0.1"), pa.float64(), 0.1),
        (3, pa.decimal128(5, 2), Decimal("3.00")),
        (1.25, pa.decimal128(5, 2), Decimal("1.25")),
        (1.1, pa.decimal128(5, 2), Decimal("1.10")),
        ("1.25", pa.decimal128(5, 2), Decimal("1.25")),
        (Decimal("1.250"), pa.decimal128(5, 2), Decimal("1.25")),
        (True, pa.bool_(), True),
        (b"x", pa.binary(), b"x"),
        ("2024-02-29", pa.date32(), date(2024, 2, 29)),
        (datetime(2024, 2, 29), pa.date32(), date(2024, 2, 29)),
        (date(2024, 2, 29), pa.timestamp("us"), datetime(2024, 2, 29)),
        ("10:11:12", pa.time64("us"), time(10, 11, 12)),
        ("2024-02-29T10:00:00Z", pa.timestamp("us"), datetime(2024, 2, 29, 10)),
        ("2024-02-29 10:00:00+02:00", pa.timestamp("us", "UTC"), datetime(2024, 2, 29, 8, tzinfo=UTC)),
        ("2024-02-29 10:00", pa.timestamp("us", "UTC"), datetime(2024, 2, 29, 10, tzinfo=UTC)),
        ("2024-02-29", pa.timestamp("us"), datetime(2024, 2, 29)),
        (datetime(2024, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))), pa.timestamp("us"), datetime(2024, 1, 1)),
        (datetime(2024, 1, 1), pa.timestamp("us", "UTC"), datetime(2024, 1, 1, tzinfo=UTC)),
        (datetime(2024, 1, 1, 0, 0, 0, 1000), pa.timestamp("ms"), datetime(2024, 1, 1, 0, 0, 0, 1000)),
        (timedelta(seconds=90), pa.month_day_nano_interval(), pa.MonthDayNano([0, 0, 90_000_000_000])),
        ([1, 2], pa.list_(pa.int32()), [1, 2]),
        ({"a": 1}, pa.struct([("a", pa.int32()), ("b", pa.string())]), {"a": 1, "b": None}),
        ({"k": 1}, pa.map_(pa.string(), pa.int32()), [("k", 1)]),
    ],
    ids=repr,
)
def test_lossless_conversions(value: object, target: pa.DataType, expected: object) -> None:
    """A value that its column can hold exactly is converted (a float column takes the nearest)."""
    assert one(value, target) == expected
    assert one(None, target) is None


@pytest.mark.parametrize(
    ("value", "target"),
    [
        (2**31, pa.int32()),
        (-1, pa.uint8()),
        (2**70, pa.int64()),
        (1.5, pa.int32()),
        (math.nan, pa.int32()),
        (2**53 + 1, pa.float64()),
        (1e300, pa.float32()),
        (1.234, pa.decimal128(5, 2)),
        (math.inf, pa.decimal128(5, 2)),
        (Decimal("1.234"), pa.decimal128(5, 2)),
        (1000, pa.decimal128(5, 2)),
        ("1.234", pa.decimal128(5, 2)),
        (Decimal("1.5"), pa.int64()),
        (True, pa.int64()),
        (1, pa.bool_()),
        ("1", pa.int64()),
        (1, pa.string()),
        ("x", pa.binary()),
        ("01/02/2024", pa.date32()),
        ("01/02/2024", pa.timestamp("us")),
        ("2024-02-30", pa.timestamp("us")),
        ("2024-01-01 00:00:00.0000001", pa.timestamp("us")),
        (datetime(2024, 1, 1, 1), pa.date32()),
        (datetime(2024, 1, 1, 0, 0, 0, 1), pa.timestamp("ms")),
        (1704067200, pa.timestamp("us")),
        ([1, 2**40], pa.list_(pa.int32())),
        ([True], pa.list_(pa.int32())),
        ({"q": 1}, pa.struct([("a", pa.int32())])),
        ("\ud800", pa.string()),
        (len, pa.int64()),
    ],
    ids=repr,
)
def test_lossy_conversions_are_refused(value: object, target: pa.DataType) -> None:
    """A value that its column cannot hold is refused, with its row."""
    schema = pa.schema([("c", target)])
    with pytest.raises(SourceError, match=r"^t\.c, row 2: "):
        table_of([{"c": None}, {}, {"c": value}, {"c": None}], schema, relation="t")


def test_mixed_python_types_are_converted_one_by_one() -> None:
    """A column whose values have several Python types takes each that fits."""
    schema = pa.schema([("c", pa.timestamp("us"))])
    given = [{"c": "2024-01-01"}, {"c": datetime(2024, 1, 2)}, {"c": None}]
    assert [row["c"] for row in rows(given, schema)] == [datetime(2024, 1, 1), datetime(2024, 1, 2), None]


def test_the_row_of_a_bad_value_is_found_in_a_long_column() -> None:
    """The first row that does not fit is named, however many batches there are."""
    values = pa.chunked_array([pa.array(np.arange(5000)), pa.array([7, 2**40, 2**41])])
    with pytest.raises(SourceError, match=r"row 5001: 1099511627776 .*INTEGER"):
        table_of(pa.table({"c": values}), pa.schema([("c", pa.int32())]), relation="t")


def test_timestamps_change_unit_only_without_loss() -> None:
    """Nanoseconds become microseconds if nothing is cut off."""
    assert arrow_one(pa.array([1000], pa.timestamp("ns")), pa.timestamp("us")) == [datetime(1970, 1, 1, 0, 0, 0, 1)]
    with pytest.raises(SourceError):
        arrow_one(pa.array([1], pa.timestamp("ns")), pa.timestamp("us"))


def test_unknown_columns_are_named_with_near_matches() -> None:
    """A misspelt column is an error that suggests the right one."""
    with pytest.raises(SourceError, match=r"no column 'amuont'; did you mean 'amount'"):
        table_of([{"id": 1, "amuont": 2}], SCHEMA, relation="t")


@pytest.mark.parametrize("data", [5, "abc", b"abc", [1], [[1]], None, [None], [None, {"n": 1}]], ids=repr)
def test_what_is_no_rows_is_refused(data: object) -> None:
    """Only rows can be inserted."""
    with pytest.raises(SourceError, match=r"^t"):
        table_of(data, SCHEMA, relation="t")


def test_columns_of_different_lengths_are_refused() -> None:
    """Columns must be of one length."""
    with pytest.raises(SourceError, match="id 1, name 2"):
        table_of({"id": [1], "name": ["a", "b"]}, SCHEMA, relation="t")


def test_a_column_given_twice_is_refused() -> None:
    """Names that differ only by case are the same column."""
    with pytest.raises(SourceError, match="given twice"):
        table_of([{"id": 1, "ID": 2}], SCHEMA, relation="t")
    with pytest.raises(SourceError, match="given twice"):
        table_of(pa.table({"id": [1], "ID": [2]}), SCHEMA, relation="t")


def test_null_in_a_not_null_column_is_refused() -> None:
    """NOT NULL holds for given and for missing values."""
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False), ("name", pa.string())])
    with pytest.raises(SourceError, match=r"t\.id, row 1: NULL"):
        table_of([{"id": 1}, {"id": None}], schema, relation="t")
    with pytest.raises(SourceError, match=r"t\.id, row 0: NULL"):
        table_of([{"name": "x"}], schema, relation="t")
