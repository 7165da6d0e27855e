"""Tells what SQL gives before any of a query runs: its columns, by having DuckDB bind it over empty tables, and constants."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

import duckdb
import pyarrow as pa

from streamq.kernels.session import translate
from streamq.sql.arrow_types import ArrowTypes
from streamq.storage.session import private_session


class Describer:
    """Describes SELECTs and computes constants. May be used from several threads, which take turns."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._session: duckdb.DuckDBPyConnection | None = None
        self._arrow_types = ArrowTypes()

    def describe(self, sql: str, inputs: Mapping[str, pa.Schema], parameters: Mapping[str, object]) -> pa.Schema:
        """Give the schema of `sql` over tables of these schemas, as DuckDB delivers it as Arrow.

        Raises:
            QueryError: DuckDB does not accept the text.
        """
        with self._cursor() as con:
            try:
                for name, schema in inputs.items():
                    con.register(name, schema.empty_table())
                (statement,) = con.extract_statements(f"DESCRIBE {sql}")
                values = {"now": datetime.now(UTC), **parameters}
                used = {name: values[name] for name in statement.named_parameters}
                columns = con.execute(statement, used or None).fetchall()
                return self._arrow_types.schema(con, [column[0] for column in columns], [column[1] for column in columns])
            except duckdb.Error as error:
                raise translate(error, "planning") from error

    def evaluate(self, constant: str, parameters: Mapping[str, object]) -> object:
        """Compute an expression without columns; None if it is NULL or DuckDB does not compute it."""
        if constant.startswith("$") and constant[1:] in parameters:
            return parameters[constant[1:]]
        with self._cursor() as con:
            try:
                (statement,) = con.extract_statements(f"SELECT {constant}")
                used = {name: parameters[name] for name in statement.named_parameters}
                ((value,),) = con.execute(statement, used or None).fetchall()
            except duckdb.Error:
                return None
            return value

    @contextmanager
    def _cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        with self._lock:
            if self._session is None:
                self._session = private_session()
            with self._session.cursor() as con:
                yield con

    def close(self) -> None:
        """Give the session back."""
        with self._lock:
            if self._session is not None:
                self._session.close()
                self._session = None
