"""Parquet files: row groups as splits, with exact rows and statistics from the footers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from streamq.connectors.columns import FileColumns, describe, require_same
from streamq.connectors.paths import PinnedFile
from streamq.connectors.scan import Piece, duckdb_path, joined, needs_place, select_pieces
from streamq.errors import SourceError
from streamq.plan.relations import ScanSql
from streamq.plan.splits import ColumnRange, Lease, Split
from streamq.storage.session import private_session

ROW_NUMBER = "file_row_number"
"""DuckDB's name of a row's place in its file; hidden by a column of the file with the same name."""


@dataclass(frozen=True, slots=True)
class ParquetSnapshot:
    """Parquet files as they were when they were registered."""

    relation: str
    files: tuple[PinnedFile, ...]
    described: FileColumns
    splits: tuple[Split, ...]
    rows: int
    bytes: int
    unit: Literal["row group", "file"]
    exact: bool = True
    in_memory: bool = False
    at_hand: bool = False
    partition_keys: tuple[str, ...] = ()

    @property
    def schema(self) -> pa.Schema:
        """The columns as DuckDB reads them."""
        return self.described.schema

    @property
    def max_parallelism(self) -> int:
        """The number of row groups, at least 1."""
        return max(1, len(self.splits))

    def read(self, lease: Lease | None, columns: Sequence[str], filter: str | None = None) -> ScanSql:
        """Give SQL that reads the rows of a lease; row groups outside of it are not touched.

        Raises:
            SourceError: a file of the lease is gone or changed.
        """
        self.verify(lease)
        ranges = [(number, 0, None) for number in range(len(self.files))] if lease is None else list(joined(lease.splits))
        place = needs_place(columns, filter, self.schema.names)
        return ScanSql(select_pieces(list(self._pieces(ranges, apart=place)), self.files, self.described, columns, filter))

    def verify(self, lease: Lease | None) -> None:
        """Check that the files of a lease are those that were registered.

        Raises:
            SourceError: a file is gone or changed.
        """
        numbers = range(len(self.files)) if lease is None else sorted({split.unit for split in lease.splits})
        for number in numbers:
            self.files[number].check(self.relation)

    def _pieces(self, ranges: Sequence[tuple[int, int, int | None]], *, apart: bool) -> Iterator[Piece]:
        """Give a piece for every range; neighbouring whole files make one, unless they must be told apart."""
        whole: list[str] = []
        hidden = ROW_NUMBER in self.schema.names
        number_sql = "row_number() OVER () - 1" if hidden else ROW_NUMBER
        for number, first, end in ranges:
            path = duckdb_path(self.files[number].path)
            if first == 0 and end is None and not apart:
                whole.append(path)
                continue
            if whole:
                yield _piece(whole, None)
                whole = []
            bounds = [f"{ROW_NUMBER} >= {first}"] if first else []
            bounds += [] if end is None else [f"{ROW_NUMBER} < {end}"]
            yield Piece(_read_parquet([path]), number, number_sql, " AND ".join(bounds) or None)
        if whole:
            yield _piece(whole, None)


def parquet_snapshot(relation: str, files: tuple[PinnedFile, ...]) -> ParquetSnapshot:
    """Read the footers of files with the same columns.

    Raises:
        SourceError: a file is not readable as Parquet, or its columns differ from the first file's.
    """
    footers = [_footer(relation, file) for file in files]
    described = _describe_all(relation, files, footers)
    by_row_group = ROW_NUMBER not in described.schema.names
    splits: list[Split] = []
    for number, footer in enumerate(footers):
        groups = _row_groups(number, footer, described)
        splits += groups if by_row_group else _as_one(groups)
    return ParquetSnapshot(
        relation=relation,
        files=files,
        described=described,
        splits=tuple(splits),
        rows=sum(footer.num_rows for footer in footers),
        bytes=sum(split.bytes for split in splits),
        unit="row group" if by_row_group else "file",
    )


def _piece(paths: Sequence[str], ordinal: int | None) -> Piece:
    return Piece(_read_parquet(paths), ordinal)


def _read_parquet(paths: Sequence[str]) -> str:
    return f"read_parquet([{', '.join(paths)}], hive_partitioning = false)"


def _footer(relation: str, file: PinnedFile) -> pq.FileMetaData:
    try:
        footer = pq.read_metadata(file.path)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{relation}: {file.path} is not a readable Parquet file: {error}") from error
    file.check(relation)
    return footer


def _describe_all(relation: str, files: Sequence[PinnedFile], footers: Sequence[pq.FileMetaData]) -> FileColumns:
    """Describe the first file, and every other whose Parquet schema is not literally the same."""
    with private_session(files=True) as con:
        described = _describe(con, relation, files[0])
        for file, footer in zip(files[1:], footers[1:], strict=True):
            if not footer.schema.equals(footers[0].schema):
                require_same(relation, files[0].path, described.columns, file.path, _describe(con, relation, file).columns)
    return described


def _describe(con: duckdb.DuckDBPyConnection, relation: str, file: PinnedFile) -> FileColumns:
    try:
        return describe(con, _read_parquet([duckdb_path(file.path)]))
    except duckdb.Error as error:
        raise SourceError(f"{relation}: {file.path} cannot be read: {error}") from error


def _row_groups(number: int, footer: pq.FileMetaData, described: FileColumns) -> list[Split]:
    leaves = _flat_columns(footer, described)
    splits = []
    first = 0
    for index in range(footer.num_row_groups):
        group = footer.row_group(index)
        if not group.num_rows:
            continue
        stored = sum(group.column(leaf).total_compressed_size for leaf in range(group.num_columns))
        ranges = tuple(_range(name, kind, group.column(leaf), group.num_rows) for leaf, name, kind in leaves)
        splits.append(Split(number, first, first + group.num_rows, group.num_rows, stored, ranges))
        first += group.num_rows
    return [*splits[:-1], _open_ended(splits[-1])] if splits else []


def _open_ended(split: Split) -> Split:
    return Split(split.unit, split.first, None, split.rows, split.bytes, split.ranges)


def _as_one(groups: Sequence[Split]) -> list[Split]:
    if not groups:
        return []
    return [Split(groups[0].unit, 0, None, sum(group.rows for group in groups), sum(group.bytes for group in groups))]


def _flat_columns(footer: pq.FileMetaData, described: FileColumns) -> list[tuple[int, str, pa.DataType]]:
    """Give the columns that have statistics to go by: their place among the file's leaves, name and type."""
    flat = []
    leaf = 0
    stored = footer.schema.to_arrow_schema()
    for field, column, read_as in zip(stored, described.columns, described.schema, strict=True):
        leaves = _leaves(field.type)
        if leaves == 1 and not pa.types.is_nested(field.type) and column.plain and _comparable(read_as.type):
            flat.append((leaf, column.name, read_as.type))
        leaf += leaves
    return flat


