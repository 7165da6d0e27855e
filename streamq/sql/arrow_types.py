"""The Arrow types in which DuckDB delivers its own, by the names that it gives these, and the names under which it reads Arrow's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import duckdb
import pyarrow as pa

K = TypeVar("K")
V = TypeVar("V")
MOST_KEPT = 1_000


class ArrowTypes:
    """Remembers what DuckDB has said, of so many types. For those who take turns."""

    def __init__(self) -> None:
        self._known: dict[str, pa.DataType] = {}
        self._names: dict[pa.DataType, str] = {}

    def schema(self, connection: duckdb.DuckDBPyConnection, names: Sequence[str], types: Sequence[str]) -> pa.Schema:
        """Give the Arrow schema in which DuckDB delivers columns of these types."""
        known = _ask_once(self._known, types, partial(_arrow_types, connection))
        return pa.schema([pa.field(name, kind) for name, kind in zip(names, known, strict=True)])

    def names(self, connection: duckdb.DuckDBPyConnection, types: Sequence[pa.DataType]) -> tuple[str, ...]:
        """Give DuckDB's names of Arrow types."""
        return tuple(_ask_once(self._names, types, partial(_type_names, connection)))


def _ask_once(known: dict[K, V], keys: Sequence[K], ask: Callable[[list[K]], list[V]]) -> list[V]:
    """Give what is known of each key, after asking for all at once of which nothing is known."""
    unknown = [key for key in dict.fromkeys(keys) if key not in known]
    if unknown:
        if len(known) + len(unknown) > MOST_KEPT:
            known.clear()
            unknown = list(dict.fromkeys(keys))
        known.update(zip(unknown, ask(unknown), strict=True))
    return [known[key] for key in keys]


def _type_names(connection: duckdb.DuckDBPyConnection, types: Sequence[pa.DataType]) -> list[str]:
    numbered = pa.schema([pa.field(f"c{number}", type_) for number, type_ in enumerate(types)])
    connection.register("__typed", numbered.empty_table())
    try:
        return [row[1] for row in connection.execute("DESCRIBE FROM __typed").fetchall()]
    finally:
        connection.unregister("__typed")


def _arrow_types(connection: duckdb.DuckDBPyConnection, types: Sequence[str]) -> list[pa.DataType]:
    nulls = ", ".join(f"{_null_of(kind)} AS c{number}" for number, kind in enumerate(types))
    schema: pa.Schema = connection.sql(f"SELECT {nulls} LIMIT 0").to_arrow_table().schema
    return list(schema.types)


def _null_of(kind: str) -> str:
    return "NULL" if kind == '"NULL"' else f"CAST(NULL AS {kind})"
