"""The catalog: which relations a database has, what depends on what, and cuts over several of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from types import MappingProxyType
from typing import TypeVar

import pyarrow as pa

from streamq.config import Config
from streamq.errors import BindError, SourceError
from streamq.plan.relations import Relation, RelationKind
from streamq.sql.catalog import CatalogView
from streamq.sql.statements import CreateSource, CreateTable, Delete, Parameters, Update
from streamq.storage.bounded_feed import BoundedFeed
from streamq.storage.commits import Commits
from streamq.storage.cut import Cut
from streamq.storage.dependencies import Circle, dependents, find_circle
from streamq.storage.entries import Entry, RelationState, View, how_to_drop, info_of, kind_of, needs_of, said, state_of
from streamq.storage.feeds import Feed, Wanted
from streamq.storage.insertion import Insertion, write
from streamq.storage.rows import InsertResult
from streamq.storage.session import private_session
from streamq.storage.source import PushedSource
from streamq.storage.stored import StoredRows, TableStore
from streamq.storage.table import KeyedTable
from streamq.storage.text import did_you_mean
from streamq.storage.view import MaterializedView

Key = TypeVar("Key")


class Catalog:
    """Relations and views by name; case does not matter. Every method may be called from any thread."""

    def __init__(self, config: Config | None = None) -> None:
        self.commits = Commits()
        self._config = config or Config()
        self._tables = TableStore(self.commits)
        self._entries: dict[str, Entry] = {}
        self._infos: CatalogView | None = None

    @property
    def sequence(self) -> int:
        """The number of the last write to any relation of the database."""
        return self.commits.sequence

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._entries

    def add(self, entry: Entry, *, if_not_exists: bool = False) -> bool:
        """Add a relation or view; tells whether it was added.

        Raises:
            BindError: the name is taken (unless `if_not_exists`).
        """
        with self.commits.cut():
            if entry.name in self:
                if if_not_exists:
                    return False
                self._check_free(entry.name)
            if isinstance(entry, MaterializedView) and (gone := sorted(entry.needs - self._entries.keys())):
                raise BindError(self._unknown(gone[0]))
            self._set(entry)
            return True

    def replace(self, entry: Entry) -> Entry | None:
        """Add a relation or view in place of one of the same kind and name; gives what it replaces.

        Raises:
            BindError: the name belongs to something of another kind, or the view would read itself.
        """
        with self.commits.cut():
            old = self._entries.get(entry.name.lower())
            if old is not None and kind_of(old) != kind_of(entry):
                raise BindError(f"{old.name!r} is a {said(old)}, not a {said(entry)}", hint="drop it first, or use another name")
            if kept := [name for name in self.dependents(entry.name) if isinstance(self._entries[name], MaterializedView)]:
                raise BindError(
                    f"{entry.name!r} is read by the materialized view {kept[0]!r}, which keeps the answer to what it was created with",
                    hint="drop the materialized view first, and create it again",
                )
            if isinstance(entry, View) and {entry.name.lower(), *self.dependents(entry.name)} & needs_of(entry):
                raise BindError(f"the view {entry.name!r} would read itself")
            self._set(entry)
            return old

    def drop(
        self,
        name: str,
        *,
        kind: RelationKind | None = None,
        if_exists: bool = False,
        cascade: bool = False,
    ) -> tuple[Entry, ...]:
        """Take a relation or view away, and with `cascade` the views that read it; gives what is gone, dependents first.

        Raises:
            BindError: it does not exist (unless `if_exists`), is not of `kind`, or is read by views.
        """
        # In this order: a write that is running has its table until it ends.
        with self._tables.writing, self.commits.cut():
            return self._drop(name, kind, if_exists, cascade)

    def _drop(self, name: str, kind: RelationKind | None, if_exists: bool, cascade: bool) -> tuple[Entry, ...]:
        if if_exists and name not in self:
            return ()
        entry = self.entry(name)
        if kind is not None and kind_of(entry) != kind:
            raise BindError(f"{entry.name!r} is a {said(entry)}, not a {kind}", hint=how_to_drop(entry))
        dependents = self.dependents(name)
        if dependents and not cascade:
            names = ", ".join(self._entries[dependent].name for dependent in dependents)
            raise BindError(f"{entry.name!r} is read by {names}", hint="drop these views first, or use CASCADE")
        self._infos = None
        keys = (*reversed(dependents), entry.name.lower())
        gone = tuple(self._entries[key] for key in keys)
        self._entries = {key: kept for key, kept in self._entries.items() if key not in keys}
        for relation in gone:
            if isinstance(relation, PushedSource | StoredRows):
                relation.drop()
        return gone

    def create_source(self, statement: CreateSource) -> bool:
        """Run CREATE SOURCE; tells whether the source was made (not, if it exists and the statement allows that).

        Raises:
            BindError: the name is taken, or a type, key column or option is wrong.
            UnsupportedError: a connector that does not exist.
        """
        with self.commits.cut():
            if statement.if_not_exists and statement.name in self:
                return False
            self._check_free(statement.name)
            config = self._config
            with private_session() as session:
                source = PushedSource.create(
                    statement, session, commits=self.commits, shards=config.target_partitions, max_bytes=config.max_source_bytes
                )
            return self.add(source)

    def create_table(self, statement: CreateTable) -> bool:
        """Run CREATE TABLE; tells whether the table was made (not, if it exists and the statement allows that).

        Raises:
            BindError: the name is taken, a type or key column is wrong, or there is no key.
        """
        with self.commits.cut():
            if statement.if_not_exists and statement.name in self:
                return False
            self._check_free(statement.name)
            return self.add(KeyedTable.create(statement, store=self._tables))

    def materialized(
        self,
        name: str,
        schema: pa.Schema,
        *,
        sql: str,
        key: tuple[str, ...] | None,
        reads: frozenset[str],
        late_rows_into: str | None = None,
    ) -> MaterializedView:
        """Make an empty materialized view, with names in lower case. Who runs its query adds it here once that is open, and fills it.

        Raises:
            BindError: the name is taken, or a column cannot be kept.
        """
        with self.commits.cut():
            self._check_free(name)
            return MaterializedView(name, schema, sql=sql, key=key, reads=reads, late_rows_into=late_rows_into, store=self._tables)

    def discard(self, view: MaterializedView) -> None:
        """Give the memory of a materialized view back that was never added."""
        with self._tables.writing:
            view.drop()

    def insert(self, name: str, data: object) -> InsertResult:
        """Insert rows, of any form that `rows.table_of` takes, into a source or table. The calling thread waits for room where a
        retention would have to drop what a running query needs.

        Raises:
            SourceError: there is no such source or table, or the rows do not fit.
            ResourceLimit: the source is full.
        """
        return write(self.insertion(name, data))

    def insertion(self, name: str, data: object) -> Insertion:
        """Convert rows for a source or table, to be written as soon as there is room: `insert` for those who wait without a thread.

        Raises:
            SourceError: there is no such source or table, or the rows do not fit.
        """
        return self._writable(name).insertion(data)

    def insertion_columns(self, name: str, columns: Sequence[str], table: pa.Table) -> Insertion:
        """Convert the rows of a query for the columns that an INSERT names, in this order; without names for all columns.

        Raises:
            BindError: as for `check_insert`.
            SourceError: as for `insertion`.
        """
        names = self.check_insert(name, columns, table.num_columns)
        return self.insertion(name, table.rename_columns(names))

    def check_insert(self, name: str, columns: Sequence[str], given: int, *, sql: str | None = None) -> list[str]:
        """Name the columns into which an INSERT of `given` columns writes.

        Raises:
            BindError: nothing that can be written to has this name, or a column does not exist or is named twice, or there are more
                or fewer columns than names.
        """
        try:
            relation = self._writable(name)
        except SourceError as error:
            raise BindError(str(error), sql=sql) from None
        known = {column.lower() for column in relation.schema.names}
        names = list(columns or relation.schema.names)
        for number, column in enumerate(names):
            if column.lower() not in known:
                raise BindError(
                    f"{relation.name} has no column {column!r}{did_you_mean(column, relation.schema.names)}",
                    sql=sql,
                    hint=f"columns: {', '.join(relation.schema.names)}",
                )
            if column.lower() in {earlier.lower() for earlier in names[:number]}:
                raise BindError(f"INSERT INTO {relation.name} names the column {column!r} twice", sql=sql)
        if len(names) != given:
            raise BindError(
                f"INSERT INTO {relation.name} gives {given} column{'s' * (given != 1)} for {len(names)}: {', '.join(names)}",
                sql=sql,
            )
        return names

    def update(self, statement: Update, parameters: Parameters = None) -> int:
        """Run UPDATE; gives the number of rows that it changed. Raises as `KeyedTable.update`, BindError if it is no table."""
        return self._table(statement.table).update(statement, parameters)

    def delete(self, statement: Delete, parameters: Parameters = None) -> int:
        """Run DELETE; gives the number of rows that are gone. Raises as `KeyedTable.delete`, BindError if it is no table."""
        return self._table(statement.table).delete(statement, parameters)

    def finish(self, name: str) -> None:
        """End a pushed source.

        Raises:
            SourceError: there is no such source.
        """
        entry = self._existing(name)
        if not isinstance(entry, PushedSource):
            raise SourceError(f"{entry.name!r} is a {said(entry)}; only a source that rows are pushed into can be finished")
        entry.finish()

    def remove(self, name: str) -> None:
        """Forget a registered relation. What was read from it before stays readable.

        Raises:
            SourceError: there is no such registered relation, or views read it.
        """
        with self._tables.writing, self.commits.cut():
            entry = self._existing(name)
            if kind_of(entry) != "registered":
                raise SourceError(f"{entry.name!r} is a {said(entry)} and was not registered; {how_to_drop(entry)}")
            if dependents := self.dependents(name):
                raise SourceError(f"{entry.name!r} is read by {', '.join(dependents)}; drop these views first")
            self._drop(name, None, False, False)

    def close(self) -> None:
        """Give the memory of all tables back, and refuse inserts that wait for room. Snapshots stay readable."""
        for relation in self.relations():
            if isinstance(relation, PushedSource | KeyedTable):
                relation.close()
        self._tables.close()

    def statistics(self) -> tuple[RelationState, ...]:
        """Tell what every relation holds."""
        return tuple(state_of(relation) for relation in self.relations())

    def dependents(self, name: str) -> tuple[str, ...]:
        """Give the views (lower case) that read `name`, directly or through others, each behind what it reads."""
        return dependents(self._entries, name)

    def find_circle(self, reads: Iterable[str], late_rows_into: str | None) -> Circle | None:
        """Look for a circle of waiting in which a continuous query would stand."""
        with self.commits.cut():
            return find_circle(self._entries, reads, late_rows_into)

    def entry(self, name: str) -> Entry:
        """Give what has this name.

        Raises:
            BindError: nothing has.
        """
        found = self._entries.get(name.lower())
        if found is None:
            raise BindError(self._unknown(name))
        return found

    def relation(self, name: str) -> Relation:
        """Give the relation, which holds or reads rows itself, that has this name.

        Raises:
            BindError: nothing has, or it is a view.
        """
        found = self.entry(name)
        if isinstance(found, View):
            raise BindError(f"{found.name!r} is a view, which holds no rows of its own")
        return found

    def infos(self) -> CatalogView:
        """Give what binding needs, of everything that exists now; later changes do not show in it."""
        with self.commits.cut():
            if self._infos is None:
                self._infos = MappingProxyType({key: info_of(entry) for key, entry in self._entries.items()})
            return self._infos

    def relations(self) -> tuple[Relation, ...]:
        """Give every relation that is not a view, in order of creation."""
        return tuple(entry for entry in self._entries.values() if not isinstance(entry, View))

    def cut(self, names: Iterable[str], max_staleness_s: float | None = None) -> Cut:
        """Take one cut over several relations, by the names as given: no write is in one of them and not in another. See `Cut` for
        `max_staleness_s`.

        Raises:
            BindError: a name is unknown or a view's.
            StreamqError: a materialized view has failed.
        """
        with self.commits.cut():
            return Cut({name: self.relation(name) for name in names}, self.commits, max_staleness_s)

    def open_feeds(self, wanted: Mapping[Key, Wanted]) -> Mapping[Key, Feed]:
        """Open feeds at one cut of all relations: the history of each ends at the same write, and every later one is in its feed.

        Waits for a write to a table or materialized view that is running, if one is among them.

        Raises:
            BindError: a name is unknown or a view's.
        """
        with ExitStack() as locks:
            if any(isinstance(self.relation(scan.relation), StoredRows) for scan in wanted.values()):
                locks.enter_context(self._tables.writing)
            locks.enter_context(self.commits.cut())
            opened: dict[Key, Feed] = {}
            try:
                for key, scan in wanted.items():
                    opened[key] = _open(self.relation(scan.relation), scan)
            except BaseException:
                for feed in opened.values():
                    feed.close()
                raise
            return opened

    def _set(self, entry: Entry) -> None:
        # Never changed in place: who only looks takes no lock.
        self._entries = {**self._entries, entry.name.lower(): entry}
        self._infos = None

    def _check_free(self, name: str) -> None:
        if name in self:
            kind = said(self._entries[name.lower()])
            raise BindError(f"there is a {kind} named {name!r} already", hint="drop it first, or use another name")

    def _existing(self, name: str) -> Entry:
        found = self._entries.get(name.lower())
        if found is None:
            raise SourceError(self._unknown(name))
        return found

    def _unknown(self, name: str) -> str:
        known = [entry.name for entry in self._entries.values()]
        suggestion = did_you_mean(name, known)
        return f"there is no relation {name!r}" + (suggestion or (f"; there are {', '.join(known)}" if known else ""))

    def _writable(self, name: str) -> PushedSource | KeyedTable:
        entry = self._existing(name)
        if not isinstance(entry, PushedSource | KeyedTable):
            raise SourceError(f"{entry.name!r} is a {said(entry)}, which cannot be written to; insert into a source or a table")
        return entry

    def _table(self, name: str) -> KeyedTable:
        entry = self.entry(name)
        if not isinstance(entry, KeyedTable):
            raise BindError(f"{entry.name!r} is a {said(entry)}", hint="only the rows of a table can be updated or deleted")
        return entry


def _open(relation: Relation, wanted: Wanted) -> Feed:
    if isinstance(relation, PushedSource | StoredRows):
        feed: Feed = relation.follow(wanted.columns, wanted.start)
    else:
        feed = BoundedFeed(relation, wanted.columns, wanted.start)
    try:
        if wanted.after is not None:
            feed.resume(wanted.after)
    except BaseException:
        feed.close()
        raise
    return feed
