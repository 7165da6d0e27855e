"""Continuous queries from end to end: written as SQL, fed by inserts, read as changes."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pyarrow as pa
import pytest

import streamq
from streamq.engine import EmbeddedDatabase
from tests.waiting import pause

pytestmark = [pytest.mark.anyio, pytest.mark.by_turns, pytest.mark.usefixtures("no_residue")]
Row = tuple[Any, ...]
SOURCE = "CREATE SOURCE orders (id BIGINT, shop VARCHAR, amount BIGINT)"
TIMED = "CREATE SOURCE clicks (ts TIMESTAMP, page VARCHAR, WATERMARK FOR ts AS ts - INTERVAL '10' SECOND)"
FIRST = [{"id": 1, "shop": "a", "amount": 10}, {"id": 2, "shop": "b", "amount": 20}]
SECOND = [{"id": 3, "shop": "a", "amount": 30}, {"id": 4, "shop": "c", "amount": 40}]
TOTALS = "SELECT shop, count(*) AS n, sum(amount) AS total FROM orders GROUP BY shop EMIT CHANGES"
ENDLESS = "SELECT id FROM orders EMIT CHANGES"


@pytest.fixture
async def db(anyio_backend: object) -> AsyncIterator[streamq.Database]:
    async with streamq.connect(executor="thread", workers=1, target_partitions=2) as db:
        await db.execute(SOURCE)
        yield db


def rows_of(batch: pa.RecordBatch) -> list[Row]:
    return [tuple(row.values()) for row in batch.to_pylist()]


async def next_rows(stream: streamq.QueryBatchStream) -> list[Row]:
    with anyio.fail_after(20):
        return rows_of(await anext(stream))


async def followed(db: streamq.Database) -> set[tuple[str, int | None, int]]:
    """Tell of each relation how many rows it has had, and how many its slowest follower has not taken."""
    return {(state.name, state.inserted, state.behind_rows) for state in (await db.statistics()).relations}


async def all_rows(stream: streamq.QueryBatchStream) -> list[Row]:
    with anyio.fail_after(20):
        return [row async for batch in stream for row in rows_of(batch)]


def assert_totals_are_those_of(query: streamq.QueryStatistics, database: streamq.DatabaseStatistics) -> None:
    """Of its only query a database has handed out what that has, be it before or after its end, and had one first batch."""
    handed = (query.rows_out, query.bytes_out, query.batches_out)
    totals = database.kinds[query.kind]
    assert (totals.rows_out, totals.bytes_out, totals.batches_out, totals.first_batch_s.count) == (*handed, 1)


async def wait_until_idle(db: streamq.Database) -> None:
    with anyio.fail_after(20):
        while await db.queries():
            await pause()


async def fold(stream: streamq.QueryBatchStream) -> list[dict[str, Any]]:
    """Read a stream to its end and fold its changes."""
    names = [name for name in stream.schema.names if name != "_op"]
    table = pa.schema([stream.schema.field(name) for name in names]).empty_table()
    with anyio.fail_after(20):
        async for batch in stream:
            table = streamq.apply_changes(table, batch, key=stream.key)
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


# What comes, and when


async def test_rows_from_before_and_after_the_start_come_once(db: streamq.Database) -> None:
    """A query gives what is there, then follows, without a gap and without a duplicate, and ends with its source."""
    await db.insert("orders", FIRST)
    async with db.query("SELECT id, amount * 2 AS twice FROM orders WHERE amount > 15 EMIT CHANGES") as stream:
        assert (stream.changelog, stream.key) == ("append", None)
        assert stream.schema == pa.schema([("id", pa.int64()), ("twice", pa.int64())])
        assert await next_rows(stream) == [(2, 40)]
        await db.insert("orders", SECOND)
        assert await next_rows(stream) == [(3, 60), (4, 80)]
        await db.finish("orders")
        assert await all_rows(stream) == []
    assert await db.queries() == ()


async def test_changes_of_groups_are_by_key(db: streamq.Database) -> None:
    """An aggregate's groups are inserted and updated by their key."""
    async with db.query(TOTALS) as stream:
        assert (stream.changelog, stream.key) == ("upsert", ("shop",))
        await db.insert("orders", FIRST)
        assert sorted(await next_rows(stream)) == [("a", 1, 10, "insert"), ("b", 1, 20, "insert")]
        await db.insert("orders", SECOND)
        assert sorted(await next_rows(stream)) == [("a", 2, 40, "update"), ("c", 1, 40, "insert")]


