"""The law for continuous queries: after every epoch, the changes so far fold to DuckDB's answer over the rows consumed so far.

A `Story` is what happens to the relations, and when the query starts to follow. `follow` lets it happen, reads the query
epoch by epoch, and compares after each one. Sources are written to without waiting, so epochs cut their rows anywhere, and
`progress.positions` says where; a table is only written to when everything before has been consumed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, TypeVarTuple

import anyio
import duckdb
import pyarrow as pa
from hypothesis import strategies as st

import streamq
from tests.law.engine import PATIENCE_S
from tests.law.law import Query, Row, bag_differences, connect_oracle, rows_of, tolerance_of
from tests.law.reading import Reader, Way, ways
from tests.law.relations import ENDLESS, TYPES, Relation

__all__ = ["Collector", "Fold", "Follower", "Past", "Reading", "Story", "Way", "Write", "follow", "stories", "ways"]
Args = TypeVarTuple("Args")


@dataclass(frozen=True, slots=True)
class Write:
    """One write: rows that are inserted (into a table: upserted), or ids whose rows are deleted from a table."""

    relation: str
    rows: pa.Table | None = None
    deleted: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Story:
    """The relations, the writes to them in order, and how many of these happen before the query starts."""

    relations: tuple[Relation, ...]
    writes: tuple[Write, ...]
    before: int

    def __repr__(self) -> str:
        lines = [repr(relation) for relation in self.relations]
        lines += [f"{w.relation}: {'-' + str(w.deleted) if w.rows is None else w.rows.to_pylist()}" for w in self.writes]
        return "\n".join([*lines, f"{self.before} before the start"])


@st.composite
def stories(draw: st.DrawFn, relations: Sequence[Relation]) -> Story:
    """Cut the rows into writes, change and delete rows of tables, and mix the writes of all relations."""
    queues = [_writes(draw, relation) for relation in relations]
    writes: list[Write] = []
    while any(queues):
        queue = draw(st.sampled_from([queue for queue in queues if queue]))
        writes.append(queue.pop(0))
    return Story(tuple(relations), tuple(writes), draw(st.integers(0, len(writes))))


def _writes(draw: st.DrawFn, relation: Relation) -> list[Write]:
    if relation.hold not in ENDLESS:
        return []
    writes = [Write(relation.name, piece) for piece in relation.pieces if piece.num_rows]
    if relation.hold == "table":
        for _ in range(draw(st.integers(0, 4)) if relation.rows.num_rows else 0):
            ids = tuple(draw(st.lists(st.integers(0, relation.rows.num_rows - 1), min_size=1, max_size=5, unique=True)))
            change = Write(relation.name, deleted=ids) if draw(st.booleans()) else Write(relation.name, _rows(draw, relation, ids))
            writes.insert(draw(st.integers(0, len(writes))), change)
    return writes


def _rows(draw: st.DrawFn, relation: Relation, ids: Sequence[int]) -> pa.Table:
    first, *others = relation.columns
    values: dict[str, Any] = {first.name: list(ids)}
    for column in others:
        kind = TYPES[column.kind]
        values[column.name] = draw(st.lists(st.one_of(st.none(), kind.values), min_size=len(ids), max_size=len(ids)))
    return pa.table({field.name: pa.array(values[field.name], field.type) for field in relation.rows.schema})


def for_following(query: Query) -> Query:
    """Take away an ORDER BY that no LIMIT follows: the answer of a continuous query has no order."""
    if query.order and query.unlimited is None:
        return replace(query, sql=query.sql.rpartition(" ORDER BY ")[0], order=())
    return query


def emitting(sql: str, what: Literal["CHANGES", "FINAL"]) -> str:
    """Make a query continuous, if it does not say itself how it emits; its options stay behind EMIT."""
    if " EMIT " in sql:
        return sql
    select, options, rest = sql.partition(" WITH (lateness")
    return f"{select} EMIT {what}{options}{rest}"


# Folding


class Fold:
    """The answer so far, made of the changes alone. Fails on a change that does not fit what is there."""

    def __init__(self, changelog: Literal["append", "upsert", "retract"], key: tuple[str, ...] | None, schema: pa.Schema) -> None:
        self.changelog = changelog
        self.names = [name for name in schema.names if changelog == "append" or name != "_op"]
        self.places = tuple(self.names.index(name) for name in key or ()) if changelog == "upsert" else ()
        self.rows: Counter[Row] = Counter()
        self.by_key: dict[Row, Row] = {}
        self.added_in_epoch = False

    def take(self, batch: pa.RecordBatch) -> None:
        """Fold a batch in."""
        table = pa.Table.from_batches([batch])
        rows = rows_of(table.select(self.names))
        if self.changelog == "append":
            self.rows.update(rows)
            return
        for op, row in zip(table.column("_op").to_pylist(), rows, strict=True):
            self._change(op, row)

    def end_epoch(self) -> None:
        """Let deletes come again."""
        self.added_in_epoch = False

    def _change(self, op: str, row: Row) -> None:
        if op == "delete":
            assert not self.added_in_epoch, "a delete comes after an insert or update of its epoch"
            assert self.rows[row] > 0, f"{row} is deleted, but is not there"
            self.rows[row] -= 1
        else:
            self.added_in_epoch = True
        if self.changelog == "upsert":
            self._change_by_key(op, row)
        else:
            assert op in ("insert", "delete"), op
        if op != "delete":
            self.rows[row] += 1

    def _change_by_key(self, op: str, row: Row) -> None:
        key = tuple(row[place] for place in self.places)
        old = self.by_key.pop(key, None)
        match op:
            case "insert":
                assert old is None, f"{row} is inserted, but {old} is there"
            case "update":
                assert old is not None, f"{row} is updated, but nothing is there"
                assert old != row, f"{row} is updated to itself"
                self.rows[old] -= 1
            case "delete":
                assert old == row, f"{row} is deleted, but {old} is there"
                return
            case _:
                raise AssertionError(op)
        self.by_key[key] = row

    def answer(self) -> list[Row]:
        """Give the rows that are there."""
        return list(self.rows.elements())


def unordered_differences(
    answer: list[Row], right: list[Row], query: Query, oracle: duckdb.DuckDBPyConnection, tolerance: float
) -> list[str]:
    """Say how an answer that has no order differs from DuckDB's; empty if it is right."""
    if len(answer) != len(right):
        return [f"{answer} is not {right}"]
    if query.unlimited is None:
        return bag_differences(answer, right, tolerance)
    if surplus := Counter(answer) - Counter(rows_of(oracle.sql(query.unlimited).to_arrow_table())):
        return [f"not in the unlimited answer: {surplus}"]

    def ordered(rows: list[Row]) -> list[Row]:
        return [tuple(row[place] for place in query.order) for row in rows]

    return bag_differences(ordered(answer), ordered(right))


