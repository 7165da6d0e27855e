"""Which partition strategy a query gets, through EXPLAIN, and that the parallelism asked for is the parallelism used."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pyarrow as pa
import pytest

import streamq
from streamq.config import usable_cpus

pytestmark = [pytest.mark.anyio, pytest.mark.by_turns]
ROWS = 4_000


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """One event loop is enough: planning needs none."""
    return "asyncio", {}


@pytest.fixture(scope="module")
async def db(anyio_backend: object) -> AsyncIterator[streamq.Database]:
    """Sources that are too large to be given whole to every task, one table that is not."""
    async with streamq.connect(executor="thread", workers=2, target_partitions=4, broadcast_bytes=5_000) as db:
        rows = pa.table({"id": range(ROWS), "customer": [n % 50 for n in range(ROWS)], "value": [n * 7 % 1000 for n in range(ROWS)]})
        for name, keys in (("orders", ""), ("by_customer", "PARTITION BY (customer)"), ("payments", "PARTITION BY (customer)")):
            columns = "id BIGINT, customer BIGINT, value BIGINT, ts TIMESTAMP, tags VARCHAR[]"
            await db.execute(f"CREATE SOURCE {name} ({columns}) {keys} WITH (shards = 4)")
            for first in range(0, ROWS, ROWS // 4):
                await db.insert(name, rows.slice(first, ROWS // 4))
        await db.execute("CREATE TABLE customers (customer BIGINT PRIMARY KEY, tier VARCHAR)")
        await db.insert("customers", [{"customer": n, "tier": "gold"} for n in range(50)])
        yield db


async def explained(db: streamq.Database, sql: str) -> str:
    return await db.explain(f"{sql} WITH (target_partitions = 4)")


@pytest.mark.parametrize(
    ("sql", "strategy"),
    [
        ("SELECT id, value * 2 AS doubled FROM orders WHERE value > 100", "Passthrough(round_robin)"),
        ("SELECT id FROM orders LIMIT 3", "Passthrough(round_robin)"),
        ("SELECT count(*), avg(value), min(value) FROM orders", "TwoPhaseAggregation"),
        ("SELECT DISTINCT customer FROM orders", "TwoPhaseAggregation"),
        ("SELECT count(DISTINCT customer) FROM orders", "TwoPhaseAggregation"),
        ("SELECT customer, count(*) FROM orders GROUP BY customer", "TwoPhaseAggregation"),
        ("SELECT customer, count(*) FROM by_customer GROUP BY customer", "FullyPartitionable(customer)"),
        ("SELECT customer, median(value) FROM orders GROUP BY customer", "FullyPartitionable(customer)"),
        ("SELECT id, rank() OVER (PARTITION BY customer ORDER BY value) FROM orders", "FullyPartitionable(customer)"),
        ("SELECT id, lead(id) OVER (ORDER BY id) FROM orders", "Passthrough(single)"),
        ("SELECT o.id, c.tier FROM orders o LEFT JOIN customers c ON o.customer = c.customer", "BroadcastJoin(customers)"),
        ("SELECT a.id FROM by_customer a JOIN payments b ON a.customer = b.customer", "FullyPartitionable(customer)"),
        (
            "SELECT a.id FROM by_customer a JOIN payments b ON a.customer = b.customer AND b.ts BETWEEN a.ts - INTERVAL 1 SECOND "
            "AND a.ts + INTERVAL 1 SECOND",
            "FullyPartitionable(customer)",
        ),
        (
            "SELECT a.customer, b.customer AS other, count(DISTINCT a.id) AS n FROM orders a JOIN orders b "
            "ON a.value = b.value AND a.customer != b.customer GROUP BY 1, 2",
            "RepartitionRequired(round robin → value)",
        ),
        (
            "SELECT customer, sum(value) AS s FROM orders GROUP BY customer HAVING sum(value) > "
            "(SELECT avg(t) * 2 FROM (SELECT sum(value) AS t FROM orders GROUP BY customer) AS x)",
            "TwoPhaseAggregation",
        ),
        ("SELECT tag, count(*) FROM orders CROSS JOIN UNNEST(tags) AS tag GROUP BY tag", "TwoPhaseAggregation"),
        (
            "SELECT customer, count(*) FROM orders GROUP BY customer, TUMBLING(ts, INTERVAL '1' MINUTE)",
            "TwoPhaseAggregation",
        ),
    ],
)
async def test_the_strategy_fits_the_whole_query(db: streamq.Database, sql: str, strategy: str) -> None:
    """Joins, subqueries and window functions decide before GROUP BY does, and EXPLAIN gives the reason."""
    text = await explained(db, sql)
    assert text.splitlines()[0] == f"strategy: {strategy}"
    assert text.splitlines()[1].startswith(("  because ", "  with "))


async def test_elements_are_unnested_before_they_are_grouped(db: streamq.Database) -> None:
    """The scan's own tasks unnest and aggregate; only partial groups go on."""
    scan = (await explained(db, "SELECT tag, count(*) FROM orders CROSS JOIN UNNEST(tags) AS tag GROUP BY tag")).split("stage 1")[0]
    assert scan.index("UNNEST") < scan.index("GROUP BY")


