"""The Arrow types in which DuckDB delivers its own, by the names that it gives these, and the names under which it reads Arrow's."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import pyarrow as pa

MOST_KEPT = 1_000


class ArrowTypes:
    """Remembers what DuckDB has said, of so many types. For those who take turns."""

    def __init__(self) -> None:
        self._known: dict[str, pa.DataType] = {}
        self._names: dict[pa.DataType, str] = {}

    def schema(self, connection: duckdb.DuckDBPyConnection, names: Sequence[str], types: Sequence[str]) -> pa.Schema:
        """Give the Arrow schema in which DuckDB delivers columns of these types."""
        unknown = [kind for kind in dict.fromkeys(types) if kind not in self._known]
        if unknown:
            if len(self._known) + len(unknown) > MOST_KEPT:
                self._known = {}
                unknown = list(dict.fromkeys(types))
            self._known.update(zip(unknown, _arrow_types(connection, unknown), strict=True))
        return pa.schema([pa.field(name, self._known[kind]) for name, kind in zip(names, types, strict=True)])

    def names(self, connection: duckdb.DuckDBPyConnection, types: Sequence[pa.DataType]) -> tuple[str, ...]:
        """Give DuckDB's names of Arrow types."""
        unknown = [type_ for type_ in dict.fromkeys(types) if type_ not in self._names]
        if unknown:
            if len(self._names) + len(unknown) > MOST_KEPT:
                self._names = {}
                unknown = list(dict.fromkeys(types))
            self._names.update(zip(unknown, _type_names(connection, unknown), strict=True))
        return tuple(self._names[type_] for type_ in types)


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
