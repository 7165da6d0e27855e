"""SQL over small Arrow tables, run again and again: what operators compute their rows with.

A prepared query has a DuckDB connection of its own, on which its tables are objects that give DuckDB whatever batch they hold now.
So a call swaps batches and reads a view; nothing is registered, parsed or copied in between. Only a query with parameters, which no view
can have, is parsed each time. Simple queries of one table are computed without DuckDB (`direct`), which has then only looked at their text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, Self

import duckdb
import pyarrow as pa

from streamq.errors import ResourceLimit
from streamq.kernels.direct import Direct, direct
from streamq.kernels.session import Session, SharedSession, translate

MOST_ROWS = 1 << 30
"""A batch of a result may have any number of rows: results are as large as an epoch."""
VIEW = '"#query"'


class Prepared(Protocol):
    """One SQL query over named tables and `$name` parameters, made by `Evaluator.prepare`."""

    def __call__(self, inputs: Mapping[str, pa.RecordBatch | pa.Table], values: Mapping[str, object]) -> pa.RecordBatch:
        """Run the query over `inputs` (tables that are not named have no rows), with those of `values` that its text names.

        The result's rows are in the order in which DuckDB gives them: that of the input where the query goes row by row.

        Raises:
            DataError: an expression failed on a row.
            ResourceLimit: memory or disk ran out, or the result is too large for one batch.
        """


class Evaluator:
    """Prepares SQL on a session. Belongs to one thread at a time, as does all that it prepared."""

    __slots__ = ("_prepared", "_session")

    def __init__(self, session: Session | SharedSession) -> None:
        self._session = session
        self._prepared: list[_InDuckDB] = []

    def prepare(self, sql: str, inputs: Mapping[str, pa.Schema], what: str) -> Prepared:
        """Prepare `sql` over tables named as in `inputs`; `what` says, in errors, what it is for.

        Raises:
            QueryError: DuckDB does not accept the text.
        """
        known = self._session.direct_queries
        found = known.get(sql, inputs)
        if found is None:
            prepared = _InDuckDB(self._session.cursor(), sql, inputs, what)
            found = prepared.direct
            if found is None:
                self._prepared.append(prepared)
                return prepared
            known.keep(sql, inputs, found)
        return _Direct(found, what)

    def interrupt(self) -> None:
        """Stop what runs now, from another thread. What is idle does not notice."""
        for prepared in self._prepared:
            prepared.interrupt()

    def close(self) -> None:
        """Close every connection that was opened. The session stays."""
        for prepared in self._prepared:
            prepared.close()
        self._prepared.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Direct:
    """A query that Arrow computes."""

    __slots__ = ("_compute", "_what")

    def __init__(self, compute: Direct, what: str) -> None:
        self._compute = compute
        self._what = what

    def __call__(self, inputs: Mapping[str, pa.RecordBatch | pa.Table], values: Mapping[str, object]) -> pa.RecordBatch:
        (rows,) = inputs.values()
        try:
            return self._compute(rows if isinstance(rows, pa.RecordBatch) else _single(rows, self._what))
        except (pa.ArrowException, OSError, MemoryError) as error:
            raise translate(error, self._what) from error


class _InDuckDB:
    """A query that DuckDB computes; `direct` is what Arrow can do in its place, and then nothing of it is open."""

    __slots__ = ("_connection", "_parameters", "_relation", "_slots", "_sql", "_values", "_what", "direct")

    def __init__(self, connection: duckdb.DuckDBPyConnection, sql: str, inputs: Mapping[str, pa.Schema], what: str) -> None:
        self._connection: duckdb.DuckDBPyConnection | None = connection
        self._sql = sql
        self._what = what
        self._slots = {name: _Slot(schema) for name, schema in inputs.items()}
        for name, slot in self._slots.items():
            connection.register(name, slot)
        self.direct: Direct | None = None
        self._relation: Any = None
        self._values: dict[str, tuple[type, object]] = {}
        try:
            self._parameters = _parameters(connection, sql)
            if not self._parameters:
                connection.execute(f"CREATE TEMP VIEW {VIEW} AS {sql}")
                self._sql = f"FROM {VIEW}"
            self.direct = direct(connection, sql, inputs)
        except duckdb.Error as error:
            self.close()
            raise translate(error, what) from error
        if self.direct is not None:
            self.close()

    def __call__(self, inputs: Mapping[str, pa.RecordBatch | pa.Table], values: Mapping[str, object]) -> pa.RecordBatch:
        for name, rows in inputs.items():
            self._slots[name].rows = rows
        try:
            return _single(self._bound(values).to_arrow_table(MOST_ROWS), self._what)
        except (duckdb.Error, pa.ArrowException, OSError, MemoryError) as error:
            raise translate(error, self._what) from error
        finally:
            for slot in self._slots.values():
                slot.rows = None

    def _bound(self, values: Mapping[str, object]) -> Any:
        """Give the relation for these values: the one of the last call, unless a value has changed since."""
        wanted = {name: values[name] for name in self._parameters}
        typed = {name: (type(value), value) for name, value in wanted.items()}
        assert self._connection is not None
        if self._relation is None or typed != self._values:
            self._relation = self._connection.sql(self._sql, params=wanted) if wanted else self._connection.sql(self._sql)
            self._values = typed
        return self._relation

    def interrupt(self) -> None:
        connection = self._connection
        if connection is not None:
            connection.interrupt()

    def close(self) -> None:
        self._relation = None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


class _Slot:
    """A table that DuckDB reads, whose rows change between runs."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self.rows: pa.RecordBatch | pa.Table | None = None

    def __arrow_c_schema__(self) -> object:
        return self._schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        rows = pa.Table.from_batches([], schema=self._schema) if self.rows is None else self.rows
        batches = rows.to_batches() if isinstance(rows, pa.Table) else [rows]
        return pa.RecordBatchReader.from_batches(self._schema, batches).__arrow_c_stream__(requested_schema)


def _parameters(connection: duckdb.DuckDBPyConnection, sql: str) -> frozenset[str]:
    """Give the names of a query's parameters."""
    (statement,) = connection.extract_statements(sql)
    return frozenset(statement.named_parameters)


def _single(table: pa.Table, what: str) -> pa.RecordBatch:
    """Give a table's rows as one batch."""
    batches = table.combine_chunks().to_batches()
    match len(batches):
        case 0:
            return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in table.schema], schema=table.schema)
        case 1:
            return batches[0]
        case _:
            raise ResourceLimit(f"{what}: an epoch's result has more than 2 GiB of text in a column; a smaller epoch_rows= helps")
