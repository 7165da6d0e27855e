"""The DuckDB session that binds: it holds empty relations of the catalog's schemas and says what a text means over them."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from streamq.sql.arrow_types import ArrowTypes
from streamq.sql.catalog import SYSTEM_SCHEMA, WATERMARK, CatalogView, RelationInfo, watermark_type
from streamq.sql.diagnostics import Complaint, read_complaint
from streamq.sql.text import name_sql

SYSTEM_TABLES = "with_system_columns"
"""The DuckDB schema whose tables have the system columns besides the user's."""
WATERMARKED_TABLES = "with_watermark"
"""The DuckDB schema whose tables have `_watermark` too."""
_CATALOG = "planning"
_CLAIM = f"ATTACH ':memory:' AS {_CATALOG}; USE {_CATALOG}"
Parameters = tuple[object, ...] | dict[str, object]


class BindFailed(Exception):
    """DuckDB does not bind a text. Stays inside this package."""

    def __init__(self, complaint: Complaint, sql: str) -> None:
        super().__init__(complaint.message)
        self.complaint = complaint
        self.sql = sql


@dataclass(frozen=True, slots=True)
class Described:
    """A query's result: Arrow schema (names as DuckDB gives them, possibly not unique) and DuckDB type names."""

    schema: pa.Schema
    types: tuple[str, ...]


@functools.cache
def aggregate_names() -> frozenset[str]:
    """Ask DuckDB which functions are aggregates: asked once, since every session that loads nothing has the same."""
    with _instance().cursor() as connection:
        rows = connection.execute("SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type = 'aggregate'")
        return frozenset(name.lower() for (name,) in rows.fetchall())


@functools.cache
def _instance() -> duckdb.DuckDBPyConnection:
    """Open a program's DuckDB for binding, once: that takes as long as binding a dozen queries."""
    return _new_instance()


def _new_instance() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(
        config={
            "threads": 1,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,
        }
    )
    connection.execute("SET GLOBAL TimeZone = 'UTC'; SET GLOBAL errors_as_json = true; SET GLOBAL enable_external_access = false")
    return connection


class Binder:
    """A cache of empty relations in a DuckDB session that reaches nothing outside. Safe to share between threads."""

    def __init__(self) -> None:
        self._connection = _alone()
        self._connection.execute(f"CREATE SCHEMA {SYSTEM_TABLES}; CREATE SCHEMA {WATERMARKED_TABLES}")
        self._known: dict[str, tuple[pa.Schema, bool, pa.DataType | None]] = {}
        self._arrow_types = ArrowTypes()
        self._lock = threading.Lock()

    def close(self) -> None:
        """End the session, once nobody binds."""
        # Of an instance that an error has broken, nothing can be given back.
        with self._lock, self._connection as connection, suppress(duckdb.FatalException, duckdb.InternalException):
            connection.execute(f"USE memory; DETACH {_CATALOG}")

    @contextmanager
    def session(self, catalog: CatalogView) -> Iterator[BinderSession]:
        """Bind over the relations of `catalog`, alone."""
        with self._lock:
            for name in self._known.keys() - catalog.keys():
                self._drop(name)
            for name, relation in catalog.items():
                if self._known.get(name) != (relation.schema, relation.system_columns, _watermark(relation)):
                    self._create(name, relation)
            yield BinderSession(self._connection, self._arrow_types)

    def _drop(self, name: str) -> None:
        for schema in ("main", SYSTEM_TABLES, WATERMARKED_TABLES):
            self._connection.execute(f"DROP TABLE IF EXISTS {schema}.{name_sql(name)}")
        del self._known[name]

    def _create(self, name: str, relation: RelationInfo) -> None:
        self._create_empty(f"main.{name_sql(relation.name)}", relation.schema)
        if relation.system_columns:
            self._create_empty(f"{SYSTEM_TABLES}.{name_sql(relation.name)}", pa.schema([*relation.schema, *SYSTEM_SCHEMA]))
        system = SYSTEM_SCHEMA if relation.system_columns else ()
        if (type_ := _watermark(relation)) is not None:
            schema = pa.schema([*relation.schema, *system, pa.field(WATERMARK, type_)])
            self._create_empty(f"{WATERMARKED_TABLES}.{name_sql(relation.name)}", schema)
        self._known[name] = (relation.schema, relation.system_columns, type_)

    def _create_empty(self, table: str, schema: pa.Schema) -> None:
        self._connection.register("__empty", schema.empty_table())
        try:
            self._connection.execute(f"CREATE OR REPLACE TABLE {table} AS FROM __empty")
        finally:
            self._connection.unregister("__empty")


