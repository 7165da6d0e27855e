"""The columns of files as DuckDB reads them, and as rows that go through Arrow without loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from streamq.errors import SourceError
from streamq.storage.text import identifier


@dataclass(frozen=True, slots=True)
class FileColumn:
    """A column: `type` is DuckDB's name of its type in the file, `cast` of the type it is read as where Arrow lacks the first."""

    name: str
    type: str
    cast: str | None = None

    @property
    def plain(self) -> bool:
        """Whether the values are read as they are."""
        return self.cast is None


@dataclass(frozen=True, slots=True)
class FileColumns:
    """The columns of one or several files, and their schema in Arrow."""

    columns: tuple[FileColumn, ...]
    schema: pa.Schema

    @property
    def star(self) -> str:
        """Everything, as the relation has it."""
        casts = [f"CAST({identifier(c.name)} AS {c.cast}) AS {identifier(c.name)}" for c in self.columns if c.cast is not None]
        return f"* REPLACE ({', '.join(casts)})" if casts else "*"


def describe(con: duckdb.DuckDBPyConnection, table: str) -> FileColumns:
    """Ask DuckDB for the columns of a table function or relation.

    Raises:
        duckdb.Error: it cannot be read.
    """
    relation = con.sql(f"SELECT * FROM {table} LIMIT 0")
    arrow = relation.to_arrow_table()
    kept = con.from_arrow(arrow).types
    columns = tuple(
        FileColumn(name, str(kind), None if kind == back else str(back))
        for name, kind, back in zip(relation.columns, relation.types, kept, strict=True)
    )
    described = FileColumns(columns, arrow.schema)
    if all(column.plain for column in columns):
        return described
    return FileColumns(columns, con.sql(f"SELECT {described.star} FROM {table} LIMIT 0").to_arrow_table().schema)


def require_same(relation: str, first: str, columns: Sequence[FileColumn], path: str, others: Sequence[FileColumn]) -> None:
    """Check that two files have the same columns, in name, order and type.

    Raises:
        SourceError: they have not; it names the files, the column and both types.
    """
    expected = {column.name: column.type for column in columns}
    found = {column.name: column.type for column in others}
    for name in expected:
        if name not in found:
            raise SourceError(f"{relation}: {path} has no column {name!r}, which {first} has")
        if expected[name] != found[name]:
            raise SourceError(f"{relation}: the column {name!r} is {found[name]} in {path} and {expected[name]} in {first}")
    for name in found:
        if name not in expected:
            raise SourceError(f"{relation}: {path} has a column {name!r}, which {first} has not")
    if list(expected) != list(found):
        raise SourceError(f"{relation}: {path} has its columns in another order ({', '.join(found)}) than {first} ({', '.join(expected)})")
