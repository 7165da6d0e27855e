"""Formats: the bytes that a result becomes."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pyarrow as pa
import pytest

from streamq.cli.formats import ByteFormat, open_writer
from streamq.wire.json_lines import unique_names


class Kept:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes | memoryview) -> None:
        self.data += data


def encode(kind: ByteFormat, table: pa.Table, *, batch_rows: int = 2) -> bytes:
    sink = Kept()
    writer = open_writer(kind, table.schema, sink)
    for batch in table.to_batches(batch_rows):
        writer.write(batch)
    writer.end()
    return sink.data


ROWS = pa.table(
    {
        "a": pa.array([1, None, 3], pa.int64()),
        "text": ["x", 'quoted "y"\n', ""],
        "at": pa.array([datetime(2013, 1, 1, 5, tzinfo=UTC)] * 3, pa.timestamp("us", "UTC")),
    }
)


def test_arrow_is_a_stream_of_the_same_rows() -> None:
    """Types and batches are as the query gave them."""
    with pa.ipc.open_stream(encode("arrow", ROWS)) as reader:
        batches = list(reader)
    assert [batch.num_rows for batch in batches] == [2, 1]
    assert pa.Table.from_batches(batches) == ROWS


def test_csv_has_a_header_and_every_row() -> None:
    """Any CSV reader gets the values back."""
    rows = list(csv.reader(io.StringIO(encode("csv", ROWS).decode(), newline="")))
    assert rows == [
        ["a", "text", "at"],
        ["1", "x", "2013-01-01 05:00:00.000000Z"],
        ["", 'quoted "y"\n', "2013-01-01 05:00:00.000000Z"],
        ["3", "", "2013-01-01 05:00:00.000000Z"],
    ]


def test_csv_tells_null_from_an_empty_string() -> None:
    """NULL is nothing, an empty string is a pair of quotes."""
    assert encode("csv", pa.table({"t": [None, ""], "u": [1, 2]})).splitlines()[1:] == [b",1", b'"",2']


def test_json_lines_are_objects() -> None:
    """One object a line, NULL as null."""
    lines = [json.loads(line) for line in encode("ndjson", ROWS).decode().split("\n")[:-1]]
    assert lines[1] == {"a": None, "text": 'quoted "y"\n', "at": "2013-01-01T05:00:00.000000Z"}
    assert [line["a"] for line in lines] == [1, None, 3]


@pytest.mark.parametrize(
    ("kind", "value", "in_json", "in_csv"),
    [
        (pa.float64(), float("nan"), "null", "nan"),
        (pa.float64(), float("-inf"), "null", "-inf"),
        (pa.decimal128(38, 9), Decimal("12345678901234567890.123456789"), "12345678901234567890.123456789", None),
        (pa.decimal128(38, 0), Decimal(2**126), str(2**126), str(2**126)),
        (pa.uint64(), 2**64 - 1, str(2**64 - 1), str(2**64 - 1)),
        (pa.date32(), date(2013, 1, 1), '"2013-01-01"', "2013-01-01"),
        (pa.timestamp("us"), datetime(2013, 1, 1), '"2013-01-01T00:00:00.000000"', "2013-01-01 00:00:00.000000"),
        (pa.timestamp("ns"), 1_123_456_789, '"1970-01-01T00:00:01.123456789"', "1970-01-01 00:00:01.123456789"),
        (pa.timestamp("ns", "UTC"), 1_123_456_789, '"1970-01-01T00:00:01.123456789Z"', "1970-01-01 00:00:01.123456789Z"),
        (pa.list_(pa.timestamp("ns")), [1], '["1970-01-01T00:00:00.000000001"]', '["1970-01-01T00:00:00.000000001"]'),
        (pa.duration("us"), timedelta(hours=30), '"30:00:00"', "30:00:00"),
        (pa.month_day_nano_interval(), (1, 2, 0), '"1 month 2 days"', "1 month 2 days"),
        (pa.list_(pa.int64()), [1, None], "[1,null]", "[1,null]"),
        (pa.list_(pa.float64()), [float("nan"), 1.5], "[null,1.5]", "[null,1.5]"),
        (pa.list_(pa.list_(pa.float64())), [[float("inf")]], "[[null]]", "[[null]]"),
        (pa.struct([("x", pa.float64()), ("y", pa.string())]), {"x": float("nan"), "y": "z"}, '{"x":null,"y":"z"}', '{"x":null,"y":"z"}'),
        (pa.map_(pa.string(), pa.float64()), [("k", float("nan"))], '{"k":null}', '{"k":null}'),
        (pa.binary(), b"\x00a", '"\\\\x00a"', "\\x00a"),
        (pa.dictionary(pa.int8(), pa.string()), "x", '"x"', "x"),
        (pa.null(), None, "null", ""),
    ],
)
def test_every_type_has_a_text(kind: pa.DataType, value: object, in_json: str, in_csv: str | None) -> None:
    """What JSON or CSV has no type for is written as text, without losing digits."""
    table = pa.table({"v": pa.array([value], kind), "n": [1]})
    assert encode("ndjson", table) == f'{{"v":{in_json},"n":1}}\n'.encode()
    if in_csv is not None:
        assert list(csv.reader(io.StringIO(encode("csv", table).decode())))[1] == [in_csv, "1"]


def test_unions_are_objects() -> None:
    """Of one member, whose value is written as it would be by itself."""
    at, ratio = pa.array([1_123_456_789, None, None], pa.timestamp("ns")), pa.array([None, float("nan"), 1.5])
    table = pa.table({"v": pa.UnionArray.from_sparse(pa.array([0, 1, 1], pa.int8()), [at, ratio], ["at", "ratio"])})
    rows = ['{"at":"1970-01-01T00:00:01.123456789"}', '{"ratio":null}', '{"ratio":1.5}']
    assert encode("ndjson", table).decode().splitlines() == [f'{{"v":{row}}}' for row in rows]


@pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.struct([("x", pa.float64())]), pa.map_(pa.string(), pa.float64())])
def test_nested_nulls_are_null(kind: pa.DataType) -> None:
    """A NULL list, struct or map is null, not an empty one."""
    table = pa.table({"v": pa.array([None], kind), "n": [1]})
    assert encode("ndjson", table) == b'{"v":null,"n":1}\n'
    assert encode("csv", table).splitlines()[1] == b",1"


def test_names_that_differ_in_case_are_different() -> None:
    """JSON and CSV keep both columns."""
    table = pa.table({"a": [1], "A": [2]})
    assert encode("ndjson", table) == b'{"a":1,"A":2}\n'
    assert encode("csv", table) == b'"a","A"\n1,2\n'


def test_equal_names_are_numbered() -> None:
    """A result may have a name twice, a JSON object must not."""
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["it's", "it's"])
    assert json.loads(encode("ndjson", table)) == {"it's": 1, "it's_1": 2}
    assert unique_names(["a", "a_1", "a"]) == ["a", "a_1", "a_2"]


@pytest.mark.parametrize(("kind", "text"), [("csv", b'"a"\n'), ("ndjson", b"")])
def test_a_result_without_rows(kind: ByteFormat, text: bytes) -> None:
    """CSV still has its header."""
    assert encode(kind, pa.table({"a": pa.array([], pa.int64())})) == text
