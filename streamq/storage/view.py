"""Materialized views: the result of a continuous query, kept up to date, read by snapshots and followed by feeds.

A result with a key is kept by it; without one the same row may be there several times. The rows are always those of the query's answer at
one place in the order of writes (`reached`), and what changes them gets no number of its own, but that of the last write that it results
from. Whoever reads several relations makes the view stop at the cut that it reads (`request`), so that it is there once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from streamq.errors import BindError, ResourceLimit, ShardError, SourceError, SqlError, StreamqError
from streamq.plan.relations import RelationKind
from streamq.storage.barriers import AT_THE_END, NOTHING, Barriers, Reached
from streamq.storage.feeds import Start
from streamq.storage.stored import StoredRows, TableStore, count
from streamq.storage.table_feed import Change
from streamq.storage.text import identifier
from streamq.storage.versions import TableVersion
from streamq.storage.view_feed import ViewFeed

_OP = "_op"
_CHANGED = "changed rows"
_NUMBER = "changed rows: number of the instance"
_ROW = "changed rows: row of the view"


class MaterializedView(StoredRows):
    """The result of a continuous query. Every method may be called from any thread; one writes at a time.

    `schema` is without `_op`. `key` are the columns that identify a row, () for a result of one row, None if none do; `changelog`
    says what the batches of `apply` look like. `reads` names the relations that the query reads, `late_rows_into` the one that it writes.
    """

    kind: RelationKind = "materialized view"

    def __init__(
        self,
        name: str,
        schema: pa.Schema,
        *,
        sql: str,
        key: tuple[str, ...] | None,
        reads: frozenset[str],
        late_rows_into: str | None = None,
        store: TableStore,
    ) -> None:
        super().__init__(name, schema, key or (), store)
        self.sql = sql
        self.key = key
        self.reads = reads
        self.late_rows_into = late_rows_into
        self._reached = NOTHING
        self._error: StreamqError | None = None
        self._held = 0
        self._barriers = Barriers()
        self._inputs: tuple[ViewFeed, ...] = ()
        self._ring: Callable[[], None] = _nobody
        if _OP in schema.names or (key is None and "rowid" in {column.lower() for column in schema.names}):
            raise BindError(f"the materialized view {name} cannot have a column {_OP} or rowid", hint="give it another name: … AS name")
        with store.con.cursor() as con:
            types = con.from_arrow(schema.empty_table()).types
            columns = ", ".join(f"{identifier(field.name)} {kind}" for field, kind in zip(schema, types, strict=True))
            try:
                con.execute(f"CREATE TABLE {identifier(name)} ({columns})")
            except duckdb.CatalogException as error:
                raise BindError(f"a materialized view or table {name!r} is being created already") from error

    @property
    def needs(self) -> frozenset[str]:
        """The names of the relations without which the query cannot be."""
        return self.reads if self.late_rows_into is None else self.reads | {self.late_rows_into}

    @property
    def reached(self) -> Reached:
        """Up to which write the rows are. Forever, where nothing changes them any more: the query has ended, or failed."""
        return AT_THE_END if self.failure is not None else self._reached

    @property
    def complete(self) -> bool:
        """The query has ended, because what it reads has."""
        return self.reached == AT_THE_END

    @property
    def bytes(self) -> int:
        """How many bytes the rows take: as last read, before that as they came."""
        return super().bytes or self._held

    @property
    def failure(self) -> StreamqError | None:
        """Why the view can neither be read nor followed: it was dropped, or its query has failed."""
        if self._dropped:
            return SourceError(f"the materialized view {self.name} was dropped while a query read it")
        return None if self._error is None else _named(self.name, self._error)

    def snapshot(self) -> TableVersion:
        """Take a cut, at `reached`.

        Raises:
            StreamqError: the view's query has failed.
        """
        with self._store.commits.cut():
            if (failure := self.failure) is not None:
                raise failure
            return super().snapshot()

    def follow(self, columns: tuple[str, ...] | None, start: Start = "earliest") -> ViewFeed:
        """Open a feed of the rows as they are now and of every later change. Who calls holds `TableStore.writing`."""
        assert self._store.writing.locked()
        with self._store.commits.cut():
            return self._followed_by(ViewFeed(self, columns, self.snapshot()))

    # Its place in the order of writes

    def next_stop(self, after: Reached) -> Reached | None:
        """Give the first place, if any, behind `after` at which it must stop."""
        return self._barriers.next(after)

    def request(self, place: Reached, arrived: Callable[[], object]) -> None:
        """Have the view stop at a place, the last write that there is, and `arrived()` called while it is there, or once it is clear that
        it never will be. The views that it reads stop there too. Who calls holds the commit lock; who is called has it.
        """
        if self.reached.sequence >= place.sequence:
            arrived()
            return
        self._barriers.add(place, arrived)
        for feed in self._inputs:
            feed.stop_at(place)
        self._ring()

    def kept_by(self, inputs: Sequence[ViewFeed]) -> None:
        """Note the views that the query reads, before anybody can name this one."""
        self._inputs = tuple(inputs)

    def wake(self, notify: Callable[[], None] | None) -> None:
        """Have the query call `notify()`, from any thread, when there is a place to stop at; None ends that."""
        self._ring = notify or _nobody

    # Its rows

    def apply(self, changes: Sequence[pa.RecordBatch], reached: Reached) -> None:
        """Apply what the writes up to a place change: all or, on an error, nothing of it. Rows without `_op` are added.

        Raises:
            ResourceLimit: the view does not fit into memory.
            SourceError: it was dropped.
        """
        with self._store.writing:
            if self._dropped:
                raise SourceError(f"the materialized view {self.name} was dropped")
            if not sum(batch.num_rows for batch in changes):
                with self._advancing(reached):
                    return
            try:
                self._transact(lambda: self._write(pa.Table.from_batches(changes)), commit=lambda: self._advancing(reached))
            except duckdb.OutOfMemoryException as error:
                raise ResourceLimit(f"{self.name}: {error}") from error

    def end(self, error: StreamqError | None) -> None:
        """Note that the query has ended, or why it failed: who waits or follows is told."""
        with self._store.commits.cut():
            self._error = error
            self._reached = AT_THE_END
            self._inputs = ()
            self._barriers.arrive(AT_THE_END.sequence)
            for feed in self._feeds:
                feed.call()

    def drop(self) -> None:
        """Give the memory back, and tell who follows or waits. Snapshots stay readable. Who calls holds `TableStore.writing`."""
        super().drop()
        with self._store.commits.cut():
            self._barriers.arrive(AT_THE_END.sequence)

    @contextmanager
    def _advancing(self, reached: Reached) -> Iterator[int]:
        """Move on, with what the block changes; gives the number of the change."""
        with self._store.commits.cut() as now:
            yield min(reached.sequence, now)
            self._reached = reached
            self._barriers.arrive(reached.sequence)

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
        self._held += change.added.nbytes - change.removed.nbytes
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


def _nobody() -> None:
    """Be called while no query runs."""


def _named(name: str, error: StreamqError) -> StreamqError:
    """Say of an error, as another of its kind, which view it has ended."""
    text = f"the materialized view {name} has failed: {error}"
    match error:
        case ShardError():
            named: StreamqError = ShardError(text, shard=error.shard)
        case SqlError():
            named = type(error)(text, hint="drop the view")
        case _:
            named = type(error)(text)
    named.__cause__ = error
    return named
