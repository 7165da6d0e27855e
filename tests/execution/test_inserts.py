"""Inserts that wait for room: they end with room, with their task, and with the database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import anyio
import anyio.lowlevel
import pytest

from streamq.config import Config
from streamq.errors import StreamClosed
from streamq.execution.inserts import Inserts
from streamq.sql.statements import ColumnDef, CreateSource
from streamq.storage.catalog import Catalog
from streamq.storage.feeds import Feed, Wanted
from streamq.storage.rows import InsertResult

pytestmark = pytest.mark.anyio


@pytest.fixture
async def full() -> AsyncIterator[tuple[Catalog, Feed]]:
    """A source that keeps 10 rows, and a feed that has 20 to take."""
    catalog = Catalog(Config(target_partitions=2))
    catalog.create_source(CreateSource("CREATE SOURCE s …", "s", (ColumnDef("id", "INTEGER"),), None, (), (("retention_rows", 10),), False))
    feed = catalog.open_feeds({"s": Wanted("s", None)})["s"]
    catalog.insert("s", {"id": list(range(20))})
    yield catalog, feed
    feed.close()
    catalog.close()


async def insert(catalog: Catalog, inserts: Inserts) -> InsertResult:
    return await inserts.write(partial(catalog.insertion, "s", {"id": [7]}))


async def until_waiting(limiter: anyio.CapacityLimiter) -> None:
    """Let the insert come so far that it holds no thread."""
    while limiter.borrowed_tokens:
        await anyio.lowlevel.checkpoint()


async def test_an_insert_waits_until_the_feed_has_taken(full: tuple[Catalog, Feed]) -> None:
    """It returns once its row is in, and while it waits it holds no thread."""
    catalog, feed = full
    limiter = anyio.CapacityLimiter(1)
    inserts = Inserts(limiter, lambda: None)
    results: list[InsertResult] = []

    async def run() -> None:
        results.append(await insert(catalog, inserts))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await anyio.lowlevel.checkpoint()
            await until_waiting(limiter)
            while not inserts.statistics().waited_s:
                await anyio.lowlevel.checkpoint()
            assert results == []
            assert inserts.statistics().inserts == 0
            feed.take(100, catalog.sequence)
    assert results == [InsertResult(1, 20, 20)]
    counted = inserts.statistics()
    assert (counted.inserts, counted.rows) == (1, 1)
    assert counted.bytes >= 4


async def test_a_cancelled_insert_does_not_write(full: tuple[Catalog, Feed]) -> None:
    """Cancelling ends the wait at once, and the row never comes."""
    catalog, feed = full
    limiter = anyio.CapacityLimiter(1)
    inserts = Inserts(limiter, lambda: None)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(insert, catalog, inserts)
        await anyio.lowlevel.checkpoint()
        await until_waiting(limiter)
        tasks.cancel_scope.cancel()
    feed.take(100, catalog.sequence)
    assert feed.next_sequence is None


async def test_closing_ends_a_waiting_insert(full: tuple[Catalog, Feed]) -> None:
    """A database that closes refuses the rows that still wait."""
    catalog, _ = full
    limiter = anyio.CapacityLimiter(1)
    inserts = Inserts(limiter, lambda: None)

    async def run() -> None:
        with pytest.raises(StreamClosed):
            await insert(catalog, inserts)

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await anyio.lowlevel.checkpoint()
            await until_waiting(limiter)
            catalog.close()