async def test_an_epoch_can_be_one_row(db: streamq.Database) -> None:
    """With `epoch_rows=1` every row has its change."""
    await db.insert("orders", [*FIRST, *SECOND])
    await db.finish("orders")
    async with db.query(TOTALS, epoch_rows=1) as stream:
        assert await all_rows(stream) == [
            ("a", 1, 10, "insert"),
            ("b", 1, 20, "insert"),
            ("a", 2, 40, "update"),
            ("c", 1, 40, "insert"),
        ]


async def test_a_global_aggregate_has_its_row_before_there_are_rows(db: streamq.Database) -> None:
    """The key () is one row, which is there for the empty source too."""
    async with db.query("SELECT count(*) AS n FROM orders EMIT CHANGES") as stream:
        assert (stream.changelog, stream.key) == ("upsert", ())
        assert await next_rows(stream) == [(0, "insert")]
        await db.insert("orders", FIRST)
        assert await next_rows(stream) == [(2, "update")]


async def test_rows_of_a_top_n_are_taken_back(db: streamq.Database) -> None:
    """Without a key a delete takes one row back; deletes come first."""
    await db.insert("orders", FIRST)
    async with db.query("SELECT amount FROM orders ORDER BY amount DESC LIMIT 2 EMIT CHANGES") as stream:
        assert (stream.changelog, stream.key) == ("retract", None)
        assert sorted(await next_rows(stream)) == [(10, "insert"), (20, "insert")]
        await db.insert("orders", SECOND[:1])
        assert await next_rows(stream) == [(10, "delete"), (30, "insert")]


async def test_changes_fold_to_the_answer(db: streamq.Database) -> None:
    """What `apply_changes` makes of the changes is what a snapshot query gives."""
    await db.insert("orders", FIRST)
    async with db.query(TOTALS, epoch_rows=1) as stream:
        await db.insert("orders", SECOND)
        await db.finish("orders")
        folded = await fold(stream)
    answer = await db.fetch(TOTALS.removesuffix(" EMIT CHANGES"))
    assert sorted(folded, key=str) == sorted(answer.to_pylist(), key=str)


async def test_a_limit_ends_the_query(db: streamq.Database) -> None:
    """A LIMIT of rows that only get more is reached once, although the source goes on."""
    await db.insert("orders", [*FIRST, *SECOND])
    async with db.query("SELECT id FROM orders LIMIT 3 EMIT CHANGES") as stream:
        assert len(await all_rows(stream)) == 3


async def test_a_query_without_relations_is_one_epoch(db: streamq.Database) -> None:
    """What reads nothing has ended when it has begun."""
    async with db.query("SELECT 1 AS one EMIT FINAL") as stream:
        assert await all_rows(stream) == [(1,)]


async def test_a_query_over_a_table_follows_its_changes(db: streamq.Database) -> None:
    """Rows of a table are changed and taken back; a table never ends."""
    await db.execute("CREATE TABLE shops (shop VARCHAR PRIMARY KEY, city VARCHAR)")
    await db.insert("shops", [{"shop": "a", "city": "Rome"}])
    async with db.query("SELECT shop, city FROM shops EMIT CHANGES") as stream:
        assert (stream.changelog, stream.key) == ("upsert", ("shop",))
        assert await next_rows(stream) == [("a", "Rome", "insert")]
        await db.insert("shops", [{"shop": "a", "city": "Oslo"}])
        assert await next_rows(stream) == [("a", "Oslo", "update")]
        await db.execute("DELETE FROM shops")
        assert await next_rows(stream) == [("a", "Oslo", "delete")]


async def test_a_row_sees_the_table_as_it_was_when_it_came(db: streamq.Database) -> None:
    """A lookup AS OF PROCTIME() goes by the order of the writes, however many of them wait."""
    await db.execute("CREATE TABLE prices (shop VARCHAR PRIMARY KEY, price BIGINT)")
    sql = "SELECT o.id, p.price FROM orders o JOIN prices p FOR SYSTEM_TIME AS OF PROCTIME() ON o.shop = p.shop EMIT CHANGES"
    async with db.query(sql) as stream:
        assert stream.changelog == "append"
        for number in (1, 2, 3):
            await db.insert("prices", [{"shop": "a", "price": number}])
            await db.insert("orders", [{"id": number, "shop": "a"}])
        await db.finish("orders")
        rows: list[Row] = []
        while len(rows) < 3:
            rows += await next_rows(stream)
        assert rows == [(1, 1), (2, 2), (3, 3)]


