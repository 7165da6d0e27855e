"""What is promised of streams, table changes and changelogs, one promise a test."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import anyio
import pyarrow as pa
import pytest

import streamq
from tests.law.engine import PATIENCE_S

pytestmark = [pytest.mark.anyio, pytest.mark.by_turns]
START = dt.datetime(2024, 1, 1)
PARTITIONS = [1, 4]
every_width = pytest.mark.parametrize("partitions", PARTITIONS)


@pytest.fixture(scope="module")
async def db(anyio_backend: object) -> AsyncIterator[streamq.Database]:
    """A database with two workers."""
    async with streamq.connect(executor="thread", workers=2, target_partitions=4) as db:
        yield db


def second(number: float) -> dt.datetime:
    return START + dt.timedelta(seconds=number)


async def epochs(stream: streamq.QueryBatchStream, relation: str, rows: int) -> list[list[dict[str, Any]]]:
    """Read until so many rows of a relation have been read; gives the changes of each epoch."""
    found: list[list[dict[str, Any]]] = [[]]
    with anyio.fail_after(PATIENCE_S):
        while True:
            found[-1] += (await anext(stream)).to_pylist()
            if stream.progress.epoch_complete:
                if stream.progress.positions[relation] >= rows:
                    return found
                found.append([])


# V-20, V-28, V-61: windows close by the least watermark, aligned, also where partitions have no rows


@every_width
async def test_windows_are_aligned_and_close_by_the_least_watermark(db: streamq.Database, partitions: int) -> None:
    """A window is given once, when both sources are past its end; windows without rows and idle partitions hold nothing up."""
    for name in ("a", "b"):
        await db.execute(f"CREATE SOURCE {name} (k INTEGER, ts TIMESTAMP, WATERMARK FOR ts AS ts)")
    sql = """SELECT window_start, window_end, count(*) AS c 
        FROM TUMBLE((SELECT * FROM a UNION ALL SELECT * FROM b), ts, INTERVAL '5' MINUTE) GROUP BY window_start, window_end EMIT FINAL"""
    async with db.query(sql, progress=True, partitions=partitions) as stream:
        await stream.start()
        await db.insert("a", [{"k": 1, "ts": second(10)}, {"k": 2, "ts": second(1_000)}])
        assert (await epochs(stream, "a", 2))[-1] == []
        await db.insert("b", [{"k": 1, "ts": second(20)}, {"k": 3, "ts": second(299)}])
        assert (await epochs(stream, "b", 2))[-1] == []
        await db.insert("b", [{"k": 1, "ts": second(300)}])
        (closed,) = (await epochs(stream, "b", 3))[-1]
    for name in ("a", "b"):
        await db.execute(f"DROP SOURCE {name}")
    assert closed == {"window_start": second(0), "window_end": second(300), "c": 3}


# V-22: sessions


@every_width
async def test_a_row_at_the_end_of_a_session_belongs_to_it(db: streamq.Database, partitions: int) -> None:
    """A row exactly a gap after the last one goes on with the session, one later begins another."""
    await db.execute("CREATE SOURCE s (k INTEGER, ts TIMESTAMP, WATERMARK FOR ts AS ts)")
    sql = "SELECT k, window_start, window_end, count(*) AS c FROM SESSION(s, ts, INTERVAL '10' SECOND) GROUP BY k, window_start, window_end"
    await db.insert("s", [{"k": 1, "ts": second(n)} for n in (0, 10, 20.000001)])
    await db.finish("s")
    async with db.query(f"{sql} EMIT FINAL", partitions=partitions) as stream:
        rows = (await stream.read_all()).to_pylist()
    await db.execute("DROP SOURCE s")
    whole = [(second(0), second(20), 2), (second(20.000001), second(30.000001), 1)]
    assert sorted((row["window_start"], row["window_end"], row["c"]) for row in rows) != []
    assert [(r["window_start"], r["window_end"], r["c"]) for r in sorted(rows, key=lambda r: r["window_start"])] == whole


async def test_a_session_closes_only_past_its_end(db: streamq.Database) -> None:
    """A watermark that is exactly at the end of a session leaves it open, since a row there still belongs to it."""
    await db.execute("CREATE SOURCE s (k INTEGER, ts TIMESTAMP, WATERMARK FOR ts AS ts)")
    sql = "SELECT k, count(*) AS c FROM SESSION(s, ts, INTERVAL '10' SECOND) GROUP BY k, window_start, window_end EMIT FINAL"
    async with db.query(sql, progress=True) as stream:
        await stream.start()
        await db.insert("s", [{"k": 1, "ts": second(0)}, {"k": 2, "ts": second(10)}])
        assert (await epochs(stream, "s", 2))[-1] == []
        await db.insert("s", [{"k": 1, "ts": second(10)}])
        assert (await epochs(stream, "s", 3))[-1] == []
        await db.insert("s", [{"k": 3, "ts": second(20.000001)}])
        closed = (await epochs(stream, "s", 4))[-1]
    await db.execute("DROP SOURCE s")
    assert sorted((row["k"], row["c"]) for row in closed) == [(1, 2), (2, 1)]


# V-30: ranks over all partitions


@every_width
async def test_ranks_are_global(db: streamq.Database, partitions: int) -> None:
    """A rank over aggregates is over all groups, whichever partition has them, and moves when a group overtakes."""
    await db.execute("CREATE SOURCE s (tag VARCHAR, n INTEGER)")
    sql = "SELECT tag, sum(n)::BIGINT AS t, rank() OVER (ORDER BY sum(n) DESC) AS r FROM s GROUP BY tag QUALIFY r <= 3 EMIT CHANGES"
    async with db.query(sql, progress=True, partitions=partitions) as stream:
        await stream.start()
        table = pa.schema(list(stream.schema)[:3]).empty_table()
        ranks = []
        for number, rows in enumerate(([("a", 4), ("b", 3), ("c", 2), ("d", 1)], [("d", 9)]), 1):
            await db.insert("s", [{"tag": tag, "n": n} for tag, n in rows])
            while True:
                batch = await anext(stream)
                table = streamq.apply_changes(table, batch, key=stream.key)
                if stream.progress.epoch_complete and stream.progress.positions["s"] == 3 + number:
                    break
            ranks.append({row["tag"]: row["r"] for row in table.to_pylist()})
    await db.execute("DROP SOURCE s")
    assert ranks == [{"a": 1, "b": 2, "c": 3}, {"d": 1, "a": 2, "b": 3}]


# V-43, V-62: a table's change is seen by all partitions at once


@every_width
@pytest.mark.parametrize(
    "join", ["JOIN t ON s.k = t.k", "JOIN t FOR SYSTEM_TIME AS OF PROCTIME() ON s.k = t.k"], ids=["followed", "as it is now"]
)
async def test_partitions_see_a_table_old_or_new_never_a_mix(db: streamq.Database, partitions: int, join: str) -> None:
    """A write of many rows of a table divides the rows of the source, and after every epoch the answer has one version of it."""
    keys = range(40)
    await db.execute("CREATE TABLE t (k INTEGER PRIMARY KEY, version INTEGER)")
    await db.execute("CREATE SOURCE s (k INTEGER, n INTEGER)")
    followed = "SYSTEM_TIME" not in join
    for version in range(2):
        await db.insert("t", [{"k": k, "version": version} for k in keys])
    async with db.query(f"SELECT s.k, s.n, t.version FROM s {join} EMIT CHANGES", progress=True, partitions=partitions) as stream:
        await stream.start()
        for n in range(5):
            await db.insert("s", [{"k": k, "n": n} for k in keys])
            await db.insert("t", [{"k": k, "version": n + 2} for k in keys])
        await db.finish("s")
        rows: Counter[tuple[int, int, int]] = Counter()
        with anyio.fail_after(PATIENCE_S):
            seen = -1
            while seen < (6 if followed else 200):
                for row in (await anext(stream)).to_pylist():
                    rows[row["k"], row["n"], row["version"]] += -1 if row.get("_op") == "delete" else 1
                if not stream.progress.epoch_complete:
                    continue
                there = +rows
                if followed:
                    assert len({version for _, _, version in there}) <= 1
                    seen = max((version for _, _, version in there), default=-1)
                else:
                    assert all(version == n + 1 for _, n, version in there)
                    seen = len(there)
                    assert seen % len(keys) == 0
    await db.execute("DROP SOURCE s")
    await db.execute("DROP TABLE t")
    assert len(+rows) == 200


# V-45: state of a join within a time bound


@pytest.mark.parametrize("first", ["trades", "quotes"])
async def test_both_arrival_orders_match_and_state_goes(db: streamq.Database, first: str) -> None:
    """Rows within the bound match whichever side comes first; what is kept follows the bound, not the rows, and is nothing at the end."""
    rounds, symbols = 30, 200
    for name in ("trades", "quotes"):
        await db.execute(f"CREATE SOURCE {name} (symbol INTEGER, ts TIMESTAMP, v INTEGER, WATERMARK FOR ts AS ts)")
    sql = """SELECT t.v, q.v AS quote FROM trades t JOIN quotes q ON t.symbol = q.symbol
        AND t.ts BETWEEN q.ts AND q.ts + INTERVAL '2' SECOND EMIT CHANGES"""
    then = "quotes" if first == "trades" else "trades"
    pairs: Counter[tuple[int, int]] = Counter()
    most = 0
    async with db.query(sql, progress=True, partitions=2) as stream:
        await stream.start()
        for number in range(rounds):
            for name in (first, then):
                at = second(number * 10 + (1 if name == "trades" else 0))
                await db.insert(name, [{"symbol": n, "ts": at, "v": n} for n in range(symbols)])
            for changes in await epochs(stream, then, (number + 1) * symbols):
                pairs.update((row["v"], row["quote"]) for row in changes)
            most = max(most, await kept_rows(stream))
        for name in (first, then):
            await db.finish(name)
        assert [batch.num_rows async for batch in stream if batch.num_rows] == []
        assert await kept_rows(stream) == 0
    for name in (first, then):
        await db.execute(f"DROP SOURCE {name}")
    assert pairs == {(n, n): rounds for n in range(symbols)}
    assert most < rounds * symbols


async def kept_rows(stream: streamq.QueryBatchStream) -> int:
    """How many rows the query's operators keep."""
    continuous = (await stream.statistics()).continuous
    assert continuous is not None
    return sum(operator.state_rows for operator in continuous.operators)


