"""Tables with a primary key: insert is upsert, UPDATE and DELETE are SQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import duckdb
import pyarrow as pa

from streamq.errors import (
    BindError,
    DataError,
    ResourceLimit,
    SourceError,
    StreamClosed,
    StreamqError,
)
from streamq.plan.relations import RelationKind
from streamq.sql.diagnostics import bind_error, read_complaint
from streamq.sql.statements import CreateTable, Delete, Parameters, Update
from streamq.storage.insertion import Notify, write
from streamq.storage.rows import InsertResult, table_of
from streamq.storage.stored import StoredRows, TableStore, count
from streamq.storage.table_feed import Change
from streamq.storage.text import did_you_mean, identifier
from streamq.storage.types import arrow_schema

MAX_BACKLOG_BYTES = 32 << 20
"""Changes that wait for one follower beyond this keep inserts waiting. They are not summed up: a PROCTIME join needs each in its place."""
_INPUT = "inserted rows"
_PLACE = "inserted rows: place"
_OLD = "rows before the update"
_TOUCHED = "touched rows"


class KeyedTable(StoredRows):
    """A table with a primary key. Every method may be called from any thread."""

    kind: RelationKind = "table"

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
        super().__init__(name, schema, tuple(by_lower[key.lower()] for key in primary_key), store)
        self._closed = False
        with store.con.cursor() as con:
            self._create(con)

    @classmethod
    def create(cls, statement: CreateTable, *, store: TableStore) -> KeyedTable:
        """Make the table that a statement declares.

        Raises:
            BindError: a type is wrong, or there is no key, or it names no column.
        """
        with store.con.cursor() as session:
            schema = arrow_schema(statement.name, statement.columns, session, primary_key=statement.primary_key)
        return cls(statement.name, schema, statement.primary_key, store=store)

    def insert(self, data: object) -> InsertResult:
        """Write rows of any form that `rows.table_of` takes; a row with a key that exists replaces the old one, and of
        several rows with one key the last counts. All of them are written or, on an error, none. The calling thread waits while a
        feed has left too many changes waiting.

        Raises:
            SourceError: the rows do not fit the schema.
        """
        return write(self.insertion(data))

    def insertion(self, data: object) -> TableInsertion:
        """Convert rows, for whoever writes them later.

        Raises:
            SourceError: the rows do not fit the schema.
        """
        return TableInsertion(self, table_of(data, self.schema, relation=self.name))

    def upsert(self, rows: pa.Table, notify: Notify) -> InsertResult | None:
        """Do what `Insertion.attempt` promises."""
        with self._store.commits.cut():
            self._check_open()
            if any(feed.backlog > MAX_BACKLOG_BYTES for feed in self._feeds):
                self._waiting.add(notify)
                return None
        with self._store.writing:
            self._check_open()
            first = self._written
            self._upsert(rows)
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
        return self._write(lambda con: self._changing(con, sql, parameters, self._updated), statement.sql)

    def delete(self, statement: Delete, parameters: Parameters = None) -> int:
        """Run DELETE; gives the number of rows that are gone.

        Raises:
            BindError, DataError: as for `update`.
        """
        sql = f"DELETE FROM {identifier(self.name)}{_where(statement.where)}"
        return self._write(lambda con: self._changing(con, sql, parameters, lambda gone: self._net(gone, gone.slice(0, 0))), statement.sql)

    def abandon(self, notify: Notify) -> None:
        """Do what `Insertion.abandon` promises."""
        with self._store.commits.cut():
            self._waiting.discard(notify)

    def close(self) -> None:
        """Tell who waits for room that the database has been closed."""
        with self._store.commits.cut():
            self._closed = True
            self._waiting.call_all()

    def _check_open(self) -> None:
        if self._closed:
            raise StreamClosed("the database was closed")
        if self._dropped:
            raise SourceError(f"{self.name} has been dropped")

    def _create(self, con: duckdb.DuckDBPyConnection) -> None:
        types = con.from_arrow(self.schema.empty_table()).types
        columns = [
            f"{identifier(field.name)} {kind}{'' if field.nullable else ' NOT NULL'}"
            for field, kind in zip(self.schema, types, strict=True)
        ]
        keys = ", ".join(map(identifier, self.primary_key))
        try:
            con.execute(f"CREATE TABLE {identifier(self.name)} ({', '.join(columns)}, PRIMARY KEY ({keys}))")
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
            self._transact(
                lambda: self._inserting(con, f"INSERT OR REPLACE INTO {identifier(self.name)} ({columns}) {newest}"),
                written=rows.num_rows,
            )
        except duckdb.Error as error:
            raise _translated(self.name, error, None) from error
        finally:
            con.unregister(_INPUT)

    def _write(self, change: Callable[[duckdb.DuckDBPyConnection], tuple[int, Change | None]], sql: str) -> int:
        with self._store.writing:
            try:
                return self._transact(lambda: change(self._store.con))
            except duckdb.Error as error:
                raise _translated(self.name, error, sql) from error

    def _inserting(self, con: duckdb.DuckDBPyConnection, sql: str) -> tuple[int, Change | None]:
        written = count(con.execute(sql))
        if not self._feeds:
            return written, None
        with self._store.con.cursor() as before:
            touched = con.sql(f"SELECT DISTINCT {self._keys} FROM {identifier(_INPUT)}").to_arrow_table()
            return written, self._net(self._with_keys(before, touched), self._with_keys(con, touched))

    def _changing(
        self, con: duckdb.DuckDBPyConnection, sql: str, parameters: Parameters, change: Callable[[pa.Table], Change]
    ) -> tuple[int, Change | None]:
        """Run an UPDATE or DELETE; `change` makes of the rows it returns what it changed."""
        if not self._feeds:
            return count(con.execute(sql, parameters)), None
        rows = con.sql(f"{sql} RETURNING *", params=parameters).to_arrow_table().cast(self.schema)
        return rows.num_rows, change(rows)

    def _updated(self, rows: pa.Table) -> Change:
        with self._store.con.cursor() as before:
            return self._net(self._with_keys(before, rows.select(self.primary_key)), rows)

    def _with_keys(self, con: duckdb.DuckDBPyConnection, keys: pa.Table) -> pa.Table:
        """Give the rows with certain keys, as a connection sees them: any other than the writing one sees what was there before."""
        con.register(_TOUCHED, keys)
        try:
            found = con.sql(f"SELECT t.* FROM {identifier(self.name)} AS t SEMI JOIN {identifier(_TOUCHED)} USING ({self._keys})")
            return found.to_arrow_table().cast(self.schema)
        finally:
            con.unregister(_TOUCHED)

    @property
    def _keys(self) -> str:
        return ", ".join(map(identifier, self.primary_key))

    def _update_keys(self, con: duckdb.DuckDBPyConnection, statement: Update, parameters: Parameters) -> tuple[int, Change | None]:
        """Update key columns by writing the table anew: DuckDB's index does not let keys change places in one statement."""
        table, old = identifier(self.name), identifier(_OLD)
        where = _where(statement.where)
        assigned = {column.lower(): expression for column, expression in statement.assignments}
        con.execute(f"ALTER TABLE {table} RENAME TO {old}")
        self._create(con)
        values = ", ".join(f"({assigned[name.lower()]})" if name.lower() in assigned else identifier(name) for name in self.schema.names)
        # Under the table's own name, so that expressions may qualify their columns with it.
        changed = con.execute(
            f"INSERT INTO {table} SELECT {values} FROM {old} AS {table}{where}",
            parameters,
        )
        updated = count(changed)
        used = parameters if statement.where is not None else None
        kept = f" WHERE ({statement.where}) IS NOT TRUE" if statement.where is not None else " WHERE false"
        count(con.execute(f"INSERT INTO {table} SELECT * FROM {old} AS {table}{kept}", used))
        change = Change(self._except(con, _OLD, self.name), self._except(con, self.name, _OLD)) if self._feeds else None
        con.execute(f"DROP TABLE {old}")
        return updated, change

    def _check_assigned(self, statement: Update) -> None:
        known = {name.lower() for name in self.schema.names}
        for column, _ in statement.assignments:
            if column.lower() not in known:
                raise BindError(
                    f"{self.name} has no column {column!r}{did_you_mean(column, self.schema.names)}",
                    sql=statement.sql,
                    hint=f"columns: {', '.join(self.schema.names)}",
                )