async def test_window_expressions_are_no_partition_keys(db: streamq.Database) -> None:
    """A partitioned source that is grouped by its key and a time window is read partition by partition, by the key alone."""
    sql = "SELECT customer, count(*) FROM by_customer GROUP BY customer, TUMBLING(ts, INTERVAL '1' MINUTE)"
    assert (await explained(db, sql)).startswith("strategy: FullyPartitionable(customer)")


async def test_a_plan_is_always_the_same(db: streamq.Database) -> None:
    """Planning the same query over the same rows again gives the same text."""
    sql = "SELECT a.customer, count(*) FROM orders a JOIN payments b ON a.id = b.id GROUP BY a.customer"
    assert len({await explained(db, sql) for _ in range(5)}) == 1


@pytest.mark.parametrize(("asked", "effective"), [(-3, 1), (0, 1), (1, 1), (5, 5), (257, 256), (10**9, 256)])
async def test_the_number_of_partitions_is_clamped_and_shown(db: streamq.Database, asked: int, effective: int) -> None:
    """WITH (target_partitions) and `partitions=` hold for one query, between 1 and 256; EXPLAIN shows what they came to."""
    sql = "SELECT customer, median(value) AS m FROM orders GROUP BY customer"
    assert f"\ntarget_partitions: {effective}\n" in await db.explain(f"{sql} WITH (target_partitions = {asked})")
    assert "\ntarget_partitions: 4\n" in await db.explain(sql)
    async with db.query(sql, partitions=asked) as stream:
        assert (await stream.read_all()).num_rows == 50
        merging = (await stream.statistics()).stages[-1]
    assert merging.tasks == effective


async def test_the_database_has_a_number_of_partitions(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the usable processors, or STREAMQ_TARGET_PARTITIONS, or the argument, the later before the earlier."""

    async def shown(target_partitions: int | None = None) -> str:
        async with streamq.connect(target_partitions=target_partitions) as db:
            text = await db.explain("SELECT 1 AS one")
        return next(line for line in text.splitlines() if line.startswith("target_partitions"))

    monkeypatch.delenv("STREAMQ_TARGET_PARTITIONS", raising=False)
    assert await shown() == f"target_partitions: {usable_cpus()}"
    monkeypatch.setenv("STREAMQ_TARGET_PARTITIONS", "300")
    assert await shown() == "target_partitions: 256"
    assert await shown(target_partitions=3) == "target_partitions: 3"


async def test_natural_parallelism_is_shown(db: streamq.Database) -> None:
    """EXPLAIN shows how many tasks a relation can feed: its splits or its partitions, never more than there are."""
    for relation, natural in (("orders", 4), ("customers", 1)):
        assert f"\nnatural parallelism: {natural}\n" in await explained(db, f"SELECT * FROM {relation}")
    for sql in (
        "SELECT customer, count(*) FROM by_customer GROUP BY customer",
        "SELECT a.id FROM by_customer a JOIN payments b ON a.customer = b.customer",
    ):
        assert "\nnatural parallelism: 4\n" in await explained(db, sql)
    await db.execute("CREATE SOURCE thousand (id BIGINT) WITH (shards = 1)")
    await db.insert("thousand", pa.table({"id": range(1_000)}))
    assert "\nnatural parallelism: 1\n" in await explained(db, "SELECT * FROM thousand")


async def test_more_tasks_than_workers_even_out(db: streamq.Database) -> None:
    """There are more leases than workers where a relation has the splits for it, and EXPLAIN ANALYZE shows each worker's part."""
    await db.register("pieces", pa.concat_tables([pa.table({"id": range(n, n + 122_880)}) for n in range(0, 1_228_800, 122_880)]))
    async with db.query("SELECT count(*) AS c FROM pieces", partitions=2) as stream:
        assert (await stream.read_all()).to_pylist() == [{"c": 1_228_800}]
        statistics = await stream.statistics()
    (scan,) = statistics.scans
    assert (scan.max_parallelism, scan.splits, scan.rows_done) == (10, 10, 1_228_800)
    assert scan.leases > 2
    stage = statistics.stages[0]
    assert sum(worker.rows for worker in stage.workers) == stage.rows == scan.leases
    assert all(worker.bytes > 0 and worker.busy_s > 0 for worker in stage.workers)
    assert stage.balance >= 1
    text = await db.explain("SELECT count(*) AS c FROM pieces WITH (target_partitions = 2)", analyze=True)
    assert "balance" in text
    assert "worker 0: " in text