# Following


class Past:
    """What has been written, so that the rows up to any position can be given again."""

    def __init__(self, relations: Sequence[Relation]) -> None:
        self.relations = {relation.name: relation for relation in relations}
        self.pieces: dict[str, list[pa.Table]] = {relation.name: [relation.rows.slice(0, 0)] for relation in relations}
        self.versions: dict[str, dict[int, tuple[Any, ...]]] = {r.name: {} for r in relations if r.hold == "table"}

    def write(self, write: Write) -> bool:
        """Remember a write; tells whether it changed anything."""
        if write.relation not in self.versions:
            assert write.rows is not None
            self.pieces[write.relation].append(write.rows)
            return True
        version = self.versions[write.relation]
        before = dict(version)
        for gone in write.deleted:
            version.pop(gone, None)
        if write.rows is not None:
            version.update((row[0], row) for row in zip(*(column.to_pylist() for column in write.rows.columns), strict=True))
        return {key: repr(row) for key, row in before.items()} != {key: repr(row) for key, row in version.items()}

    def written(self, name: str) -> int:
        """How many rows have been written to a source, or are in a relation that is not written to."""
        relation = self.relations[name]
        return sum(piece.num_rows for piece in self.pieces[name]) if relation.hold in ENDLESS else relation.rows.num_rows

    def rows(self, name: str, position: int) -> pa.Table:
        """Give a relation as it was when the query had read so far; a table as it is now."""
        relation = self.relations[name]
        schema = relation.rows.schema
        if name in self.versions:
            columns = list(zip(*self.versions[name].values(), strict=True)) or [()] * len(schema)
            return pa.table([pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema)
        rows = pa.concat_tables(self.pieces[name]) if relation.hold in ENDLESS else relation.rows
        return rows.slice(0, position)


class Follower(Reader):
    """Compares a continuous query with DuckDB after each epoch."""

    def __init__(self, db: streamq.Database, query: Query, past: Past, way: Way, magnitude: float = 0.0) -> None:
        super().__init__(db, emitting(query.sql, "CHANGES"), way)
        self.query = query
        self.past = past
        self.fold: Fold
        self.tolerance = tolerance_of(query, magnitude)
        self.positions: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        self.fold = Fold(self.stream.changelog, self.stream.key, self.stream.schema)
        return self

    def take(self, batch: pa.RecordBatch) -> None:
        """Fold a batch in."""
        self.fold.take(batch)

    def end_epoch(self) -> None:
        """Compare."""
        self.fold.end_epoch()
        self.positions = dict(self.stream.progress.positions)
        self.compare()

    def compare(self) -> None:
        """Fail unless the fold is DuckDB's answer over what has been consumed."""
        sql = self.query.oracle or self.query.sql
        rows = {name: self.past.rows(name, self.positions.get(name, 0)) for name in self.past.relations if name in _words(sql)}
        with connect_oracle(rows) as oracle:
            expected = oracle.sql(sql).to_arrow_table()
            shown = [field for field in self.stream.schema if field.name in self.fold.names]
            assert [(field.name, field.type) for field in shown] == [(field.name, field.type) for field in expected.schema]
            wrong = unordered_differences(self.fold.answer(), rows_of(expected), self.query, oracle, self.tolerance)
        assert not wrong, f"epoch {self.stream.progress.epoch} at {self.positions}: {wrong}"

    def behind(self) -> list[str]:
        """Name the sources and bounded relations that the query reads and has not consumed."""
        return [
            name
            for name in self.past.relations
            if name in self.positions and name not in self.past.versions and self.positions[name] < self.past.written(name)
        ]

    async def catch_up(self) -> None:
        """Read until everything written has been consumed."""
        while not self.ended and (not self.epochs or self.behind() or self.restarts_next):
            await self.step()

    async def see(self, table: str) -> None:
        """Read until a write to a table has been consumed. The query must have consumed everything before it."""
        before = self.positions.get(table)
        while not self.ended and table in self.positions and self.positions[table] == before:
            await self.epoch()

    async def finish(self) -> None:
        """Read to the end, unless the query reads a table, which has none."""
        while not self.ended and not any(name in self.past.versions for name in self.positions):
            await self.step()


async def write_one(db: streamq.Database, past: Past, write: Write) -> bool:
    if write.rows is not None:
        await db.insert(write.relation, write.rows)
    else:
        key = past.relations[write.relation].columns[0].name
        await db.execute(f"DELETE FROM {write.relation} WHERE {key} IN ({', '.join(map(str, write.deleted))})")
    return past.write(write)


class Collector(Reader):
    """Collects the rows that are final, and compares with DuckDB at the end."""

    def __init__(self, db: streamq.Database, query: Query, past: Past, way: Way) -> None:
        super().__init__(db, emitting(query.sql, "FINAL"), way)
        self.query = query
        self.past = past
        self.rows: list[Row] = []

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        assert self.stream.changelog == "append"
        return self

    def take(self, batch: pa.RecordBatch) -> None:
        """Add a batch."""
        self.rows += rows_of(pa.Table.from_batches([batch]))

    async def finish(self) -> None:
        """Read to the end, and fail unless all rows are DuckDB's answer over everything."""
        await super().finish()
        sql, past = self.query.oracle or self.query.sql, self.past
        with connect_oracle({name: past.rows(name, past.written(name)) for name in past.relations if name in _words(sql)}) as oracle:
            right = rows_of(oracle.sql(sql).to_arrow_table())
        wrong = bag_differences(self.rows, right)
        assert not wrong, wrong


Reading = Callable[[Past], Reader]
"""Makes the reader of a query, which has not started."""


async def follow(db: streamq.Database, story: Story, *readings: Reading) -> list[Exception | None]:
    """Let the story happen and queries be read through it, all at once; gives where each went wrong, if it did."""
    past = Past(story.relations)
    for write in story.writes[: story.before]:
        await write_one(db, past, write)
    with anyio.fail_after(PATIENCE_S):
        async with AsyncExitStack() as stack:
            followed = [_Followed(reading(past)) for reading in readings]
            for one in followed:
                await one.attempt(stack.enter_async_context, one.reader)
                await one.attempt(one.reader.catch_up)
            for write in story.writes[story.before :]:
                await _happen(db, past, write, followed)
            for one in followed:
                await one.attempt(one.reader.catch_up)
            for relation in story.relations:
                if relation.hold in ("source", "partitioned"):
                    await db.finish(relation.name)
            for one in followed:
                await one.attempt(one.reader.finish)
    return [one.error for one in followed]


class _Followed:
    """A reader, up to its first error."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.error: Exception | None = None

    async def attempt(self, step: Callable[[*Args], Awaitable[object]], *args: *Args) -> None:
        """Take a step, unless one went wrong before."""
        if self.error is None:
            try:
                await step(*args)
            except (AssertionError, streamq.StreamqError) as error:
                self.error = error


async def _happen(db: streamq.Database, past: Past, write: Write, followed: Sequence[_Followed]) -> None:
    to_table = write.relation in past.versions
    if to_table:
        for one in followed:
            await one.attempt(one.reader.catch_up)
    changed = await write_one(db, past, write)
    if to_table and changed:
        for one in followed:
            await one.attempt(one.reader.see, write.relation)


def _words(sql: str) -> set[str]:
    """Give the words of a text, the names of relations among them."""
    return set(re.findall(r"\w+", sql))
