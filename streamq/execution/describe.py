"""Tells which columns SQL gives, by having DuckDB bind it over empty tables."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import UTC, datetime

import duckdb
import pyarrow as pa

from streamq.kernels.session import translate
from streamq.storage.session import private_session


class Describer:
    """Describes SELECTs. May be used from several threads, which take turns."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._session: duckdb.DuckDBPyConnection | None = None

    def describe(self, sql: str, inputs: Mapping[str, pa.Schema], parameters: Mapping[str, object]) -> pa.Schema:
        """Give the schema of `sql` over tables of these schemas, as DuckDB delivers it as Arrow.

        Raises:
            QueryError: DuckDB does not accept the text.
        """
        with self._lock:
            if self._session is None:
                self._session = private_session()
            with self._session.cursor() as con:
                try:
                    for name, schema in inputs.items():
                        con.register(name, schema.empty_table())
                    (statement,) = con.extract_statements(sql)
                    values = {"now": datetime.now(UTC), **parameters}
                    used = {name: values[name] for name in statement.named_parameters}
                    relation = con.sql(sql, params=used) if used else con.sql(sql)
                    return relation.limit(0).to_arrow_table().schema
                except duckdb.Error as error:
                    raise translate(error, "planning") from error

    def close(self) -> None:
        """Give the session back."""
        with self._lock:
            if self._session is not None:
                self._session.close()
                self._session = None
