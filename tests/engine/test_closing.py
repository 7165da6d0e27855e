"""What the end of a database is to all who are at work in it."""

from __future__ import annotations

import anyio
import pyarrow as pa
import pytest

import streamq


@pytest.mark.usefixtures("no_residue")
def test_closing_the_database_ends_all_views() -> None:
    """Whatever they do, and whoever reads, follows or waits for them; nothing is left."""
    for backend in ("asyncio", "trio"):
        anyio.run(_close_amid_everything, backend=backend)


async def _close_amid_everything() -> None:
    outcomes: list[str] = []

    async def wait_for_end(db: streamq.Database, sql: str) -> None:
        try:
            while True:
                await db.fetch(sql)
        except streamq.StreamqError as error:
            outcomes.append(type(error).__name__)

    async with anyio.create_task_group() as tasks:
        async with streamq.connect(workers=2, executor="thread") as db:
            await db.execute("CREATE SOURCE s (k BIGINT, n BIGINT)")
            await db.execute("CREATE MATERIALIZED VIEW a AS SELECT k, sum(n) AS n FROM s GROUP BY k")
            await db.execute("CREATE MATERIALIZED VIEW b AS SELECT k, n, row_number() OVER (ORDER BY n, k) AS r FROM a")
            follower = db.query("SELECT * FROM b EMIT CHANGES")
            await follower.start()
            for _ in range(3):
                tasks.start_soon(wait_for_end, db, "SELECT * FROM a, b")
            for start in range(0, 50_000, 10_000):
                await db.insert("s", pa.table({"k": range(start, start + 10_000), "n": range(10_000)}))
        with pytest.raises(streamq.QueryCancelled):
            await follower.read_all()
        await follower.aclose()
    assert set(outcomes) <= {"StreamClosed", "QueryCancelled"}
    assert len(outcomes) == 3
