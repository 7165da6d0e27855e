"""Column definitions become Arrow schemas, by asking DuckDB what its types are."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import pyarrow as pa

from streamq.errors import BindError
from streamq.sql.diagnostics import read_complaint
from streamq.sql.statements import ColumnDef
from streamq.storage.text import identifier

_INSTEAD = {
    "HUGEINT": "DECIMAL(38,0)",
    "UHUGEINT": "DECIMAL(38,0)",
    "BIT": "BLOB",
    "TIME WITH TIME ZONE": "TIMESTAMPTZ",
}


def arrow_schema(
    relation: str, columns: Sequence[ColumnDef], session: duckdb.DuckDBPyConnection, *, primary_key: Sequence[str] = ()
) -> pa.Schema:
    """Make the schema of a relation, whose types `session` knows; NOT NULL and key columns are not nullable.

    Raises:
        BindError: a type does not exist or cannot be kept exactly, a column is named twice, a key column does not exist.
    """
    _check_names(relation, columns, primary_key)
    keys = {name.lower() for name in primary_key}
    return pa.schema(
        pa.field(column.name, kind, nullable=not (column.not_null or column.name.lower() in keys))
        for column, kind in zip(columns, _arrow_types(session, relation, columns), strict=True)
    )


def _check_names(relation: str, columns: Sequence[ColumnDef], primary_key: Sequence[str]) -> None:
    seen: set[str] = set()
    for column in columns:
        if column.name.lower() in seen:
            raise BindError(f"{relation} has two columns named {column.name!r}")
        seen.add(column.name.lower())
    for name in primary_key:
        if name.lower() not in seen:
            raise BindError(f"the key column {name!r} is not a column of {relation}")


def _arrow_types(con: duckdb.DuckDBPyConnection, relation: str, columns: Sequence[ColumnDef]) -> list[pa.DataType]:
    declared = _declared(con, relation, columns)
    arrow = declared.to_arrow_table()
    # Rows travel as Arrow, so a type is kept exactly if it comes back as itself.
    for column, kind, kept in zip(columns, declared.types, con.from_arrow(arrow).types, strict=True):
        if kept != kind:
            raise BindError(
                f"{relation}.{column.name}: values of type {column.type} cannot be kept exactly",
                hint=f"declare the column as {_INSTEAD.get(str(kind), 'VARCHAR')} and cast it where it is used",
            )
    return list(arrow.schema.types)


def _declared(con: duckdb.DuckDBPyConnection, relation: str, columns: Sequence[ColumnDef]) -> duckdb.DuckDBPyRelation:
    nulls = ", ".join(f"CAST(NULL AS {column.type}) AS {identifier(column.name)}" for column in columns)
    try:
        return con.sql(f"SELECT {nulls} LIMIT 0")
    except duckdb.Error as error:
        # One by one, to name the column.
        if len(columns) > 1:
            for column in columns:
                _declared(con, relation, [column])
        complaint = read_complaint(error)
        (column, *_) = columns
        raise BindError(f"{relation}.{column.name}: there is no type {column.type}: {complaint.message}", hint=complaint.hint) from error
