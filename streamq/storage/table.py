"""Tables with a primary key, kept in a DuckDB of the database's own: insert is upsert, UPDATE and DELETE are SQL.

A snapshot is an Arrow table of everything, made once per version of the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import duckdb
import pyarrow as pa

from streamq.errors import (
    BindError,
    DataError,
    ResourceLimit,
    SourceError,
    StreamqError,
)
from streamq.plan.relations import RelationKind
from streamq.sql.statements import CreateTable, Delete, Update
from streamq.storage.commits import Commits
from streamq.storage.memory import MemorySnapshot, Unit, snapshot_of
from streamq.storage.rows import InsertResult, table_of
from streamq.storage.session import private_session
from streamq.storage.text import did_you_mean, identifier
from streamq.storage.types import arrow_schema

_T = TypeVar("_T")
Parameters = Sequence[object] | Mapping[str, object] | None
_INPUT = "inserted rows"
_PLACE = "inserted rows: place"
_OLD = "rows before the update"


class TableStore:
    """The DuckDB in which a database keeps its tables. The commit lock serializes its use."""

    def __init__(self, commits: Commits) -> None:
        self.commits = commits
        self.con = private_session()

    def close(self) -> None:
        """Give the memory of all tables back. Snapshots stay readable."""
        with self.commits.cut():
            self.con.close()


class KeyedTable:
    """A table with a primary key. Every method may be called from any thread."""

    kind: RelationKind = "table"
    system_columns = False
    watermark: tuple[str, str] | None = None

    def __init__(
        self,
        name: str,
        schema: pa.Schema,
        primary_key: Sequence[str],
        *,
        store: TableStore,
    ) -> None:
        if not primary_key:
            raise BindError(
                f"the table {name} has no PRIMARY KEY",
                hint="name the columns that identify a row: PRIMARY KEY (id)",
            )
        by_lower = {column.lower(): column for column in schema.names}
        self.name = name
        self.schema = schema
        self.primary_key = tuple(by_lower[key.lower()] for key in primary_key)
        self._store = store
        self._written = 0
        self._cached: MemorySnapshot | None = None
        self._last_bytes = 0
        with store.commits.cut():
            self._create(name)

    @classmethod
    def create(cls, statement: CreateTable, *, store: TableStore) -> KeyedTable:
        """Make the table that a statement declares.

        Raises:
            BindError: a type is wrong, or there is no key, or it names no column.
        """
        schema = arrow_schema(statement.name, statement.columns, primary_key=statement.primary_key)
        return cls(statement.name, schema, statement.primary_key, store=store)

    @property
    def rows(self) -> int:
        """How many rows there are now."""
        with self._store.commits.cut():
            if self._cached is not None:
                return self._cached.rows
            return _count(self._store.con.execute(f"SELECT count(*) FROM {identifier(self.name)}"))

    @property
    def bytes(self) -> int:
        """How many bytes the last snapshot took; 0 before the first."""
        return self._last_bytes

    @property
    def inserted(self) -> int:
        """How many rows were ever inserted."""
        return self._written

    def insert(self, data: object) -> InsertResult:
        """Write rows of any form that `rows.table_of` takes; a row with a key that exists replaces the old one, and of
        several rows with one key the last counts. All of them are written or, on an error, none.

        Raises:
            SourceError: the rows do not fit the schema.
        """
        rows = table_of(data, self.schema, relation=self.name)
        with self._store.commits.commit():
            if rows.num_rows:
                self._upsert(rows)
            first = self._written
            self._written += rows.num_rows
        return InsertResult(rows.num_rows, first, first + rows.num_rows - 1)

    def update(self, statement: Update, parameters: Parameters = None) -> int:
        """Run UPDATE; gives the number of rows that it changed.

        Raises:
            BindError: a column does not exist, a type or parameter is wrong.
            DataError: an expression failed on a row.
            SourceError: two rows would have one key, or a NOT NULL column NULL.
        """
        self._check_assigned(statement)
        keys = {key.lower() for key in self.primary_key}
        if keys & {column.lower() for column, _ in statement.assignments}:
            return self._write(lambda con: self._update_keys(con, statement, parameters), statement.sql)
        assignments = ", ".join(f"{identifier(column)} = {expression}" for column, expression in statement.assignments)
        sql = f"UPDATE {identifier(self.name)} SET {assignments}{_where(statement.where)}"
        return self._write(lambda con: _count(con.execute(sql, parameters)), statement.sql)

    def delete(self, statement: Delete, parameters: Parameters = None) -> int:
        """Run DELETE; gives the number of rows that are gone.

        Raises:
            BindError, DataError: as for `update`.
        """
        sql = f"DELETE FROM {identifier(self.name)}{_where(statement.where)}"
        return self._write(lambda con: _count(con.execute(sql, parameters)), statement.sql)

    def snapshot(self) -> MemorySnapshot:
        """Take a cut. The first after a change reads the table out; later ones share it."""
        with self._store.commits.cut():
            if self._cached is None:
                columns = ", ".join(map(identifier, self.schema.names))
                table = self._store.con.sql(f"SELECT {columns} FROM {identifier(self.name)}").to_arrow_table()
                self._cached = snapshot_of(self.schema, [Unit(0, table.cast(self.schema))])
                self._last_bytes = self._cached.bytes
            return self._cached

    def drop(self) -> None:
        """Give the table's memory back. Snapshots stay readable."""
        with self._store.commits.cut():
            self._store.con.execute(f"DROP TABLE IF EXISTS {identifier(self.name)}")

    def _create(self, table: str) -> None:
        con = self._store.con
        types = con.from_arrow(self.schema.empty_table()).types
        columns = [
            f"{identifier(field.name)} {kind}{'' if field.nullable else ' NOT NULL'}"
            for field, kind in zip(self.schema, types, strict=True)
        ]
        keys = ", ".join(map(identifier, self.primary_key))
        try:
            con.execute(f"CREATE TABLE {identifier(table)} ({', '.join(columns)}, PRIMARY KEY ({keys}))")
        except duckdb.InvalidTypeException as error:
            raise BindError(
                f"{self.name}: {_first_line(error)}",
                hint="use scalar columns as PRIMARY KEY",
            ) from error

    def _upsert(self, rows: pa.Table) -> None:
        columns = ", ".join(map(identifier, self.schema.names))
        keys = ", ".join(map(identifier, self.primary_key))
        # DuckDB keeps the first of several rows with one key; the last one is the newest.
        newest = (
            f"SELECT {columns} FROM (SELECT *, row_number() OVER () AS {identifier(_PLACE)} FROM {identifier(_INPUT)}) "
            f"QUALIFY row_number() OVER (PARTITION BY {keys} ORDER BY {identifier(_PLACE)} DESC) = 1"
        )
        con = self._store.con
        con.register(_INPUT, rows)
        try:
            self._transact(lambda: _count(con.execute(f"INSERT OR REPLACE INTO {identifier(self.name)} ({columns}) {newest}")))
        except duckdb.Error as error:
            raise _translated(self.name, error, None) from error
        finally:
            con.unregister(_INPUT)

    def _write(self, change: Callable[[duckdb.DuckDBPyConnection], int], sql: str) -> int:
        with self._store.commits.commit():
            try:
                return self._transact(lambda: change(self._store.con))
            except duckdb.Error as error:
                raise _translated(self.name, error, sql) from error

    def _transact(self, change: Callable[[], _T]) -> _T:
        con = self._store.con
        con.begin()
        try:
            result = change()
        except BaseException:
            con.rollback()
            raise
        con.commit()
        self._cached = None
        return result

    def _update_keys(self, con: duckdb.DuckDBPyConnection, statement: Update, parameters: Parameters) -> int:
        """Update key columns by writing the table anew: DuckDB's index does not let keys change places in one statement."""
        table, old = identifier(self.name), identifier(_OLD)
        where = _where(statement.where)
        assigned = {column.lower(): expression for column, expression in statement.assignments}
        con.execute(f"ALTER TABLE {table} RENAME TO {old}")
        self._create(self.name)
        values = ", ".join(f"({assigned[name.lower()]})" if name.lower() in assigned else identifier(name) for name in self.schema.names)
        # Under the table's own name, so that expressions may qualify their columns with it.
        changed = con.execute(
            f"INSERT INTO {table} SELECT {values} FROM {old} AS {table}{where}",
            parameters,
        )
        count = _count(changed)
        used = parameters if statement.where is not None else None
        kept = f" WHERE ({statement.where}) IS NOT TRUE" if statement.where is not None else " WHERE false"
        _count(con.execute(f"INSERT INTO {table} SELECT * FROM {old} AS {table}{kept}", used))
        con.execute(f"DROP TABLE {old}")
        return count

    def _check_assigned(self, statement: Update) -> None:
        known = {name.lower() for name in self.schema.names}
        for column, _ in statement.assignments:
            if column.lower() not in known:
                raise BindError(
                    f"{self.name} has no column {column!r}{did_you_mean(column, self.schema.names)}",
                    sql=statement.sql,
                    hint=f"columns: {', '.join(self.schema.names)}",
                )


def _where(condition: str | None) -> str:
    return "" if condition is None else f" WHERE {condition}"


def _count(result: duckdb.DuckDBPyConnection) -> int:
    # To its end: a result with rows left keeps the connection busy.
    ((count,),) = result.fetchall()
    return int(count)


def _first_line(error: duckdb.Error) -> str:
    return str(error).splitlines()[0]


def _translated(table: str, error: duckdb.Error, sql: str | None) -> StreamqError:
    """Say which of streamq's errors an error of DuckDB is."""
    message = f"{table}: {_first_line(error)}"
    match error:
        case duckdb.BinderException() | duckdb.CatalogException() | duckdb.ParserException() | duckdb.NotImplementedException():
            return BindError(
                message,
                sql=sql,
                hint="UPDATE and DELETE see the table's own columns and parameters only",
            )
        case duckdb.ConstraintException():
            return SourceError(message)
        case duckdb.OutOfMemoryException():
            return ResourceLimit(message)
        case duckdb.InvalidInputException() if "parameter" in message.lower():
            return BindError(message, sql=sql)
        case _:
            return DataError(message)
