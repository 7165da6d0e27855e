"""Many stalled readers at once: what their queries hold stays within the database's budget."""

from __future__ import annotations

from pathlib import Path

import anyio

import streamq
from tests.must.watch import open_jobs, resident_bytes

QUERIES = 200
BUDGET_BYTES = 256 << 20


def test_memory_of_many_queries_is_bounded(big: Path) -> None:
    """What two hundred stalled queries hold in all processes, over both executors, is within the budget, and they all have rows to read."""

    async def stall() -> None:
        async with streamq.connect(workers=2, target_partitions=4, memory_bytes=BUDGET_BYTES) as db:
            await db.register("big", big)
            for executor in ("thread", "process"):
                await db.fetch(f"SELECT count(*) AS c FROM big WITH (executor = '{executor}')")
            before = await resident_bytes(db)
            streams = [db.query(f"SELECT * FROM big WITH (executor = '{('thread', 'process')[n % 2]}')") for n in range(QUERIES)]
            try:
                for stream in streams:
                    assert (await anext(stream)).num_rows
                assert await resident_bytes(db) - before <= BUDGET_BYTES
            finally:
                for stream in streams:
                    await stream.aclose()
            assert (await db.queries(), await open_jobs(db)) == ((), 0)

    anyio.run(stall)
