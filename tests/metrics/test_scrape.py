"""A live database, scraped from other threads while its queries run."""

from __future__ import annotations

from collections.abc import Mapping

import anyio
import anyio.lowlevel
import anyio.to_thread
import pyarrow as pa
import pytest

import streamq
from streamq.metrics import collector
from tests.conftest import BACKENDS

prometheus_client = pytest.importorskip("prometheus_client")
parser = pytest.importorskip("prometheus_client.parser")

pytestmark = pytest.mark.anyio
ROWS = 100_000
SNAPSHOT = ("kind", "snapshot")
CONTINUOUS = ("kind", "continuous")
COUNTERS = ("streamq_rows_in_total", "streamq_rows_out_total", "streamq_batches_out_total", "streamq_bytes_out_total")
TRIO = pytest.mark.parametrize("anyio_backend", BACKENDS[-1:], indirect=True, scope="module")
ASYNCIO = pytest.mark.parametrize("anyio_backend", BACKENDS[:1], indirect=True, scope="module")

Samples = Mapping[tuple[str, tuple[tuple[str, str], ...]], float]


def scrape(registry: prometheus_client.CollectorRegistry) -> Samples:
    text = prometheus_client.generate_latest(registry).decode()
    families = parser.text_string_to_metric_families(text)
    return {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for family in families for sample in family.samples}


def registry_of(db: streamq.Database) -> prometheus_client.CollectorRegistry:
    registry = prometheus_client.CollectorRegistry()
    registry.register(collector(db))
    return registry


@TRIO
async def test_a_running_query_is_counted_by_a_scrape_from_a_thread() -> None:
    """Its rows so far are in the totals, its strategy and relation among the labels."""
    async with streamq.connect(executor="thread") as db:
        registry = registry_of(db)
        await db.register("numbers", pa.table({"id": range(ROWS)}))
        async with db.query("SELECT id FROM numbers", batch_rows=1_000) as stream:
            batch = await anext(aiter(stream))
            samples = await anyio.to_thread.run_sync(scrape, registry)
    assert samples["streamq_queries_running", (SNAPSHOT,)] == 1
    assert samples["streamq_rows_out_total", (SNAPSHOT,)] == batch.num_rows
    assert samples["streamq_query_strategies_total", (("strategy", "Passthrough"),)] == 1
    assert samples["streamq_relation_rows", (("kind", "registered"),)] == ROWS


@ASYNCIO
async def test_what_ended_is_counted_by_how_it_ended() -> None:
    """Completed, failed and left early."""
    async with streamq.connect(executor="thread") as db:
        await db.register("numbers", pa.table({"id": range(ROWS)}))
        await db.fetch("SELECT count(*) FROM numbers")
        with pytest.raises(streamq.DataError):
            await db.fetch("SELECT 1 // (id - id) FROM numbers")
        async with db.query("SELECT id FROM numbers", batch_rows=1_000) as stream:
            await anext(aiter(stream))
        samples = await anyio.to_thread.run_sync(scrape, registry_of(db))
    assert samples["streamq_queries_running", (SNAPSHOT,)] == 0
    for outcome in ("completed", "failed", "cancelled"):
        assert samples["streamq_queries_total", (SNAPSHOT, ("outcome", outcome))] == 1
    assert samples["streamq_channel_bytes", ()] == 0


@TRIO
async def test_counters_never_go_down() -> None:
    """Not while queries start, run and end beside the scrapes, which run in a thread of their own."""
    seen: list[Samples] = []
    async with streamq.connect(executor="thread") as db:
        registry = registry_of(db)
        await db.register("numbers", pa.table({"id": range(ROWS)}))
        busy = True

        async def scrape_all_the_time() -> None:
            while busy:
                seen.append(await anyio.to_thread.run_sync(scrape, registry))

        async def query() -> None:
            for _ in range(4):
                await db.fetch("SELECT id FROM numbers")

        async with anyio.create_task_group() as scrapes:
            scrapes.start_soon(scrape_all_the_time)
            async with anyio.create_task_group() as queries:
                for _ in range(3):
                    queries.start_soon(query)
            busy = False
        seen.append(scrape(registry))
    for name in COUNTERS:
        values = [samples[name, (SNAPSHOT,)] for samples in seen]
        assert values == sorted(values)
    for name in ("streamq_rows_in_total", "streamq_rows_out_total"):
        assert seen[-1][name, (SNAPSHOT,)] == 12 * ROWS


