"""CSV and JSON files: every file is one split; types are found once, over every row of every file, and then fixed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import duckdb
import pyarrow as pa

from streamq.connectors.columns import FileColumn, FileColumns, describe, require_same
from streamq.connectors.paths import PinnedFile
from streamq.connectors.scan import Piece, duckdb_path, select_pieces
from streamq.errors import SourceError
from streamq.plan.relations import ScanSql
from streamq.plan.splits import Lease, Split
from streamq.storage.session import private_session
from streamq.storage.text import literal

_T = TypeVar("_T")
TextFormat = Literal["csv", "json"]
_INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT")
_TIMES = ("DATE", "TIMESTAMP")


@dataclass(frozen=True, slots=True)
class TextSnapshot:
    """CSV or JSON files as they were when they were registered. `tables` read one file each, with fixed types."""

    relation: str
    files: tuple[PinnedFile, ...]
    tables: tuple[str, ...]
    described: FileColumns
    splits: tuple[Split, ...]
    rows: int
    bytes: int
    unit: Literal["file"] = "file"
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
        """The number of files with rows, at least 1."""
        return max(1, len(self.splits))

    def read(self, lease: Lease | None, columns: Sequence[str], filter: str | None = None) -> ScanSql:
        """Give SQL that reads the files of a lease.

        Raises:
            SourceError: a file of the lease is gone or changed.
        """
        self.verify(lease)
        pieces = [Piece(self.tables[number], number) for number in self._numbers(lease)]
        return ScanSql(select_pieces(pieces, self.files, self.described, columns, filter))

    def verify(self, lease: Lease | None) -> None:
        """Check that the files of a lease are those that were registered.

        Raises:
            SourceError: a file is gone or changed.
        """
        for number in self._numbers(lease):
            self.files[number].check(self.relation)

    def _numbers(self, lease: Lease | None) -> list[int]:
        return [split.unit for split in (self.splits if lease is None else lease.splits)]


@dataclass(frozen=True, slots=True)
class _Found:
    """What one file has: its columns by name with their types, its rows, and how its text is to be read."""

    file: PinnedFile
    types: Mapping[str, str]
    rows: int
    arguments: str


def text_snapshot(relation: str, files: tuple[PinnedFile, ...], kind: TextFormat) -> TextSnapshot:
    """Look through all files for their columns and types.

    CSV files must have the same columns; JSON files may each lack some. A column whose values have several types gets one
    that holds them all, in the end VARCHAR.

    Raises:
        SourceError: a file is empty or malformed, or its columns differ from the first file's.
    """
    with private_session(files=True) as con:
        look = _look_at_csv if kind == "csv" else _look_at_json
        found = [look(con, relation, file) for file in files]
        if kind == "csv":
            _require_same_names(relation, found)
        types = _common_types(found)
        if not types:
            raise SourceError(f"{relation}: there are no columns in {', '.join(file.path for file in files)}: nothing to learn types from")
        tables = tuple(_table(kind, one, types) for one in found)
        described = _attempt(relation, files[0], lambda: describe(con, tables[0]))
    splits = tuple(Split(number, 0, None, one.rows, one.file.size) for number, one in enumerate(found) if one.rows)
    return TextSnapshot(
        relation=relation,
        files=files,
        tables=tables,
        described=described,
        splits=splits,
        rows=sum(one.rows for one in found),
        bytes=sum(file.size for file in files),
    )


def _look_at_csv(con: duckdb.DuckDBPyConnection, relation: str, file: PinnedFile) -> _Found:
    if not file.size:
        raise SourceError(f"{relation}: {file.path} is empty: a CSV file has at least a line with its columns' names")
    path = duckdb_path(file.path)
    sniffed: Any = _attempt(
        relation,
        file,
        lambda: con.execute(
            "SELECT Delimiter, Quote, Escape, Comment, SkipRows, HasHeader, DateFormat, TimestampFormat, Columns "
            f"FROM sniff_csv({path}, sample_size = -1)"
        ).fetchall()[0],
    )
    delimiter, quote, escape, comment, skip, header, date_format, time_format, columns = sniffed
    if skip:
        raise SourceError(f"{relation}: the first {skip} lines of {file.path} have other columns than the rest; remove them")
    arguments = {"delim": delimiter, "quote": quote, "escape": escape, "comment": comment}
    if date_format:
        arguments["dateformat"] = date_format
    if time_format:
        arguments["timestampformat"] = time_format
    text = ", ".join(f"{name} = {literal('' if value == '(empty)' else value)}" for name, value in arguments.items())
    text += f", header = {'true' if header else 'false'}"
    types = {column["name"]: column["type"] for column in columns}
    return _Found(file, types, _count(con, relation, file, _csv(path, text, dict.fromkeys(types, "VARCHAR"))), text)


def _look_at_json(con: duckdb.DuckDBPyConnection, relation: str, file: PinnedFile) -> _Found:
    if not file.size:
        return _Found(file, {}, 0, "")
    table = f"read_json({duckdb_path(file.path)}, sample_size = -1, format = 'auto')"
    columns = _attempt(relation, file, lambda: describe(con, table)).columns
    if len(columns) == 1 and columns[0].type == "JSON":
        raise SourceError(f"{relation}: {file.path} has no JSON objects to take columns from")
    types = {column.name: column.cast or column.type for column in columns}
    return _Found(file, types, _count(con, relation, file, table), "")


def _require_same_names(relation: str, found: Sequence[_Found]) -> None:
    first = found[0]
    for other in found[1:]:
        require_same(relation, first.file.path, _names(first), other.file.path, _names(other))


def _names(found: _Found) -> list[FileColumn]:
    return [FileColumn(name, "text") for name in found.types]


def _common_types(found: Sequence[_Found]) -> dict[str, str]:
    """Give each column the type that holds its values in every file. A file without rows knows names only."""
    types: dict[str, str] = {}
    for one in sorted(found, key=lambda one: one.rows == 0):
        for name, kind in one.types.items():
            types[name] = _common_type(types.get(name, kind), kind) if one.rows else types.get(name, kind)
    order = {name: None for one in found for name in one.types}
    return {name: types[name] for name in order}


def _common_type(left: str, right: str) -> str:
    """Give a type that holds the values of both.

    >>> _common_type("BIGINT", "DOUBLE"), _common_type("DATE", "TIMESTAMP"), _common_type("DATE", "BIGINT")
    ('DOUBLE', 'TIMESTAMP', 'VARCHAR')
    """
    if left == right:
        return left
    pair = {left, right}
    if pair <= set(_INTEGERS):
        return max(pair, key=_INTEGERS.index)
    if pair <= {*_INTEGERS, "DOUBLE"}:
        return "DOUBLE"
    return "TIMESTAMP" if pair == set(_TIMES) else "VARCHAR"


def _table(kind: TextFormat, found: _Found, types: Mapping[str, str]) -> str:
    path = duckdb_path(found.file.path)
    if kind == "csv":
        return _csv(path, found.arguments, types)
    return f"read_json({path}, format = 'auto', columns = {_struct(types)})"


def _csv(path: str, arguments: str, types: Mapping[str, str]) -> str:
    return f"read_csv({path}, auto_detect = false, {arguments}, columns = {_struct(types)})"


def _struct(types: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{literal(name)}: {literal(kind)}" for name, kind in types.items()) + "}"


def _count(con: duckdb.DuckDBPyConnection, relation: str, file: PinnedFile, table: str) -> int:
    found = _attempt(relation, file, lambda: con.execute(f"SELECT count(*) FROM {table}").fetchall())
    return int(found[0][0])


def _attempt(relation: str, file: PinnedFile, look: Callable[[], _T]) -> _T:
    try:
        result = look()
    except duckdb.Error as error:
        raise SourceError(f"{relation}: {file.path} cannot be read: {error}") from error
    file.check(relation)
    return result