def _leaves(kind: pa.DataType) -> int:
    if not pa.types.is_nested(kind):
        return 1
    return sum(_leaves(kind.field(i).type) for i in range(kind.num_fields))


def _comparable(kind: pa.DataType) -> bool:
    checks = (
        pa.types.is_integer,
        pa.types.is_floating,
        pa.types.is_boolean,
        pa.types.is_decimal,
        pa.types.is_string,
        pa.types.is_date,
        pa.types.is_timestamp,
    )
    return any(check(kind) for check in checks)


def _range(name: str, kind: pa.DataType, chunk: pq.ColumnChunkMetaData, rows: int) -> ColumnRange:
    statistics = chunk.statistics
    if statistics is None:
        return ColumnRange(name, None, None, None)
    nulls = statistics.null_count if statistics.has_null_count else None
    if not statistics.has_min_max:
        return ColumnRange(name, None, None, nulls)
    try:
        low, high = _bound(statistics.min), _bound(statistics.max, up=True)
    except (ValueError, OverflowError, pa.ArrowException):  # a time that Python has no value for
        return ColumnRange(name, None, None, nulls)
    if pa.types.is_floating(kind):
        # NaN is above every number to SQL and in no statistics, so nothing is known of the largest value.
        return ColumnRange(name, low if low == low else None, None, nulls)
    return ColumnRange(name, low, high, nulls)


def _bound(value: object, *, up: bool = False) -> object:
    """Give nanoseconds, which Python's datetime lacks, as the microsecond below or above."""
    if not isinstance(value, datetime) or type(value) is datetime:
        return value
    nanoseconds = int(getattr(value, "nanosecond", 0))
    plain = datetime(value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond, tzinfo=value.tzinfo)
    return plain + timedelta(microseconds=1) if up and nanoseconds else plain
