"""Runs the statements that are neither queries nor inserts: they change or describe the catalog."""

from __future__ import annotations

from collections.abc import Iterable
from typing import assert_never

import pyarrow as pa

from streamq.errors import BindError, UnsupportedError
from streamq.execution.planning import Planner
from streamq.execution.results import ExecuteResult
from streamq.execution.statistics import QueryStatistics
from streamq.sql.catalog import RelationInfo
from streamq.sql.statements import (
    CreateSink,
    CreateSource,
    CreateTable,
    CreateView,
    Delete,
    Describe,
    Drop,
    Parameters,
    Show,
    Update,
)
from streamq.sql.tables import names_read
from streamq.storage.catalog import Catalog
from streamq.storage.entries import View

CatalogStatement = CreateSource | CreateTable | CreateView | CreateSink | Update | Delete | Show | Describe
_SHOWN = {"sources": ("source",), "tables": ("table",), "views": ("view", "materialized view")}


def run_statement(statement: CatalogStatement, catalog: Catalog, planner: Planner, parameters: Parameters) -> ExecuteResult:
    """Run one statement, wholly or not at all.

    Raises:
        SqlError: names, types or options do not fit.
        DataError, SourceError: an expression of UPDATE or DELETE failed, or its result does not fit; nothing was changed.
    """
    match statement:
        case CreateSource():
            return ExecuteResult("create source", 0) if catalog.create_source(statement) else _exists("source")
        case CreateTable():
            return ExecuteResult("create table", 0) if catalog.create_table(statement) else _exists("table")
        case CreateView():
            assert not statement.materialized, "who can wait runs the query of a materialized view"
            return _create_view(statement, catalog, planner)
        case CreateSink():
            raise UnsupportedError("sinks need continuous queries, which this version does not run", sql=statement.sql)
        case Update():
            return ExecuteResult("update", catalog.update(statement, parameters))
        case Delete():
            return ExecuteResult("delete", catalog.delete(statement, parameters))
        case Show():
            return ExecuteResult("show", 0, _show(statement, catalog))
        case Describe():
            return ExecuteResult("describe", 0, _describe(statement, catalog))
        case _:
            assert_never(statement)


def _exists(kind: str) -> ExecuteResult:
    return ExecuteResult(f"create {kind} (exists)", 0)


def _create_view(statement: CreateView, catalog: Catalog, planner: Planner) -> ExecuteResult:
    if statement.if_not_exists and statement.name in catalog:
        return _exists("view")
    bound = planner.bind(statement.query)
    view = View(statement.name, statement.query.sql, bound.schema, names_read(statement.query))
    if statement.or_replace:
        catalog.replace(view)
    else:
        catalog.add(view)
    return ExecuteResult("create view", 0)


def drop(statement: Drop, catalog: Catalog) -> tuple[ExecuteResult, tuple[object, ...]]:
    """Run DROP; gives also what is gone: the queries of materialized views among it have still to be ended.

    Raises:
        BindError: it does not exist, is of another kind, or is read by views.
    """
    if statement.kind == "sink":
        if not statement.if_exists:
            raise BindError(f"there is no sink {statement.name!r}", sql=statement.sql)
        return ExecuteResult("drop sink (did not exist)", 0), ()
    try:
        gone = catalog.drop(statement.name, kind=statement.kind, if_exists=statement.if_exists, cascade=statement.cascade)
    except BindError as error:
        raise BindError(error.message, sql=statement.sql, hint=error.hint) from None
    return ExecuteResult(f"drop {statement.kind}" + ("" if gone else " (did not exist)"), 0), gone


def _show(statement: Show, catalog: Catalog) -> pa.Table:
    states = {state.name: state for state in catalog.statistics()}
    wanted = _SHOWN.get(statement.what, ())
    rows = [
        {
            "name": info.name,
            "kind": info.kind,
            "columns": len(info.schema),
            "rows": states[info.name].rows if info.name in states else None,
            "bytes": states[info.name].bytes if info.name in states else None,
            "followers": states[info.name].followers.count if info.name in states else None,
        }
        for info in catalog.infos().values()
        if statement.what == "relations" or info.kind in wanted
    ]
    types = {
        "name": pa.string(),
        "kind": pa.string(),
        "columns": pa.int64(),
        "rows": pa.int64(),
        "bytes": pa.int64(),
        "followers": pa.int64(),
    }
    return pa.Table.from_pylist(rows, schema=pa.schema(list(types.items())))


def _describe(statement: Describe, catalog: Catalog) -> pa.Table:
    catalog.entry(statement.relation)
    info: RelationInfo = catalog.infos()[statement.relation.lower()]
    watermark = info.watermark or ("", "")
    return pa.table(
        {
            "column": pa.array(info.schema.names, pa.string()),
            "type": pa.array([str(field.type) for field in info.schema], pa.string()),
            "nullable": pa.array([field.nullable for field in info.schema], pa.bool_()),
            "key": pa.array([name in info.primary_key for name in info.schema.names], pa.bool_()),
            "watermark": pa.array([watermark[1] if name == watermark[0] else None for name in info.schema.names], pa.string()),
        }
    )


def queries_table(queries: Iterable[QueryStatistics]) -> pa.Table:
    """Give running queries as rows. What only continuous queries have is NULL for others."""
    schema = pa.schema(
        [
            ("query_id", pa.string()),
            ("view", pa.string()),
            ("kind", pa.string()),
            ("sql", pa.string()),
            ("elapsed_s", pa.float64()),
            ("rows_out", pa.int64()),
            ("strategy", pa.string()),
            ("epochs", pa.int64()),
            ("rows_in", pa.int64()),
            ("late_rows", pa.int64()),
            ("watermark", pa.timestamp("us", "UTC")),
            ("watermark_lag_s", pa.float64()),
            ("state_bytes", pa.int64()),
        ]
    )
    return pa.Table.from_pylist([_query_row(query) for query in queries], schema=schema)


def _query_row(query: QueryStatistics) -> dict[str, object]:
    row: dict[str, object] = {
        name: getattr(query, name) for name in ("query_id", "view", "kind", "sql", "elapsed_s", "rows_out", "strategy")
    }
    if (continuous := query.continuous) is not None:
        row |= {name: getattr(continuous, name) for name in ("epochs", "late_rows", "watermark", "watermark_lag_s", "state_bytes")}
        row["rows_in"] = continuous.total_rows_in
    return row