# V-69 to V-75: the changelog


@every_width
async def test_the_changelog_is_exact(db: streamq.Database, partitions: int) -> None:
    """With one row an epoch, every row is one change of its group: insert at first, then updates that count."""
    await db.execute("CREATE SOURCE orders (customer_id INTEGER, amount INTEGER)")
    rows = [{"customer_id": n * 7 % 5, "amount": n} for n in range(100)]
    await db.insert("orders", rows)
    await db.finish("orders")
    sql = "SELECT customer_id, count(*) AS c FROM orders GROUP BY customer_id EMIT CHANGES"
    async with db.query(sql, epoch_rows=1, partitions=partitions) as stream:
        changes = [(row["customer_id"], row["c"], row["_op"]) for row in (await stream.read_all()).to_pylist()]
    await db.execute("DROP SOURCE orders")
    counts: Counter[int] = Counter()
    expected = []
    for row in rows:
        counts[row["customer_id"]] += 1
        count = counts[row["customer_id"]]
        expected.append((row["customer_id"], count, "insert" if count == 1 else "update"))
    assert changes == expected


@pytest.mark.parametrize("epoch_rows", [None, 7])
async def test_changes_of_a_key_come_in_order(db: streamq.Database, epoch_rows: int | None) -> None:
    """Whatever the epochs, the changes of one key only go forward, and end at its answer."""
    await db.execute("CREATE SOURCE orders (customer_id INTEGER)")
    for _ in range(10):
        await db.insert("orders", [{"customer_id": n % 9} for n in range(90)])
    await db.finish("orders")
    sql = "SELECT customer_id, count(*) AS c FROM orders GROUP BY customer_id EMIT CHANGES"
    async with db.query(sql, epoch_rows=epoch_rows, batch_rows=4, partitions=4) as stream:
        rows = (await stream.read_all()).to_pylist()
    await db.execute("DROP SOURCE orders")
    for key in range(9):
        counts = [row["c"] for row in rows if row["customer_id"] == key]
        assert all(before < after for before, after in pairwise(counts))
        assert counts[-1] == 100


# N-22: what was there, then what comes


async def test_no_gap_and_no_duplicate_where_following_begins(db: streamq.Database) -> None:
    """Queries that start while rows are written see every row once, wherever among the writes they start."""
    await db.execute("CREATE SOURCE s (n INTEGER)")
    seen: list[Counter[int]] = []

    async def follow() -> None:
        async with db.query("SELECT n FROM s EMIT CHANGES", timeout=PATIENCE_S) as stream:
            seen.append(Counter((await stream.read_all())["n"].to_pylist()))

    async with anyio.create_task_group() as tasks:
        for n in range(60):
            await db.insert("s", [{"n": n}])
            if n % 10 == 0:
                tasks.start_soon(follow)
        await db.finish("s")
    await db.execute("DROP SOURCE s")
    assert seen == [Counter(range(60))] * 6
