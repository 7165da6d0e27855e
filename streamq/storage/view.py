"""Materialized views: the result of a continuous query, kept up to date, read by snapshots and followed by feeds.

An epoch of the query is one write. A result with a key is kept by it; without one the same row may be there several times.
"""

from __future__ import annotations

from collections.abc import Sequence

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from streamq.errors import BindError, ResourceLimit
from streamq.plan.relations import RelationKind
from streamq.storage.stored import StoredRows, TableStore, count
from streamq.storage.table_feed import Change
from streamq.storage.text import identifier

_OP = "_op"
_CHANGED = "changed rows"
_NUMBER = "changed rows: number of the instance"
_ROW = "changed rows: row of the view"


class MaterializedView(StoredRows):
    """The result of a continuous query. Every method may be called from any thread; one writes at a time.

    `schema` is without `_op`. `key` are the columns that identify a row, () for a result of one row, None if none do; `changelog`
    says what the batches of `apply` look like. `reads` names the relations that the query reads.
    """

    kind: RelationKind = "view"
    consolidates = True

    def __init__(
        self, name: str, schema: pa.Schema, *, sql: str, key: tuple[str, ...] | None, reads: frozenset[str], store: TableStore
    ) -> None:
        super().__init__(name, schema, key or (), store)
        self.sql = sql
        self.key = key
        self.reads = reads
        self._epoch = 0
        if _OP in schema.names or (key is None and "rowid" in {column.lower() for column in schema.names}):
            raise BindError(f"the materialized view {name} cannot have a column {_OP} or rowid", hint="give it another name: … AS name")
        with store.con.cursor() as con:
            types = con.from_arrow(schema.empty_table()).types
            columns = ", ".join(f"{identifier(field.name)} {kind}" for field, kind in zip(schema, types, strict=True))
            con.execute(f"CREATE TABLE {identifier(name)} ({columns})")

    @property
    def epoch(self) -> int:
        """The last epoch of the query whose changes are in the view."""
        return self._epoch

    def apply(self, changes: Sequence[pa.RecordBatch], epoch: int) -> None:
        """Apply the changes of an epoch as one write: all or, on an error, nothing of them. Rows without `_op` are added.

        Raises:
            ResourceLimit: the view does not fit into memory.
        """
        with self._store.writing:
            if not sum(batch.num_rows for batch in changes):
                self._epoch = epoch
                return
            try:
                self._transact(lambda: self._write(pa.Table.from_batches(changes)))
            except duckdb.OutOfMemoryException as error:
                raise ResourceLimit(f"{self.name}: {error}") from error
            self._epoch = epoch

    def _write(self, changes: pa.Table) -> tuple[int, Change | None]:
        con = self._store.con
        added, removed = self._split(changes)
        if _OP not in changes.column_names:
            change = Change(removed, added)
        elif self.key is None:
            change = self._net(removed, added)
            self._remove_instances(con, change.removed)
            added = change.added
        else:
            old = self._remove_keys(con, pa.concat_tables([removed, added]).select(self.key), self.key)
            assert removed.num_rows <= old.num_rows, f"{self.name}: a row that a change removes is not in the view"
            change = self._net(old, added) if self._feeds else Change(old, added)
        if added.num_rows:
            self._insert(con, added)
        return changes.num_rows, change if self._feeds else None

    def _split(self, changes: pa.Table) -> tuple[pa.Table, pa.Table]:
        """Give the rows that are added, or come in place of others, and those that are removed."""
        rows = changes.select(self.schema.names).cast(self.schema)
        if _OP not in changes.column_names:
            return rows, rows.slice(0, 0)
        gone = pc.equal(changes[_OP], "delete")
        return rows.filter(pc.invert(gone)), rows.filter(gone)

    def _insert(self, con: duckdb.DuckDBPyConnection, rows: pa.Table) -> None:
        con.register(_CHANGED, rows)
        try:
            count(con.execute(f"INSERT INTO {identifier(self.name)} SELECT * FROM {identifier(_CHANGED)}"))
        finally:
            con.unregister(_CHANGED)

    def _remove_keys(self, con: duckdb.DuckDBPyConnection, keys: pa.Table, key: Sequence[str]) -> pa.Table:
        """Remove the rows with certain keys, and give them. NULL is a key like others."""
        table, found = identifier(self.name), "SELECT 1"
        if key:
            con.register(_CHANGED, keys)
            same = " AND ".join(f"t.{identifier(name)} IS NOT DISTINCT FROM c.{identifier(name)}" for name in key)
            found = f"SELECT 1 FROM {identifier(_CHANGED)} AS c WHERE {same}"
        try:
            removed = con.sql(f"DELETE FROM {table} AS t WHERE EXISTS ({found}) RETURNING *")
            assert removed is not None
            return removed.to_arrow_table().cast(self.schema)
        finally:
            if key:
                con.unregister(_CHANGED)

    def _remove_instances(self, con: duckdb.DuckDBPyConnection, rows: pa.Table) -> None:
        """Remove as many instances of each row as are given."""
        if not rows.num_rows:
            return
        con.register(_CHANGED, rows)
        columns = ", ".join(map(identifier, self.schema.names))
        same = " AND ".join(f"t.{identifier(name)} IS NOT DISTINCT FROM c.{identifier(name)}" for name in self.schema.names)
        number, row = identifier(_NUMBER), identifier(_ROW)
        try:
            removed = count(
                con.execute(
                    f"DELETE FROM {identifier(self.name)} WHERE rowid IN (SELECT t.{row} FROM "
                    f"(SELECT *, rowid AS {row}, row_number() OVER (PARTITION BY {columns}) AS {number} FROM {identifier(self.name)}) AS t "
                    f"JOIN (SELECT {columns}, count(*) AS {number} FROM {identifier(_CHANGED)} GROUP BY ALL) AS c "
                    f"ON {same} AND t.{number} <= c.{number})"
                )
            )
        finally:
            con.unregister(_CHANGED)
        assert removed == rows.num_rows, f"{self.name}: a row that a change removes is not in the view"