async def test_final_gives_rows_when_their_window_has_closed(db: streamq.Database) -> None:
    """With EMIT FINAL a window comes once the watermark is past its end, the last ones at the end of the source."""
    await db.execute(TIMED)
    sql = "SELECT window_end, count(*) AS n FROM TUMBLE(clicks, ts, INTERVAL '1' MINUTE) GROUP BY window_end EMIT FINAL"
    async with db.query(sql) as stream:
        assert stream.changelog == "append"
        await db.insert("clicks", pa.table({"ts": [_at(0), _at(30), _at(75)]}))
        assert await next_rows(stream) == [(_at(60), 2)]
        await db.insert("clicks", pa.table({"ts": [_at(40), _at(80)]}))
        await db.finish("clicks")
        assert await all_rows(stream) == [(_at(120), 2)]
        assert stream.progress.watermarks["clicks"] is not None
        statistics = (await stream.statistics()).continuous
        assert statistics is not None
        assert statistics.late_rows == 1


async def test_late_rows_go_where_the_query_wants_them(db: streamq.Database) -> None:
    """LATE ROWS INTO gets every row that came too late for its window."""
    await db.execute(TIMED)
    await db.execute("CREATE SOURCE late (ts TIMESTAMP, page VARCHAR)")
    sql = "SELECT window_end, count(*) AS n FROM TUMBLE(clicks, ts, INTERVAL '1' MINUTE) GROUP BY window_end EMIT FINAL LATE ROWS INTO late"
    await db.insert("clicks", pa.table({"ts": [_at(0), _at(75), _at(40)], "page": ["x", "y", "z"]}))
    await db.finish("clicks")
    async with db.query(sql) as stream:
        assert await all_rows(stream) == [(_at(60), 1), (_at(120), 1)]
    assert (await db.fetch("SELECT page FROM late")).to_pylist() == [{"page": "z"}]


async def late_rows_without_room(db: streamq.Database) -> tuple[streamq.QueryBatchStream, streamq.QueryBatchStream]:
    """Give a query that waits for room for its late rows, and the one that follows them and is not read."""
    await db.execute(TIMED)
    await db.execute("CREATE SOURCE late (ts TIMESTAMP, page VARCHAR) WITH (retention_rows = 1)")
    follower = db.query("SELECT page FROM late EMIT CHANGES", epoch_rows=1)
    await follower.start()
    sql = "SELECT window_end, count(*) AS n FROM TUMBLE(clicks, ts, INTERVAL '1' MINUTE) GROUP BY ALL EMIT CHANGES LATE ROWS INTO late"
    stream = db.query(sql, epoch_rows=1)
    await stream.start()
    await db.insert("clicks", [{"ts": _at(600), "page": "in time"}, *[{"ts": _at(0), "page": "late"}] * 20])
    with anyio.fail_after(20):
        # Three are on their way to the reader, two are kept, and the next one waits, as do 14 of those that are to be looked at.
        while not {("late", 5, 2), ("clicks", 21, 14)} <= await followed(db):
            await pause()
    return stream, follower


async def test_late_rows_that_wait_for_room_do_not_keep_their_query(db: streamq.Database) -> None:
    """A query whose late rows find no room, as somebody follows them who does not read, is let go at once all the same."""
    stream, follower = await late_rows_without_room(db)
    async with anyio.create_task_group() as tasks, follower:
        closed = anyio.Event()

        async def close() -> None:
            await stream.aclose()
            closed.set()

        tasks.start_soon(close)
        with anyio.fail_after(20):
            await closed.wait()


async def test_late_rows_that_wait_for_room_keep_no_thread_of_others() -> None:
    """Those whose turn it is to make room can compute, were there but one thread for all."""
    async with streamq.connect(executor="thread", workers=1) as db:
        assert isinstance(db, EmbeddedDatabase)
        db._host.epoch_limiter.total_tokens = 1
        stream, follower = await late_rows_without_room(db)
        async with follower, stream:
            for _ in range(20):
                assert await next_rows(follower) == [("late",)]