class BinderSession:
    """What one query asks of the binder."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, arrow_types: ArrowTypes) -> None:
        self._connection = connection
        self._arrow_types = arrow_types
        self.parameters: dict[str, object] = {}

    def is_one_select(self, sql: str) -> bool:
        """Tell whether DuckDB reads a text as one SELECT."""
        try:
            statements = self._connection.extract_statements(sql)
        except duckdb.Error:
            return False
        return len(statements) == 1 and statements[0].type == duckdb.StatementType.SELECT

    def describe(self, sql: str, parameters: Parameters | None = None) -> Described:
        """Bind a SELECT and tell its result's names and types. No row is computed.

        Raises:
            BindFailed: DuckDB does not bind it; positions are those in `sql`.
        """
        prefix = "DESCRIBE "
        rows = self._run(prefix, sql, parameters).fetchall()
        names, types = [row[0] for row in rows], tuple(row[1] for row in rows)
        return Described(self.arrow_schema(names, types), types)

    def arrow_schema(self, names: Sequence[str], types: Sequence[str]) -> pa.Schema:
        """Give the Arrow schema in which DuckDB delivers columns of these types."""
        return self._arrow_types.schema(self._connection, names, types)

    def type_names(self, schema: pa.Schema) -> tuple[str, ...]:
        """Give DuckDB's names of the types of an Arrow schema."""
        return self._arrow_types.names(self._connection, schema.types)

    def binds(self, sql: str) -> bool:
        """Tell whether a SELECT binds on its own."""
        try:
            self._run("DESCRIBE ", sql, None)
        except BindFailed:
            return False
        return True

    def _parameters_of(self, sql: str) -> Parameters:
        # DuckDB refuses values that a text does not use.
        return {name: value for name, value in self.parameters.items() if re.search(rf"\${name}\b", sql)}

    def _run(self, prefix: str, sql: str, parameters: Parameters | None) -> duckdb.DuckDBPyConnection:
        values = parameters if parameters is not None else self._parameters_of(sql)
        try:
            return self._connection.execute(prefix + sql, values or None)
        except duckdb.Error as error:
            complaint = read_complaint(error)
            if complaint.position is not None:
                complaint = Complaint(
                    complaint.kind, complaint.message, complaint.hint, max(0, complaint.position - len(prefix)), complaint.name
                )
            raise BindFailed(complaint, sql) from error


def _alone() -> duckdb.DuckDBPyConnection:
    """Open a connection whose tables nobody else has: DuckDB suggests names of all that are in its instance.

    The catalog's name can be had once. Who comes second, or finds the instance broken by an earlier error, gets an instance of his own.
    """
    connection = _instance().cursor()
    try:
        connection.execute(_CLAIM)
    except duckdb.Error:
        connection.close()
        connection = _new_instance()
        connection.execute(_CLAIM)
    return connection


def _watermark(relation: RelationInfo) -> pa.DataType | None:
    """Give the type of `_watermark` of a relation; None where its rows have none."""
    if relation.watermark is None or WATERMARK in {name.lower() for name in relation.schema.names}:
        return None
    time = next((field for field in relation.schema if field.name.lower() == relation.watermark[0].lower()), None)
    return None if time is None else watermark_type(time.type)