class TableInsertion:
    """An `Insertion` of rows that fit the table. It waits for feeds that leave too many changes waiting."""

    def __init__(self, table: KeyedTable, rows: pa.Table) -> None:
        self._table = table
        self._rows = rows

    @property
    def bytes(self) -> int:
        """Their size, as Arrow buffers."""
        return int(self._rows.nbytes)

    def attempt(self, notify: Notify) -> InsertResult | None:
        """Write the rows. See `Insertion`."""
        return self._table.upsert(self._rows, notify)

    def abandon(self, notify: Notify) -> None:
        """Forget a `notify`. See `Insertion`."""
        self._table.abandon(notify)


def _where(condition: str | None) -> str:
    return "" if condition is None else f" WHERE {condition}"


def _first_line(error: duckdb.Error) -> str:
    return str(error).splitlines()[0]


def _translated(table: str, error: duckdb.Error, sql: str | None) -> StreamqError:
    """Say which of streamq's errors an error of DuckDB is."""
    complaint = read_complaint(error)
    message = f"{table}: {complaint.message}"
    match error:
        case duckdb.BinderException() | duckdb.CatalogException() | duckdb.ParserException() | duckdb.NotImplementedException():
            bound = bind_error(complaint, sql or "", "")
            return BindError(
                bound.message,
                sql=sql,
                line=bound.line,
                column=bound.column,
                hint=bound.hint or "UPDATE and DELETE see the table's own columns and parameters only",
            )
        case duckdb.ConstraintException():
            return SourceError(message)
        case duckdb.OutOfMemoryException():
            return ResourceLimit(message)
        case duckdb.InvalidInputException() if "parameter" in message.lower():
            return BindError(message, sql=sql)
        case _:
            return DataError(message)