async def test_late_rows_need_a_place_for_every_column(db: streamq.Database) -> None:
    """A relation for late rows without one of their columns is refused before anything runs."""
    await db.execute(TIMED)
    await db.execute("CREATE SOURCE late (ts TIMESTAMP)")
    sql = "SELECT window_end FROM TUMBLE(clicks, ts, INTERVAL '1' MINUTE) GROUP BY window_end EMIT FINAL LATE ROWS INTO late"
    with pytest.raises(streamq.BindError, match="late cannot take late rows of clicks: it has no column page"):
        await db.query(sql).start()


OF_CLICKS = "SELECT window_end, count(*) AS n FROM TUMBLE(clicks, ts, INTERVAL '1' MINUTE) GROUP BY ALL"
RETAINS = "CREATE SOURCE late (ts TIMESTAMP, page VARCHAR) WITH (retention_rows = 1)"
BOTH = "SELECT per_minute.n FROM per_minute JOIN {late} ON per_minute.n = length({late}.page) EMIT CHANGES"


async def test_late_rows_do_not_wait_for_who_waits_for_them(db: streamq.Database) -> None:
    """A query in which late rows would wait for room until it reads on, and it for them, is refused; with a table nobody waits."""
    await db.execute(TIMED)
    await db.execute(RETAINS)
    with pytest.raises(streamq.BindError, match=r"wait for room in late until this query, which reads it, has read on") as own:
        sql = "SELECT c.page FROM TUMBLE(clicks, ts, INTERVAL '1' MINUTE) c JOIN late USING (page) EMIT CHANGES LATE ROWS INTO late"
        await db.query(sql).start()
    assert own.value.column == sql.rindex("late") + 1
    await db.execute(f"CREATE MATERIALIZED VIEW per_minute AS {OF_CLICKS} LATE ROWS INTO late")
    await db.execute("CREATE VIEW pages AS SELECT page FROM late")
    await db.execute("CREATE MATERIALIZED VIEW distinct_pages AS SELECT DISTINCT page FROM pages")
    for late in ("late", "pages", "distinct_pages"):
        with pytest.raises(streamq.BindError, match="late rows of per_minute would wait for room in late") as through_views:
            await db.query(BOTH.format(late=late)).start()
        assert through_views.value.hint == "leave the retention of late out, or let late rows go into a table"
    assert (await db.fetch(BOTH.format(late="late").removesuffix("EMIT CHANGES"))).num_rows == 0


@pytest.mark.parametrize(
    "into", ["CREATE SOURCE late (ts TIMESTAMP, page VARCHAR)", "CREATE TABLE late (ts TIMESTAMP, page VARCHAR PRIMARY KEY)"]
)
async def test_a_view_can_be_read_beside_its_late_rows(db: streamq.Database, into: str) -> None:
    """What has room for all late rows can be read together with the view that they are late for."""
    await db.execute(TIMED)
    await db.execute(into)
    await db.execute(f"CREATE MATERIALIZED VIEW per_minute AS {OF_CLICKS} LATE ROWS INTO late")
    async with db.query(BOTH.format(late="late")) as stream:
        await db.insert("clicks", [{"ts": _at(600), "page": "in time"}, {"ts": _at(0), "page": "x"}])
        assert await next_rows(stream) == [(1, "insert")]


# Progress and statistics


async def test_progress_says_where_each_batch_stands(db: streamq.Database) -> None:
    """The last batch of an epoch is marked, with the rows read so far; an epoch without changes shows if asked for."""
    await db.insert("orders", [*FIRST, *SECOND])
    async with db.query("SELECT id FROM orders WHERE id <> 4 EMIT CHANGES", epoch_rows=3, batch_rows=2, progress=True) as stream:
        seen = []
        for _ in range(3):
            rows = await next_rows(stream)
            seen.append((len(rows), stream.progress.epoch, stream.progress.epoch_complete, stream.progress.positions["orders"]))
    assert seen == [(2, 1, False, 3), (1, 1, True, 3), (0, 2, True, 4)]


