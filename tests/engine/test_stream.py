"""The protocol of `QueryBatchStream`: start, read, end, let go."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from anyio.lowlevel import checkpoint

import streamq
from tests.waiting import pause

pytestmark = [pytest.mark.anyio, pytest.mark.by_turns]
ROWS = 400_000


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "numbers.parquet"
    pq.write_table(pa.table({"n": range(ROWS), "half": np.arange(ROWS) // 2}), path, row_group_size=20_000)
    return path


@pytest.fixture(scope="module")
async def db(executor: str, anyio_backend: object, numbers: Path) -> AsyncIterator[streamq.Database]:
    async with streamq.connect(executor=executor, workers=2, target_partitions=2) as db:
        await db.register("numbers", numbers)
        yield db


async def wait_until_idle(db: streamq.Database) -> None:
    with anyio.fail_after(60):
        while await db.queries():
            await pause()


async def test_a_structured_stream_gives_every_row_once(db: streamq.Database) -> None:
    """Reading to the end gives all rows, in batches of at most `batch_rows`, of the announced schema."""
    async with db.query("SELECT n FROM numbers", batch_rows=10_000) as stream:
        assert stream.schema == pa.schema([("n", pa.int64())])
        seen: list[pa.RecordBatch] = []
        async for batch in stream:
            assert 0 < batch.num_rows <= 10_000
            assert batch.schema == stream.schema
            seen.append(batch)
    assert np.array_equal(np.sort(pa.Table.from_batches(seen)["n"].to_numpy()), np.arange(ROWS))
    assert await db.queries() == ()


async def test_a_detached_stream_starts_with_the_first_read(db: streamq.Database) -> None:
    """Without `async with` nothing runs until the first batch is asked for; read to its end the query is gone."""
    stream = db.query("SELECT count(*) AS c FROM numbers")
    assert await db.queries() == ()
    with pytest.raises(streamq.StreamNotStarted):
        _ = stream.schema
    assert [row async for row in stream.rows()] == [{"c": ROWS}]
    await wait_until_idle(db)


async def test_iterating_a_finished_stream_again_gives_nothing(db: streamq.Database) -> None:
    """After the end a stream stays at its end."""
    async with db.query("SELECT 1 AS one") as stream:
        assert (await stream.read_all()).to_pylist() == [{"one": 1}]
        assert (await stream.read_all()).num_rows == 0


async def test_leaving_the_block_early_aborts(db: streamq.Database) -> None:
    """`break` and the end of the block leave no query behind."""
    async with db.query("SELECT * FROM numbers", batch_rows=1_000) as stream:
        async for _ in stream:
            break
    assert await db.queries() == ()
    with pytest.raises(streamq.StreamClosed):
        await anext(stream)


async def test_an_exception_in_the_block_passes_as_itself(db: streamq.Database) -> None:
    """The user's exception leaves the block and the database unwrapped, and the query is gone."""
    with pytest.raises(KeyError, match="mine"):
        async with db.query("SELECT * FROM numbers", batch_rows=1_000) as stream:
            await anext(stream)
            raise KeyError("mine")
    assert await db.queries() == ()


async def test_an_exception_leaves_connect_as_itself() -> None:
    """`connect()` adds no exception group around the user's exception."""
    with pytest.raises(KeyError, match="mine"):
        async with streamq.connect() as db:
            await db.fetch("SELECT 1")
            raise KeyError("mine")


async def test_cancel_by_id_reaches_the_reader(db: streamq.Database) -> None:
    """Whoever cancels a query by its id, its reader gets QueryCancelled."""
    async with db.query("SELECT * FROM numbers", batch_rows=1_000) as stream:
        await anext(stream)
        assert await db.cancel(stream.query_id)
        assert await db.queries() == ()
        with pytest.raises(streamq.QueryCancelled):
            await anext(stream)
    assert not await db.cancel("no such query")


async def test_aclose_may_be_called_again_and_from_another_task(db: streamq.Database) -> None:
    """A detached stream is closed by any task, more than once."""
    stream = db.query("SELECT * FROM numbers", batch_rows=1_000)
    await anext(stream)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stream.aclose)
        tasks.start_soon(stream.aclose)
    await stream.aclose()
    assert await db.queries() == ()
    with pytest.raises(streamq.StreamClosed):
        await anext(stream)


async def test_closing_a_stream_that_never_started_is_fine(db: streamq.Database) -> None:
    """An unstarted stream is closed without a query."""
    stream = db.query("SELECT nonsense FROM nowhere")
    await stream.aclose()
    with pytest.raises(streamq.StreamClosed):
        await stream.start()


async def test_a_stream_closed_while_it_starts_leaves_no_query(db: streamq.Database) -> None:
    """Who starts a query that another task closes meanwhile gets StreamClosed, and nothing runs."""
    stream = db.query("SELECT * FROM numbers", batch_rows=1_000)
    refused: list[Exception] = []

    async def read() -> None:
        try:
            await anext(stream)
        except streamq.StreamClosed as error:
            refused.append(error)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        # To start takes several turns of a thread, and this is none.
        await checkpoint()
        await checkpoint()
        await stream.aclose()
    assert len(refused) == 1
    assert await db.queries() == ()


