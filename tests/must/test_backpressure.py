"""A reader that stalls stops the work behind it: memory stays where it was, and others are not held up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import streamq
from tests.must.conftest import BIG_ROWS as ROWS
from tests.must.watch import open_jobs, resident_bytes

pytestmark = [pytest.mark.anyio, pytest.mark.by_turns]
SLACK_BYTES = 32 << 20
SCAN = "SELECT * FROM big"
OTHER = "SELECT count(*) AS c, sum(a) AS s, max(label) AS m FROM big"


@pytest.fixture(scope="module")
async def wide(executor: str, anyio_backend: object, big: Path) -> AsyncIterator[streamq.Database]:
    """A database with two workers over the big file."""
    async with streamq.connect(executor=executor, workers=2, target_partitions=8) as db:
        await db.register("big", big)
        yield db


async def test_memory_is_flat_under_a_stalled_reader(wide: streamq.Database) -> None:
    """While a reader stalls, all processes together stay within 32 MB of where they were after its first batches."""
    await wide.fetch(OTHER)
    async with wide.query(SCAN, batch_rows=8_192) as stalled:
        for _ in range(16):
            await anext(stalled)
        await wide.fetch(OTHER)
        before = await resident_bytes(wide)
        # Whole scans beside it give the stalled query's tasks more than enough turns to run ahead, if they could.
        for _ in range(4):
            await wide.fetch(OTHER)
        assert await resident_bytes(wide) - before <= SLACK_BYTES
        statistics = await stalled.statistics()
        assert statistics.rows_done < ROWS // 2
        assert statistics.channel_bytes <= SLACK_BYTES


async def test_stalled_reader_gets_the_rest(wide: streamq.Database) -> None:
    """What a stalled reader takes up again is the whole answer."""
    async with wide.query("SELECT a FROM big", batch_rows=8_192) as stalled:
        total = rows = 0
        async for batch in stalled:
            rows += batch.num_rows
            total += sum(batch.column(0).to_numpy())
            if rows == 10 * 8_192:
                await wide.fetch(OTHER)
        assert (rows, total) == (ROWS, ROWS * (ROWS - 1) // 2)


async def test_stalled_readers_do_not_hold_workers(wide: streamq.Database) -> None:
    """With more stalled readers than workers, another query is answered."""
    stalled = [wide.query(SCAN, batch_rows=1_024) for _ in range(6)]
    try:
        for stream in stalled:
            await anext(stream)
        assert (await wide.fetch(OTHER))["c"].to_pylist() == [ROWS]
    finally:
        for stream in stalled:
            await stream.aclose()
    assert await open_jobs(wide) == 0


async def test_limit_stops_the_scan(wide: streamq.Database) -> None:
    """A satisfied LIMIT ends the work behind it: most row groups are never read."""
    async with wide.query(f"{SCAN} LIMIT 10") as stream:
        assert (await stream.read_all()).num_rows == 10
        assert (await stream.statistics()).rows_done < ROWS // 2