async def test_statistics_tell_how_far_the_query_is(db: streamq.Database) -> None:
    """Epochs, rows read and state are counted while the query runs."""
    await db.insert("orders", FIRST)
    async with db.query(TOTALS) as stream:
        await next_rows(stream)
        statistics = await stream.statistics()
        assert (statistics.strategy, statistics.rows_out, statistics.outcome) == ("Continuous", 2, "running")
        assert statistics.continuous is not None
        assert statistics.continuous.rows_in == {"orders": 2}
        assert statistics.continuous.state_bytes > 0
        assert sum(operator.state_rows for operator in statistics.continuous.operators) == 2


async def test_changes_are_emitted_together_at_most_every_interval(db: streamq.Database) -> None:
    """With EVERY the changes of many epochs are one net change; the end does not wait."""
    async with db.query(TOTALS + " EVERY INTERVAL '1' HOUR", epoch_rows=1, progress=True) as stream:
        assert await next_rows(stream) == []
        await db.insert("orders", [*FIRST, *SECOND])
        await db.finish("orders")
        assert sorted(await all_rows(stream)) == [("a", 2, 40, "insert"), ("b", 1, 20, "insert"), ("c", 1, 40, "insert")]


# Backpressure


async def test_while_the_reader_stalls_nothing_is_read(db: streamq.Database) -> None:
    """What waited while the reader did not read comes as one larger epoch, and the answer is exact."""
    async with db.query(TOTALS) as stream:
        for number in range(200):
            await db.insert("orders", [{"id": number, "shop": "a", "amount": 1}])
        statistics = (await stream.statistics()).continuous
        assert statistics is not None
        assert statistics.epochs < 20
        await db.finish("orders")
        assert await fold(stream) == [{"shop": "a", "n": 200, "total": 200}]


# Ends


async def test_a_failing_expression_ends_the_query(db: streamq.Database) -> None:
    """DataError names the epoch's rows; nothing of that epoch is emitted."""
    await db.insert("orders", FIRST)
    async with db.query("SELECT id, 10 // (amount - 30) AS x FROM orders EMIT CHANGES") as stream:
        assert len(await next_rows(stream)) == 2
        await db.insert("orders", SECOND)
        with pytest.raises(streamq.DataError, match=r"epoch 2: orders rows 2 to 3"):
            await next_rows(stream)
    assert (await db.statistics()).outcomes["failed"] == 1


@pytest.mark.parametrize("every", ["", " EVERY INTERVAL '1' HOUR"])
async def test_an_error_comes_behind_the_epochs_before(db: streamq.Database, every: str) -> None:
    """However late its reader comes, it gets what all complete epochs changed, also what EVERY held back, and then the error."""
    await db.insert("orders", [{"id": number, "shop": "a", "amount": 10 * number} for number in range(1, 9)])
    sql = f"SELECT shop, count(*) AS n, sum(10 // (amount - 60)) AS x FROM orders GROUP BY shop EMIT CHANGES{every}"
    async with db.query(sql, epoch_rows=1, batch_rows=1) as stream:
        if not every:
            # Of the five complete epochs it reads three in time: then one waits for it, and one is handed over.
            assert [(await next_rows(stream))[0][1] for _ in range(3)] == [1, 2, 3]
        await wait_until_idle(db)
        assert (await stream.statistics()).outcome == "failed"
        counts: list[int] = []
        with pytest.raises(streamq.DataError, match="epoch 6: orders row 5"):
            async for batch in stream:
                counts += batch["n"].to_pylist()
        assert counts == ([1, 5] if every else [4, 5])
        with pytest.raises(streamq.DataError):
            await anext(stream)
        assert_totals_are_those_of(await stream.statistics(), await db.statistics())


async def test_a_failed_query_holds_nothing_up(db: streamq.Database) -> None:
    """It has ended, also if nobody reads what is left; its reader may close it, and what was left is gone."""
    await db.execute("CREATE SOURCE small (x BIGINT) WITH (retention_rows = 2)")
    async with db.query("SELECT 10 // (x - 3) AS y FROM small EMIT CHANGES", epoch_rows=1) as stream:
        for number in range(1, 9):
            with anyio.fail_after(20):
                await db.insert("small", [{"x": number}])
        await wait_until_idle(db)
        await stream.cancel()
        with pytest.raises(streamq.DataError):
            await anext(stream)