async def test_dropping_the_last_reference_aborts(db: streamq.Database) -> None:
    """A started stream that nobody can read any more is aborted and counted."""
    dropped = (await db.statistics()).dropped_streams
    stream = db.query("SELECT * FROM numbers", batch_rows=1_000)
    await anext(stream)
    assert len(await db.queries()) == 1
    del stream
    gc.collect()
    await wait_until_idle(db)
    assert (await db.statistics()).dropped_streams == dropped + 1


async def test_two_readers_at_once_are_refused(db: streamq.Database) -> None:
    """The second concurrent reader gets StreamBusy; the first is not disturbed."""
    async with db.query("SELECT count(*) AS c FROM numbers a JOIN numbers b ON a.n = b.half") as stream:
        refused: list[Exception] = []

        async def read_too() -> None:
            try:
                await anext(stream)
            except streamq.StreamBusy as error:
                refused.append(error)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read_too)
            tasks.start_soon(read_too)
        assert len(refused) == 1


async def test_timeout_counts_until_the_last_row_is_read(db: streamq.Database) -> None:
    """A reader that does not finish in time gets QueryTimeout, and nothing is left."""
    stream = db.query("SELECT * FROM numbers", batch_rows=1_000, timeout=0.2)
    await stream.start()
    await wait_until_idle(db)
    with pytest.raises(streamq.QueryTimeout):
        while True:
            await anext(stream)
    assert (await stream.statistics()).outcome == "timed_out"


@pytest.mark.parametrize(("limit", "offset"), [(0, 0), (1, 0), (7, 3), (30_000, 25_000), (ROWS, ROWS - 5), (10, ROWS + 1)])
async def test_limit_and_offset_are_exact(db: streamq.Database, limit: int, offset: int) -> None:
    """LIMIT and OFFSET without an order give as many different rows as there are."""
    table = await db.fetch(f"SELECT n FROM numbers LIMIT {limit} OFFSET {offset}")
    assert table.num_rows == len(set(table.column("n").to_pylist())) == max(0, min(limit, ROWS - offset))


async def test_full_order_is_merged(db: streamq.Database) -> None:
    """ORDER BY over many shards gives one ordered answer."""
    table = await db.fetch("SELECT n FROM numbers ORDER BY n DESC", partitions=3)
    assert table.column("n").to_pylist() == list(range(ROWS - 1, -1, -1))


async def test_a_failing_expression_is_a_data_error_that_names_the_shard(db: streamq.Database) -> None:
    """An error in the last rows ends the query with a typed error, never with a short answer."""
    with pytest.raises(streamq.DataError, match="numbers"):
        await db.fetch(f"SELECT n // (n - {ROWS - 1}) AS q FROM numbers")


async def test_what_a_reader_takes_after_a_failure_is_in_the_totals(db: streamq.Database) -> None:
    """A query that has failed gives what was sent before: that is counted as it is taken, once."""
    before = (await db.statistics()).kinds["snapshot"]
    async with db.query(f"SELECT n // (n - {ROWS - 10}) AS q FROM numbers WHERE n % 10 = 0") as stream:
        await wait_until_idle(db)
        with pytest.raises(streamq.DataError):
            await stream.read_all()
        query, after = await stream.statistics(), (await db.statistics()).kinds["snapshot"]
    totals = (after.rows_out - before.rows_out, after.bytes_out - before.bytes_out, after.batches_out - before.batches_out)
    assert totals == (query.rows_out, query.bytes_out, query.batches_out)
    assert after.first_batch_s.count - before.first_batch_s.count == (query.first_batch_s is not None)


async def test_wrong_sql_is_raised_where_the_query_starts(db: streamq.Database) -> None:
    """`query()` stores its arguments; the start raises, with a position, before any task exists."""
    stream = db.query("SELECT n, nosuch FROM numbers")
    with pytest.raises(streamq.BindError, match="nosuch") as raised:
        await stream.start()
    assert (raised.value.line, raised.value.column) == (1, 11)
    assert await db.queries() == ()


async def test_statistics_count_what_was_read(db: streamq.Database) -> None:
    """Rows, splits and outcome are those of the query; the database's totals include it."""
    completed = (await db.statistics()).outcomes["completed"]
    async with db.query("SELECT n FROM numbers WHERE n >= 390000") as stream:
        await stream.read_all()
        statistics = await stream.statistics()
    assert (statistics.outcome, statistics.rows_out) == ("completed", 10_000)
    assert statistics.splits + statistics.splits_pruned == 20
    assert statistics.splits_pruned == 19
    assert (await db.statistics()).outcomes["completed"] == completed + 1
