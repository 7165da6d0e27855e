"""Generated relations: typed columns of awkward values, and the ways in which streamq can hold the same rows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Any, Literal

import pyarrow as pa
from hypothesis import strategies as st

Kind = Literal["int", "big", "dyadic", "float", "text", "bool", "ts", "date", "dec", "list"]
Hold = Literal["source", "partitioned", "table", "parquet", "files", "arrow", "chunks"]
HOLDS: tuple[Hold, ...] = ("source", "partitioned", "table", "parquet", "files", "arrow", "chunks")
ENDLESS: tuple[Hold, ...] = ("source", "partitioned", "table")
"""The ways of holding rows to which more can be written."""
EPOCH = dt.datetime(2024, 1, 1)


@dataclass(frozen=True, slots=True)
class ColumnType:
    """How a kind of column is stored and filled."""

    arrow: pa.DataType
    values: st.SearchStrategy[Any]


TYPES: dict[Kind, ColumnType] = {
    "int": ColumnType(pa.int32(), st.integers(-3, 4)),
    "big": ColumnType(pa.int64(), st.one_of(st.integers(-1000, 1000), st.sampled_from([2**62, -(2**62)]))),
    # Sums of eighths are exact in any order; NaN and −0 compare as SQL says.
    "dyadic": ColumnType(
        pa.float64(), st.one_of(st.integers(-80, 80).map(lambda n: n / 8), st.sampled_from([-0.0, float("nan"), float("inf")]))
    ),
    "float": ColumnType(pa.float64(), st.floats(-1e6, 1e6, allow_nan=False, allow_subnormal=False)),
    "text": ColumnType(pa.string(), st.sampled_from(["", "a", "A", "b", "ab", "ß", "zebra with a longer tail", "a'b", "%"])),
    "bool": ColumnType(pa.bool_(), st.booleans()),
    "ts": ColumnType(pa.timestamp("us"), st.integers(-5_000, 10_000).map(lambda s: EPOCH + dt.timedelta(seconds=s))),
    "date": ColumnType(pa.date32(), st.integers(-3, 3).map(lambda d: EPOCH.date() + dt.timedelta(days=d))),
    "dec": ColumnType(pa.decimal128(12, 2), st.integers(-500, 500).map(lambda n: Decimal(n) / 100)),
    "list": ColumnType(pa.list_(pa.int32()), st.lists(st.one_of(st.none(), st.integers(0, 3)), max_size=3)),
}

SQL_NAMES = {
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    pa.string(): "VARCHAR",
    pa.bool_(): "BOOLEAN",
    pa.timestamp("us"): "TIMESTAMP",
    pa.date32(): "DATE",
}


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Relation:
    """Rows under a name and how they are held.

    `columns` begin with `id`, which is unique and never NULL. `cuts` are the row numbers where a new batch (or file) begins,
    `row_group` the rows of a Parquet row group. `watermark` is an expression over the one event time column.
    """

    name: str
    columns: tuple[Column, ...]
    rows: pa.Table
    hold: Hold
    cuts: tuple[int, ...]
    row_group: int
    watermark: str | None = None

    @property
    def pieces(self) -> list[pa.Table]:
        """The rows, cut."""
        edges = [0, *self.cuts, self.rows.num_rows]
        return [self.rows.slice(first, end - first) for first, end in pairwise(edges)]

    @property
    def partition_key(self) -> str:
        """The column that decides the shard of a row of a partitioned source: one whose values repeat, if there is one."""
        return next((column.name for column in self.columns if column.kind in ("int", "text", "bool", "dyadic")), self.columns[0].name)

    @property
    def declaration(self) -> str:
        """The columns, as CREATE SOURCE and CREATE TABLE have them."""
        columns = [f"{field.name} {sql_type(field.type)}" for field in self.rows.schema]
        time = [f"WATERMARK FOR {self.of_kind('ts')[0]} AS {self.watermark}"] if self.watermark is not None else []
        return ", ".join(columns + time)

    def of_kind(self, *kinds: Kind) -> list[str]:
        """Names of the columns of these kinds; `id` is a `big`."""
        return [column.name for column in self.columns if column.kind in kinds]

    def __repr__(self) -> str:
        return f"{self.name} as {self.hold}, cuts {self.cuts}, row groups of {self.row_group}: {self.rows.to_pylist()}"


def sql_type(kind: pa.DataType) -> str:
    """Name an Arrow type in DuckDB's SQL.

    >>> sql_type(pa.list_(pa.int32()))
    'INTEGER[]'
    """
    if pa.types.is_list(kind):
        return f"{sql_type(kind.value_type)}[]"
    if pa.types.is_struct(kind):
        return f"STRUCT({', '.join(f'{field.name} {sql_type(field.type)}' for field in kind)})"
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision},{kind.scale})"
    return SQL_NAMES[kind]


def fixed(name: str, rows: pa.Table, hold: Hold, *, pieces: int = 3, row_group: int = 100) -> Relation:
    """Make a relation of given rows, cut into as many pieces."""
    cuts = tuple(rows.num_rows * number // pieces for number in range(1, pieces))
    return Relation(name, tuple(Column(column, "big") for column in rows.column_names), rows, hold, cuts, row_group)


@st.composite
def relations(draw: st.DrawFn, name: str, kinds: Sequence[Kind], *, min_rows: int = 0, max_rows: int = 40, prefix: str = "") -> Relation:
    """Make a relation with `id` and a column of each of `kinds`."""
    columns = (Column(f"{prefix}id", "big"), *(Column(f"{prefix}{kind[0]}{number}", kind) for number, kind in enumerate(kinds)))
    values = st.tuples(*(st.one_of(st.none(), TYPES[kind].values, TYPES[kind].values) for kind in kinds))
    rows = draw(st.lists(values, min_size=min_rows, max_size=max_rows))
    ids = draw(st.permutations(range(len(rows))))
    cells = [[i, *row] for i, row in zip(ids, rows, strict=True)]
    arrays = [pa.array([row[number] for row in cells], TYPES[column.kind].arrow) for number, column in enumerate(columns)]
    table = pa.table(arrays, names=[column.name for column in columns])
    cuts = tuple(sorted(draw(st.lists(st.integers(0, len(rows)), max_size=4))))
    return Relation(name, columns, table, draw(st.sampled_from(HOLDS)), cuts, draw(st.integers(1, max(len(rows), 1))))
