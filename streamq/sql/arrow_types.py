"""The Arrow types in which DuckDB delivers its own, by the names that it gives these."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import pyarrow as pa

MOST_KEPT = 1_000


class ArrowTypes:
    """Remembers what DuckDB has said, of so many types. For those who take turns."""

    def __init__(self) -> None:
        self._known: dict[str, pa.DataType] = {}

    def schema(self, connection: duckdb.DuckDBPyConnection, names: Sequence[str], types: Sequence[str]) -> pa.Schema:
        """Give the Arrow schema in which DuckDB delivers columns of these types."""
        unknown = [kind for kind in dict.fromkeys(types) if kind not in self._known]
        if unknown:
            if len(self._known) + len(unknown) > MOST_KEPT:
                self._known = {}
                unknown = list(dict.fromkeys(types))
            self._known.update(zip(unknown, _arrow_types(connection, unknown), strict=True))
        return pa.schema([pa.field(name, self._known[kind]) for name, kind in zip(names, types, strict=True)])


def _arrow_types(connection: duckdb.DuckDBPyConnection, types: Sequence[str]) -> list[pa.DataType]:
    nulls = ", ".join(f"{_null_of(kind)} AS c{number}" for number, kind in enumerate(types))
    schema: pa.Schema = connection.sql(f"SELECT {nulls} LIMIT 0").to_arrow_table().schema
    return list(schema.types)


def _null_of(kind: str) -> str:
    return "NULL" if kind == '"NULL"' else f"CAST(NULL AS {kind})"
