"""The seed queries as continuous ones: their changes fold to the rows that were worked out by hand."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from typing import Any

import anyio
import pytest

import streamq
from tests.law.continuous import Fold, Way
from tests.law.engine import EXECUTORS, PATIENCE_S, Engine, Executor
from tests.law.law import Row
from tests.law.relations import fixed
from tests.law.seeds import SEEDS, Seed, minutes, rows_from

pytestmark = pytest.mark.by_turns
PARTITIONS = (1, 3)


@pytest.fixture(params=PARTITIONS)
def way(request: pytest.FixtureRequest, anyio_backend: tuple[str, dict[str, Any]]) -> Way:
    """A number of partitions on an executor; what is on one executor here is on the other one on the other event loop."""
    turn = PARTITIONS.index(request.param) + (anyio_backend[0] == "trio")
    return Way(EXECUTORS[turn % len(EXECUTORS)], request.param)


async def _folded(db: streamq.Database, sql: str, finished: tuple[str, ...], options: dict[str, Any]) -> tuple[Fold, Counter[str]]:
    """Read a continuous query to its end; gives the fold and how many changes of each kind there were."""
    kinds: Counter[str] = Counter()
    with anyio.fail_after(5 * PATIENCE_S):
        for name in finished:
            await db.finish(name)
        async with db.query(sql, **options) as stream:
            await stream.start()
            fold = Fold(stream.changelog, stream.key, stream.schema)
            async for batch in stream:
                fold.take(batch)
                kinds.update(batch.column("_op").to_pylist() if stream.changelog != "append" else ["insert"] * batch.num_rows)
                if stream.progress.epoch_complete:
                    fold.end_epoch()
    return fold, kinds


def folded(engine: Engine, executor: Executor, seed: Seed, emit: str, options: dict[str, Any]) -> list[Row]:
    """Push the rows of a seed and give what its changes fold to, over the columns that are compared."""
    held = [fixed(name, rows_from(sql), "source") for name, sql in seed.relations.items()]
    sql = f"{seed.sql.partition('  --')[0].rstrip().rstrip(';')} {emit}"
    with engine.holding(held, executor):
        fold, _ = engine.call(_folded, engine.databases[executor], sql, tuple(seed.relations), options)
    places = [fold.names.index(name) for name in seed.columns or fold.names]
    return [tuple(row[place] for place in places) for row in fold.answer()]


@pytest.mark.parametrize("emit", ["EMIT CHANGES", "EMIT FINAL"])
@pytest.mark.parametrize("name", SEEDS)
def test_changes_of_a_seed_query_fold_to_the_worked_rows(engine: Engine, way: Way, name: str, emit: str) -> None:
    """The folded answer is the one worked out by hand, whether changes or final rows are emitted."""
    seed = SEEDS[name]
    assert Counter(folded(engine, way.executor, seed, emit, {"partitions": way.partitions})) == Counter(seed.expected())


MINUTES = """SELECT trader_id, symbol, TUMBLING(event_time, INTERVAL '1' MINUTE) AS w, COUNT(*) as trade_count, AVG(price) as avg_price,
    SUM(quantity) as total_quantity, SUM(price * quantity) as total_value FROM market_data
    GROUP BY trader_id, symbol, TUMBLING(event_time, INTERVAL '1' MINUTE) EMIT CHANGES"""
TRADES = (
    "SELECT 'trader' || (i % 20) AS trader_id, 'symbol' || (i % 10) AS symbol, 10.0::DOUBLE AS price, 2 AS quantity, "
    "make_timestamp((1700000000 + i) * 1000000) AS event_time FROM range(5000) AS r(i)"
)


@pytest.mark.parametrize("anyio_backend", [("asyncio", {})], indirect=True, ids=["asyncio"], scope="module")
@pytest.mark.parametrize(
    ("epoch_rows", "rows", "windows", "groups"),
    [
        (1, 100, 2, {3: 20, 2: 20}),
        (None, 5_000, 84, {3: 1_640, 2: 40}),
    ],
)
def test_a_row_an_epoch_gives_a_change_a_row(
    engine: Engine, epoch_rows: int | None, rows: int, windows: int, groups: dict[int, int]
) -> None:
    """Rows in epochs of one are as many upserts; larger epochs give fewer changes. Most groups have three rows, those at the ends two."""
    with engine.holding([fixed("market_data", rows_from(TRADES).slice(0, rows), "source")], "thread"):
        fold, kinds = engine.call(_folded, engine.databases["thread"], MINUTES, ("market_data",), {"epoch_rows": epoch_rows})
    changes = sum(kinds.values())
    assert kinds["insert"] == sum(groups.values())
    assert changes == rows if epoch_rows == 1 else sum(groups.values()) <= changes < rows
    answer = fold.answer()
    assert len({row[2] for row in answer}) == windows
    assert min(row[2][0][1] for row in answer) == dt.datetime(2023, 11, 14, 22, 13)
    assert Counter(row[3] for row in answer) == groups


async def _bridged(db: streamq.Database) -> list[list[tuple[str, int]]]:
    """Push two sessions and then the row between them; gives the changes of each epoch."""
    await db.execute("CREATE SOURCE visits (who VARCHAR, at TIMESTAMP)")
    sql = (
        "SELECT who, SESSION(at, INTERVAL '45' MINUTE).start AS began, count(*) AS n FROM visits "
        "GROUP BY who, SESSION(at, INTERVAL '45' MINUTE) EMIT CHANGES"
    )
    epochs: list[list[tuple[str, int]]] = []
    with anyio.fail_after(PATIENCE_S):
        async with db.query(sql, progress=True) as stream:
            await stream.start()
            for minute in (0, 80, 40):
                await db.insert("visits", [{"who": "ann", "at": minutes(minute)}])
                changes: list[tuple[str, int]] = []
                while not changes or not stream.progress.epoch_complete:
                    batch = await anext(stream)
                    changes += zip(batch.column("_op").to_pylist(), batch.column("n").to_pylist(), strict=True)
                epochs.append(sorted(changes))
    await db.execute("DROP SOURCE visits")
    return epochs


def test_a_row_between_two_sessions_merges_them(engine: Engine) -> None:
    """The two sessions are withdrawn, and one of all three rows takes their place."""
    first, second, bridged = engine.call(_bridged, engine.databases["thread"])
    assert first == [("insert", 1)]
    assert second == [("insert", 1)]
    assert Counter(op for op, _ in bridged)["delete"] >= 1
    assert [n for op, n in bridged if op != "delete"] == [3]


async def _thresholds(db: streamq.Database) -> list[set[str]]:
    """Let spending move the threshold; gives the customers above it after each epoch."""
    await db.execute("CREATE SOURCE spent (customer VARCHAR, amount BIGINT)")
    sql = (
        "SELECT customer, sum(amount) AS total FROM spent GROUP BY customer HAVING sum(amount) > "
        "(SELECT avg(t) * 2.0 FROM (SELECT sum(amount) AS t FROM spent GROUP BY customer) AS totals) EMIT CHANGES"
    )
    seen = []
    with anyio.fail_after(PATIENCE_S):
        async with db.query(sql, progress=True) as stream:
            await stream.start()
            fold = Fold(stream.changelog, stream.key, stream.schema)
            consumed = 0
            for rows in ([("a", 10), ("b", 10), ("c", 90)], [("d", 400)]):
                await db.insert("spent", [{"customer": customer, "amount": amount} for customer, amount in rows])
                consumed += len(rows)
                while stream_position(stream) < consumed or not stream.progress.epoch_complete:
                    fold.take(await anext(stream))
                    if stream.progress.epoch_complete:
                        fold.end_epoch()
                seen.append({row[0] for row in fold.answer()})
    await db.execute("DROP SOURCE spent")
    return seen


def stream_position(stream: streamq.QueryBatchStream) -> int:
    """How many rows of the source the query has consumed; 0 before the first epoch."""
    try:
        return stream.progress.positions.get("spent", 0)
    except streamq.StreamNotStarted:
        return 0


def test_rows_are_withdrawn_when_the_threshold_moves(engine: Engine) -> None:
    """Who was above twice the average is withdrawn when another's spending raises it."""
    assert engine.call(_thresholds, engine.databases["thread"]) == [{"c"}, {"d"}]