@ASYNCIO
async def test_a_running_continuous_query_is_counted_by_a_scrape_from_a_thread() -> None:
    """What it has read, what came too late, how far its watermark is behind the clock, and what it keeps."""
    async with streamq.connect(executor="thread") as db:
        registry = registry_of(db)
        await db.execute("CREATE SOURCE clicks (ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '5' SECOND)")
        await db.execute("INSERT INTO clicks VALUES ('2026-05-01 12:00:00'), ('2026-05-01 12:02:00'), ('2026-05-01 12:00:30')")
        sql = "SELECT window_start, count(*) AS n FROM TUMBLE(clicks, ts, INTERVAL '1' MINUTE) GROUP BY window_start EMIT FINAL"
        async with db.query(sql) as stream:
            with anyio.fail_after(20):
                await anext(aiter(stream))
            samples = await anyio.to_thread.run_sync(scrape, registry)
    assert [samples[f"streamq_{name}", (CONTINUOUS,)] for name in ("queries_running", "rows_in_total")] == [1, 3]
    assert [samples[f"streamq_{name}", ()] for name in ("epoch_duration_seconds_count", "late_rows_total")] == [1, 1]
    assert samples["streamq_query_strategies_total", (("strategy", "Continuous"),)] == 1
    assert samples["streamq_state_bytes", (("operator", "aggregate"),)] > 0
    assert ("streamq_watermark_lag_seconds", ()) in samples


@TRIO
async def test_a_stalled_reader_shows_while_it_stalls() -> None:
    """Rows wait for it, tasks wait for room: both grow from one scrape to the next, though nothing ends."""
    waits = ("client", "channel")
    async with streamq.connect(executor="thread", workers=1) as db:
        registry = registry_of(db)
        await db.register("numbers", pa.table({"id": range(ROWS)}))
        async with db.query("SELECT a.id FROM numbers a, numbers b", batch_rows=32_768) as stream:
            await anext(aiter(stream))
            with anyio.fail_after(20):
                while not all(stalled(scrape(registry), stage) > 0 for stage in waits):
                    await anyio.lowlevel.checkpoint()
                before = scrape(registry)
                while not all(stalled(scrape(registry), stage) > stalled(before, stage) for stage in waits):
                    await anyio.lowlevel.checkpoint()


def stalled(samples: Samples, stage: str) -> float:
    return samples["streamq_query_wait_seconds_total", (SNAPSHOT, ("stage", stage))]


@ASYNCIO
async def test_a_query_that_computes_waits_for_its_workers() -> None:
    """And one that has read everything for its source: each is seen while it lasts."""
    async with streamq.connect(executor="thread", workers=1) as db:
        registry = registry_of(db)
        await db.execute("CREATE SOURCE clicks (n BIGINT)")
        await db.register("numbers", pa.table({"id": range(ROWS)}))
        follow = db.query("SELECT n FROM clicks EMIT CHANGES")
        compute = db.query("SELECT max(hash(a.id, b.id)) FROM numbers a, numbers b")
        async with follow, compute, anyio.create_task_group() as tasks:
            tasks.start_soon(anext, compute)
            with anyio.fail_after(20):
                for waiting in ((SNAPSHOT, ("stage", "worker")), (CONTINUOUS, ("stage", "source"))):
                    before = scrape(registry)["streamq_query_wait_seconds_total", waiting]
                    while scrape(registry)["streamq_query_wait_seconds_total", waiting] < before + 0.01:
                        await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()


@TRIO
async def test_nothing_of_a_query_is_in_a_label() -> None:
    """Not its text, its parameters, the names of relations and columns, nor what it failed with."""
    async with streamq.connect(executor="thread", workers=1) as db:
        await db.register("hunter2", pa.table({"hunter3": [1, 2]}))
        await db.fetch("SELECT list_transform([1], lambda hunter4: hunter4 + hunter3) AS hunter5 FROM hunter2")
        await db.fetch("SELECT hunter2 FROM hunter2 WHERE hunter3 < $hunter6", {"hunter6": 7})
        with pytest.raises(streamq.DataError):
            await db.fetch("SELECT CAST('hunter7' || hunter3 AS INTEGER) FROM hunter2")
        text = prometheus_client.generate_latest(registry_of(db)).decode()
    assert "hunter" not in text
