"""Rows in memory as a snapshot: units of Arrow tables, cut into ranges.

A source gives a unit per shard, a table and a registered object one unit. Reading slices; it never copies a user's column.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
import pyarrow as pa

from streamq.plan.relations import ScanArrow
from streamq.plan.splits import Lease, Split
from streamq.sql.catalog import SYSTEM_SCHEMA

SPLIT_ROWS = 122_880
"""The rows of a split: DuckDB's row group, small enough to balance, large enough that handing it out costs nothing."""
ROW_COLUMN = "__row"
"""The column (all NULL) of rows that are read without columns: SQL has no rows without columns."""


@dataclass(frozen=True, slots=True)
class Unit:
    """The rows of one unit, in order: the user's columns and, if rows have their own, `_timestamp` behind them.

    Row 0 of `table` has `_offset` = `first_offset`. `arrived_us` is the `_timestamp` of rows without their own.
    """

    number: int
    table: pa.Table
    first_offset: int = 0
    arrived_us: int | None = None

    def column(self, name: str, first: int, rows: int, *, user: bool) -> pa.ChunkedArray:
        """Give a user's or system column of `rows` rows from row `first` of the unit."""
        if user:
            return self.table.column(name).slice(first, rows)
        match name:
            case "_offset":
                values = np.arange(
                    self.first_offset + first,
                    self.first_offset + first + rows,
                    dtype=np.int64,
                )
            case "_partition":
                values = np.full(rows, self.number, dtype=np.int32)
            case "_timestamp" if self.arrived_us is None:
                return self.table.column(self.table.num_columns - 1).slice(first, rows)
            case "_timestamp":
                values = np.full(rows, self.arrived_us, dtype=np.int64)
            case _:
                raise KeyError(name)
        return pa.chunked_array([pa.array(values).cast(SYSTEM_SCHEMA.field(name).type)])


@dataclass(frozen=True, slots=True)
class MemorySnapshot:
    """Rows held by this process, at one cut. Make it with `snapshot_of`."""

    schema: pa.Schema
    units: tuple[Unit, ...]
    splits: tuple[Split, ...]
    rows: int
    bytes: int
    unit: Literal["range", "shard"]
    partition_keys: tuple[str, ...] = ()
    exact: bool = True
    in_memory: bool = True
    at_hand: bool = True

    @property
    def max_parallelism(self) -> int:
        """The number of partitions where rows are partitioned by a key, else the number of splits; at least 1."""
        return max(1, len(self.units) if self.partition_keys else len(self.splits))

    def read(self, lease: Lease | None, columns: Sequence[str], filter: str | None = None) -> ScanArrow:
        """Give the rows of a lease, all rows for None. `filter` is left to SQL: the rows are in memory already."""
        ranges = [(unit, 0, unit.table.num_rows) for unit in self.units] if lease is None else _ranges(self.units, lease.splits)
        if not columns:
            return ScanArrow(pa.table({ROW_COLUMN: pa.nulls(sum(rows for _, _, rows in ranges))}))
        user = set(self.schema.names)
        if not ranges and self.units:
            ranges = [(self.units[0], 0, 0)]
        tables = [
            pa.Table.from_arrays([unit.column(name, first, rows, user=name in user) for name in columns], names=list(columns))
            for unit, first, rows in ranges
        ]
        return ScanArrow(pa.concat_tables(tables) if tables else scan_schema(self.schema, columns).empty_table())

    def verify(self, lease: Lease | None) -> None:
        """Do nothing: nobody changes the rows of a snapshot."""


def _ranges(units: Sequence[Unit], splits: Sequence[Split]) -> list[tuple[Unit, int, int]]:
    """Give the rows of splits, those that follow each other as one range: unit, first row, number of rows."""
    ranges: list[tuple[int, int, int]] = []
    for split in splits:
        end = units[split.unit].table.num_rows if split.end is None else split.end
        if ranges and ranges[-1][0] == split.unit and ranges[-1][2] == split.first:
            ranges[-1] = (split.unit, ranges[-1][1], end)
        else:
            ranges.append((split.unit, split.first, end))
    return [(units[number], first, end - first) for number, first, end in ranges]


def scan_schema(schema: pa.Schema, columns: Sequence[str]) -> pa.Schema:
    """Give the schema of a read: a user's column goes before a system column of the same name."""
    user = set(schema.names)
    return pa.schema([schema.field(name) if name in user else SYSTEM_SCHEMA.field(name) for name in columns])


def snapshot_of(
    schema: pa.Schema,
    units: Sequence[Unit],
    *,
    unit: Literal["range", "shard"] = "range",
    bytes: int | None = None,
    partition_keys: tuple[str, ...] = (),
) -> MemorySnapshot:
    """Make a snapshot of units that nobody changes any more."""
    return MemorySnapshot(
        schema=schema,
        units=tuple(units),
        splits=tuple(split for part in units for split in _splits(part)),
        rows=sum(part.table.num_rows for part in units),
        bytes=sum(part.table.nbytes for part in units) if bytes is None else bytes,
        unit=unit,
        partition_keys=partition_keys,
    )


def cut_ranges(lengths: Iterable[int], target: int = SPLIT_ROWS) -> list[tuple[int, int]]:
    """Cut rows that lie in batches of these lengths into ranges of about `target` rows, at the batches' ends where that fits.

    >>> cut_ranges([3, 3, 3], target=6)
    [(0, 6), (6, 9)]
    >>> cut_ranges([0, 10], target=4)
    [(0, 3), (3, 6), (6, 10)]
    """
    ranges: list[tuple[int, int]] = []
    start = position = 0
    for length in lengths:
        if position > start and position + length - start > target:
            ranges.append((start, position))
            start = position
        position += length
        if position - start > target:
            pieces = -(-(position - start) // target)
            bounds = [start + (position - start) * i // pieces for i in range(pieces + 1)]
            ranges += list(pairwise(bounds))
            start = position
    if position > start:
        ranges.append((start, position))
    return ranges


def _splits(unit: Unit) -> list[Split]:
    rows = unit.table.num_rows
    if not rows:
        return []
    lengths = [len(chunk) for chunk in unit.table.column(0).chunks] if unit.table.num_columns else [rows]
    row_bytes = unit.table.nbytes / rows
    ranges = cut_ranges(lengths)
    return [
        Split(
            unit.number,
            first,
            None if end == rows else end,
            end - first,
            max(1, round(row_bytes * (end - first))),
        )
        for first, end in ranges
    ]
