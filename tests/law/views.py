"""The law for materialized views: after every write a view is DuckDB's answer, and what its followers fold is too.

A write is in a view wholly or not at all, whatever the epochs in which it was read: each fold is the answer after one of the writes.
"""

from __future__ import annotations

from dataclasses import dataclass

import anyio
import pyarrow as pa
from hypothesis import strategies as st

import streamq
from tests.law.continuous import Fold, Past, Story, Way, unordered_differences, write_one
from tests.law.engine import PATIENCE_S
from tests.law.law import Query, Row, connect_oracle, rows_of, tolerance_of

VIEW = "kept"
ABOVE = "above"


@dataclass(frozen=True, slots=True)
class Reading:
    """How often a view is read: after every so many writes, by snapshots or only by who follows it; whether another view is above it."""

    every: int = 1
    snapshots: bool = True
    above: bool = False


readings = st.builds(Reading, st.integers(1, 4), st.booleans(), st.booleans())


class ViewLaw:
    """A query that is kept as a view, what was written, and how DuckDB answered after each write."""

    def __init__(self, db: streamq.Database, query: Query, past: Past, magnitude: float) -> None:
        self.db = db
        self.query = query
        self.past = past
        self.tolerance = tolerance_of(query, magnitude)
        self.tables: list[dict[str, pa.Table]] = []
        self.schema = pa.schema([])
        self.remember()

    def remember(self) -> None:
        """Note the relations as they are now."""
        tables = {name: self.past.rows(name, self.past.written(name)) for name in self.past.relations}
        with connect_oracle(tables) as oracle:
            self.schema = oracle.sql(self.query.oracle or self.query.sql).limit(0).to_arrow_table().schema
        self.tables.append(tables)

    def wrong(self, answer: list[Row], place: int = -1) -> list[str]:
        """Say how rows differ from the answer after a write."""
        with connect_oracle(self.tables[place]) as oracle:
            right = rows_of(oracle.sql(self.query.oracle or self.query.sql).to_arrow_table())
            return unordered_differences(answer, right, self.query, oracle, self.tolerance)

    async def read(self, above: bool) -> list[Row]:
        """Read the view, and fail unless it is the answer, and the view above it what that makes of it."""
        table = await self.db.fetch(f"SELECT * FROM {VIEW}")
        assert [(field.name, field.type) for field in table.schema] == [(field.name, field.type) for field in self.schema]
        rows = rows_of(table)
        assert not (wrong := self.wrong(rows)), f"the view after {len(self.tables) - 1} writes: {wrong}"
        if above:
            both = await self.db.fetch(f"SELECT (SELECT count(*) FROM {VIEW}) AS here, (SELECT n FROM {ABOVE}) AS above")
            assert both.to_pylist() == [{"here": len(rows), "above": len(rows)}]
        return rows


async def keep(db: streamq.Database, query: Query, story: Story, way: Way, magnitude: float, reading: Reading) -> None:
    """Let the story happen, with the query as a view from some place on, and compare."""
    past = Past(story.relations)
    for write in story.writes[: story.before]:
        await write_one(db, past, write)
    law = ViewLaw(db, query, past, magnitude)
    await db.execute(f"CREATE MATERIALIZED VIEW {VIEW} AS {query.sql}")
    try:
        with anyio.fail_after(PATIENCE_S):
            if reading.above:
                await db.execute(f"CREATE MATERIALIZED VIEW {ABOVE} AS SELECT count(*) AS n FROM {VIEW}")
            await law.read(reading.above)
            sql = f"SELECT * FROM {VIEW} EMIT CHANGES"
            async with db.query(sql, epoch_rows=way.epoch_rows, partitions=way.partitions, batch_rows=way.batch_rows) as stream:
                await stream.start()
                fold = Fold(stream.changelog, stream.key, stream.schema)
                seen = len(law.tables) - 1
                for number, write in enumerate(story.writes[story.before :], 1):
                    await write_one(db, past, write)
                    law.remember()
                    if reading.snapshots:
                        await law.read(reading.above)
                    if number % reading.every == 0:
                        seen = await _catch_up(stream, fold, law, seen)
                await _catch_up(stream, fold, law, seen)
            await law.read(reading.above)
    finally:
        await db.execute(f"DROP MATERIALIZED VIEW {VIEW} CASCADE")


async def _catch_up(stream: streamq.QueryBatchStream, fold: Fold, law: ViewLaw, seen: int) -> int:
    """Read whole epochs until the fold is the latest answer; each must be an answer that is no older than the one before it."""
    while law.wrong(fold.answer()):
        complete = False
        while not complete:
            batch = await anext(stream)
            fold.take(batch)
            complete = stream.progress.epoch_complete
        fold.end_epoch()
        places = range(seen, len(law.tables))
        found = next((place for place in places if not law.wrong(fold.answer(), place)), None)
        assert found is not None, f"a follower has what was never the answer: {[law.wrong(fold.answer(), place) for place in places]}"
        seen = found
    return seen