async def test_state_has_a_limit(db: streamq.Database) -> None:
    """With `max_state_bytes` a query that keeps more ends, and says what keeps it."""
    await db.insert("orders", pa.table({"id": range(50_000)}))
    with pytest.raises(streamq.ResourceLimit, match="max_state_bytes"):
        async with db.query("SELECT id, count(*) AS n FROM orders GROUP BY id EMIT CHANGES WITH (max_state_bytes = 1000)") as stream:
            await next_rows(stream)


async def test_a_query_can_be_cancelled(db: streamq.Database) -> None:
    """Cancelled by another, the reader gets QueryCancelled at once."""
    async with db.query(ENDLESS) as stream:
        with anyio.fail_after(20):
            assert await db.cancel(stream.query_id)
            with pytest.raises(streamq.QueryCancelled):
                await anext(stream)
    assert await db.queries() == ()


async def test_a_waiting_reader_can_be_cancelled(db: streamq.Database) -> None:
    """Leaving the block from inside a wait ends everything."""
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            waiting = anyio.Event()

            async def read() -> None:
                async with db.query(ENDLESS) as stream:
                    waiting.set()
                    await anext(stream)

            tasks.start_soon(read)
            await waiting.wait()
            tasks.cancel_scope.cancel()
    assert await db.queries() == ()


async def test_a_query_ends_at_its_timeout(db: streamq.Database) -> None:
    """The timeout counts while nothing happens, too."""
    with anyio.fail_after(20), pytest.raises(streamq.QueryTimeout):
        async with db.query(ENDLESS, timeout=0.3) as stream:
            await anext(stream)


async def test_a_long_epoch_is_interrupted(db: streamq.Database) -> None:
    """Closing a query does not wait for SQL that takes long."""
    await db.insert("orders", pa.table({"id": range(20_000)}))
    sql = "SELECT count(*) AS n FROM orders a, orders b, orders c WHERE a.id + b.id + c.id = -1 EMIT CHANGES"
    with anyio.fail_after(20):
        async with db.query(sql):
            while not (await db.statistics()).running:
                await pause()


async def test_a_dropped_stream_ends_its_query(db: streamq.Database) -> None:
    """Losing the last reference is as good as closing."""
    stream = db.query(ENDLESS)
    await stream.start()
    del stream
    gc.collect()
    with anyio.fail_after(20):
        while await db.queries():
            await pause()


async def test_a_dropped_source_ends_its_queries(db: streamq.Database) -> None:
    """Who follows a source that is dropped gets an error, never an end."""
    async with db.query(ENDLESS) as stream:
        await db.insert("orders", FIRST)
        await next_rows(stream)
        await db.execute("DROP SOURCE orders")
        with pytest.raises(streamq.SourceError, match="dropped"):
            await next_rows(stream)


async def test_closing_the_database_ends_its_queries() -> None:
    """A reader of a closed database gets an error, never an end."""
    async with streamq.connect(executor="thread", workers=1) as db:
        await db.execute(SOURCE)
        stream = db.query(ENDLESS)
        await stream.start()
    with pytest.raises(streamq.QueryCancelled):
        await anext(stream)


async def test_explain_describes_a_continuous_query(db: streamq.Database) -> None:
    """EXPLAIN of a query with EMIT tells its operators and runs nothing."""
    assert "orders" in await db.explain(TOTALS)
    assert await db.queries() == ()


def _at(second: int) -> Any:
    return pa.scalar(second * 1_000_000, pa.timestamp("us")).as_py()


async def test_a_plan_that_many_follow_is_that_of_the_relations_as_they_are(db: streamq.Database) -> None:
    """The same text means something else once a relation has other columns, or other clauses follow it."""
    for columns in ("n BIGINT", "n VARCHAR, m BIGINT"):
        await db.execute(f"CREATE SOURCE again ({columns})")
        for _ in range(2):
            async with db.query("SELECT * FROM again EMIT CHANGES") as stream:
                assert len(stream.schema) == columns.count(",") + 1
            async with db.query("SELECT count(*) AS c FROM again EMIT FINAL") as stream:
                assert stream.changelog == "append"
            async with db.query("SELECT count(*) AS c FROM again EMIT CHANGES") as stream:
                assert stream.changelog == "upsert"
        await db.execute("DROP SOURCE again")
