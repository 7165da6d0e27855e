"""The statements of streamq's SQL, as parsed: frozen data.

`ast` fields hold parsed SQL that only this package looks into. `sql` fields are the user's text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from streamq.errors import BindError

Parameters = Sequence[object] | Mapping[str, object] | None
"""Values for a statement: a sequence for ``?`` and ``$1``, a mapping for ``$name``."""
Emit = Literal["changes", "final"]
Options = tuple[tuple[str, object], ...]
"""`WITH (name = value, …)`: lower-case names, Python values (str, int, float, bool, timedelta for intervals)."""


def check_parameters(given: object, sql: str | None = None) -> None:
    """Check that something can be the values for a statement.

    Raises:
        BindError: it is neither a sequence nor a mapping, or a text.
    """
    if isinstance(given, str | bytes):
        raise BindError("a single string is no sequence of parameters", sql=sql, hint="pass a list or tuple of values")
    if not isinstance(given, Sequence | Mapping | None):
        message = f"parameters are a sequence or a mapping, not {type(given).__name__}"
        raise BindError(message, sql=sql, hint="pass a list or tuple of values")


@dataclass(frozen=True, slots=True)
class ColumnDef:
    """`type` is DuckDB's name of the type."""

    name: str
    type: str
    not_null: bool = False


@dataclass(frozen=True, slots=True)
class Select:
    """A query. `emit` is None for a snapshot query; `every_s` is the interval of EMIT CHANGES EVERY, in seconds."""

    sql: str
    ast: Any
    emit: Emit | None = None
    every_s: float | None = None
    late_rows_into: str | None = None
    options: Options = ()
    written: str = ""
    """The text with its clauses; it begins with `sql`."""


@dataclass(frozen=True, slots=True)
class CreateSource:
    sql: str
    name: str
    columns: tuple[ColumnDef, ...]
    watermark: tuple[str, str] | None
    partition_by: tuple[str, ...]
    options: Options
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True)
class CreateTable:
    sql: str
    name: str
    columns: tuple[ColumnDef, ...]
    primary_key: tuple[str, ...]
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True)
class CreateView:
    sql: str
    name: str
    query: Select
    materialized: bool = False
    or_replace: bool = False
    if_not_exists: bool = False


@dataclass(frozen=True, slots=True)
class CreateSink:
    sql: str
    name: str
    query: Select
    options: Options


@dataclass(frozen=True, slots=True)
class Insert:
    """`columns` is empty where the statement names none; then the query's columns go by position."""

    sql: str
    relation: str
    columns: tuple[str, ...]
    query: Select


@dataclass(frozen=True, slots=True)
class Update:
    """`assignments` and `where` are DuckDB SQL over the table's columns (parameters as written)."""

    sql: str
    table: str
    assignments: tuple[tuple[str, str], ...]
    where: str | None


@dataclass(frozen=True, slots=True)
class Delete:
    sql: str
    table: str
    where: str | None


@dataclass(frozen=True, slots=True)
class Drop:
    sql: str
    kind: Literal["source", "table", "view", "materialized view", "sink"]
    name: str
    if_exists: bool = False
    cascade: bool = False


@dataclass(frozen=True, slots=True)
class Show:
    """`SHOW RELATIONS | SOURCES | TABLES | VIEWS | SINKS | QUERIES`."""

    sql: str
    what: Literal["relations", "sources", "tables", "views", "sinks", "queries"]


@dataclass(frozen=True, slots=True)
class Describe:
    sql: str
    relation: str


@dataclass(frozen=True, slots=True)
class Explain:
    sql: str
    query: Select
    analyze: bool = False


Statement = Select | CreateSource | CreateTable | CreateView | CreateSink | Insert | Update | Delete | Drop | Show | Describe | Explain
