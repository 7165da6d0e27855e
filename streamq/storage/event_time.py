"""Event time: which column of a relation it is, and whether a watermark expression fits it."""

from __future__ import annotations

import duckdb
import pyarrow as pa

from streamq.errors import BindError, SqlError
from streamq.sql.parse import parse_one
from streamq.sql.statements import CreateSource
from streamq.storage.feeds import WATERMARK
from streamq.storage.session import private_session
from streamq.storage.text import did_you_mean, identifier, type_name

_HINT = "write it as: column - INTERVAL '5' SECOND"


def event_time(name: str, schema: pa.Schema, watermark: str) -> tuple[str, str]:
    """Find the one timestamp column that a watermark expression reads, by letting DuckDB bind it.

    Raises:
        BindError: there is no such column, or the expression is no timestamp.
    """
    _check_free(name, schema, None)
    watermark = _expression(name, watermark)
    times = [field for field in schema if pa.types.is_timestamp(field.type)]
    with private_session() as con:
        for field in () if _binds(con, f"SELECT ({watermark})") else times:
            try:
                kind = _type_over(con, field, watermark)
            except duckdb.Error:
                continue
            if kind.startswith("TIMESTAMP"):
                return field.name, watermark
    columns = ", ".join(field.name for field in times) or "there are none"
    raise BindError(
        f"the watermark {watermark!r} of {name} is not a timestamp made of one of its timestamp columns ({columns})",
        hint=_HINT,
    )


def _expression(name: str, watermark: str) -> str:
    """Check that a text is one expression and reads nothing but its row, before DuckDB gets to see it; gives it without what is around."""
    try:
        # A comment may end it.
        parsed = parse_one(f"CREATE SOURCE w (t TIMESTAMP, WATERMARK FOR t AS {watermark}\n)")
    except SqlError as error:
        raise BindError(f"the watermark {watermark!r} of {name} cannot be used: {error.message}", hint=_HINT) from None
    match parsed:
        case CreateSource(columns=[_], watermark=(_, expression), partition_by=(), options=()):
            return expression
        case _:
            raise BindError(f"the watermark {watermark!r} of {name} is not one expression", hint=_HINT)


def _binds(con: duckdb.DuckDBPyConnection, sql: str) -> bool:
    try:
        con.sql(sql)
    except duckdb.Error:
        return False
    return True


def _type_over(con: duckdb.DuckDBPyConnection, column: pa.Field, watermark: str) -> str:
    """Give the type of what an expression makes of a value of a column, and of nothing else."""
    con.register("one column", pa.schema([column]).empty_table())
    # Where rows are chosen, DuckDB accepts nothing that is made of several of them.
    con.sql(f"SELECT 1 FROM {identifier('one column')} WHERE ({watermark}) IS NULL")
    return str(con.sql(f"SELECT ({watermark}) FROM {identifier('one column')}").types[0])


def _check_free(name: str, schema: pa.Schema, sql: str | None) -> None:
    if WATERMARK in {column.lower() for column in schema.names}:
        raise BindError(f"{name} has a watermark, and so a column {WATERMARK!r} already", sql=sql, hint="give your column another name")


def check_watermark(
    name: str, schema: pa.Schema, column: str, watermark: str, session: duckdb.DuckDBPyConnection, *, sql: str | None = None
) -> tuple[str, str]:
    """Check that `column` is a timestamp and `watermark` a timestamp made of it; gives both, the column as the schema spells it.

    Raises:
        BindError: there is no such column, or one of the two is no timestamp.
    """
    _check_free(name, schema, sql)
    field = next((field for field in schema if field.name.lower() == column.lower()), None)
    if field is None:
        raise BindError(
            f"the WATERMARK column {column!r} is not a column of {name}{did_you_mean(column, schema.names)}",
            sql=sql,
            hint=f"columns: {', '.join(schema.names)}",
        )
    if not pa.types.is_timestamp(field.type):
        raise BindError(f"the WATERMARK column {column!r} of {name} is of type {type_name(field.type)}, not a timestamp", sql=sql)
    try:
        kind = _type_over(session, field, watermark)
    except duckdb.Error as error:
        raise BindError(
            f"the watermark {watermark!r} of {name} is not made of {field.name} alone: {str(error).splitlines()[0]}",
            sql=sql,
            hint=_HINT,
        ) from error
    if not kind.startswith("TIMESTAMP"):
        raise BindError(f"the watermark {watermark!r} of {name} is of type {kind}, not a timestamp", sql=sql, hint=_HINT)
    return field.name, watermark
