"""Rows that a database keeps in a DuckDB of its own: what tables and materialized views have in common.

A write is one transaction, and becomes visible with its commit; a snapshot is a transaction too (see `versions`). So nobody
who reads waits for a large write, and no write waits for a copy of the rows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import TypeVar

import duckdb
import pyarrow as pa

from streamq.errors import SourceError, StreamqError
from streamq.storage.commits import Commits
from streamq.storage.feeds import Followers, Start
from streamq.storage.insertion import Waiting
from streamq.storage.session import separate_session
from streamq.storage.table_feed import Change, TableFeed
from streamq.storage.text import identifier
from streamq.storage.versions import TableVersion

Followed = TypeVar("Followed", bound=TableFeed)
_REMOVED = "removed rows"
_ADDED = "added rows"


class TableStore:
    """The DuckDB in which a database keeps its tables. It is opened with the first of them, which is made under the commit lock."""

    def __init__(self, commits: Commits) -> None:
        self.commits = commits
        self.writing = threading.Lock()

    @cached_property
    def con(self) -> duckdb.DuckDBPyConnection:
        """The connection for writes; who uses it holds `writing`, and takes the commit lock inside of that, never around it."""
        return separate_session()

    def close(self) -> None:
        """Give the memory of all tables back. Snapshots stay readable."""
        with self.writing:
            if "con" in vars(self):
                self.con.close()


class StoredRows:
    """Rows of a relation in DuckDB, under its name. Every method may be called from any thread."""

    system_columns = False
    watermark: tuple[str, str] | None = None

    def __init__(self, name: str, schema: pa.Schema, primary_key: tuple[str, ...], store: TableStore) -> None:
        self.name = name
        self.schema = schema
        self.primary_key = primary_key
        self._store = store
        self._written = 0
        self._rows = 0
        self._version: TableVersion | None = None
        self._last_bytes = 0
        self._dropped = False
        self._feeds: tuple[TableFeed, ...] = ()
        self._waiting = Waiting()

    @property
    def rows(self) -> int:
        """How many rows there are now."""
        return self._rows

    @property
    def bytes(self) -> int:
        """How many bytes the rows took when they were last read; 0 before the first time."""
        version = self._version
        known = None if version is None else version.bytes_read_out
        return self._last_bytes if known is None else known

    @property
    def inserted(self) -> int:
        """How many rows were ever inserted."""
        return self._written

    @property
    def dropped(self) -> bool:
        """Whether the database has no such table any more."""
        return self._dropped

    @property
    def failure(self) -> StreamqError | None:
        """Why the rows cannot be followed any more."""
        return SourceError(f"{self.name} was dropped while a query followed it") if self._dropped else None

    @property
    def followers(self) -> Followers:
        """How many feeds follow, and how far the slowest is behind."""
        feeds = self._feeds
        rows, size = max((feed.behind for feed in feeds), default=(0, 0))
        return Followers(len(feeds), rows, size)

    def follow(self, columns: tuple[str, ...] | None, start: Start = "earliest") -> TableFeed:
        """Open a feed of the rows as they are now and of every later change. Who calls holds `TableStore.writing`, since a write in
        progress has not kept what it changes.
        """
        assert self._store.writing.locked()
        with self._store.commits.cut():
            return self._followed_by(TableFeed(self, columns, self.snapshot()))

    def _followed_by(self, feed: Followed) -> Followed:
        self._feeds = (*self._feeds, feed)
        return feed

    def unfollow(self, feed: TableFeed) -> None:
        """Keep nothing for a feed any more."""
        with self._store.commits.cut():
            self._feeds = tuple(other for other in self._feeds if other is not feed)
            self._waiting.call_all()

    def taken(self) -> None:
        """Note that a feed has moved on: who waits for room may try again."""
        with self._store.commits.cut():
            self._waiting.call_all()

    def snapshot(self) -> TableVersion:
        """Take a cut. Copies nothing: the rows are read out when they are asked for. Without a change, the next cut is the same."""
        with self._store.commits.cut():
            if self._version is None:
                self._version = TableVersion(self.name, self.schema, self._rows, self._store.con.cursor())
            return self._version

    def version_and(self, waiting: Callable[[], Sequence[Change]]) -> tuple[TableVersion, Sequence[Change]]:
        """Give the rows as they are now, and what `waiting()` gives at the same cut."""
        with self._store.commits.cut():
            return self.snapshot(), waiting()

    def drop(self) -> None:
        """Give the table's memory back, and tell who follows. Snapshots stay readable. Who calls holds `TableStore.writing`."""
        with self._store.con.cursor() as con:
            con.execute(f"DROP TABLE IF EXISTS {identifier(self.name)}")
        with self._store.commits.cut():
            self._dropped = True
            self._waiting.call_all()
        for feed in self._feeds:
            feed.call()

    def net(self, changes: Sequence[Change]) -> Change:
        """Sum up changes that follow each other, at least one."""
        removed = pa.concat_tables([change.removed for change in changes])
        return self._net(removed, pa.concat_tables([change.added for change in changes]))

    def _transact(
        self,
        write: Callable[[], tuple[int, Change | None]],
        *,
        written: int = 0,
        commit: Callable[[], AbstractContextManager[int]] | None = None,
    ) -> int:
        """Do a write, and tell who follows. `commit` is the block in which it becomes visible, and gives its number."""
        con = self._store.con
        con.begin()
        try:
            result, change = write()
            rows = count(con.execute(f"SELECT count(*) FROM {identifier(self.name)}"))
        except BaseException:
            con.rollback()
            raise
        # Only this waits for cuts, and lets them wait.
        with (commit or self._store.commits.commit)() as number:
            con.commit()
            self._rows = rows
            self._written += written
            if self._version is not None:
                self._last_bytes = self._version.bytes_read_out or self._last_bytes
                self._version = None
            feeds = self._feeds if change is not None and change.rows else ()
            for feed in feeds:
                assert change is not None
                feed.committed(number, change)
        for feed in feeds:
            feed.settle()
            feed.call()
        return result

    def _net(self, removed: pa.Table, added: pa.Table) -> Change:
        """Leave out the rows that are as they were."""
        if not removed.num_rows or not added.num_rows:
            return Change(removed, added)
        with self._store.con.cursor() as con:
            con.register(_REMOVED, removed)
            con.register(_ADDED, added)
            return Change(self._except(con, _REMOVED, _ADDED), self._except(con, _ADDED, _REMOVED))

    def _except(self, con: duckdb.DuckDBPyConnection, rows: str, others: str) -> pa.Table:
        left = con.sql(f"SELECT * FROM {identifier(rows)} EXCEPT ALL SELECT * FROM {identifier(others)}")
        return left.to_arrow_table().cast(self.schema)


def count(result: duckdb.DuckDBPyConnection) -> int:
    """Give the one number of a result."""
    # To its end: a result with rows left keeps the connection busy.
    ((number,),) = result.fetchall()
    return int(number)
