"""Measure the time from an insert to the reader's sight of its change, and of inserts beside scans.

A filter and a GROUP BY over 1,000 keys follow a source that gets rows at a steady rate, in batches of a hundredth of a second's
rows. A batch has been seen when the epoch that consumed its last row has been read; the first second is not counted.
Then, 1,000-row inserts are timed beside full scans and a continuous query.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import anyio
import numpy as np
import pyarrow as pa

import streamq
from benchmarks.data import measured_file
from benchmarks.measure import milliseconds, percentile, show, stream_rows, time_await

RATES = (1_000, 100_000)
SECONDS = 10
BATCHES_A_SECOND = 100
KEYS = 1_000
SCANS = 4
INSERTS = 300
SQL = "SELECT key, count(*) AS n, sum(value) AS s FROM pushed WHERE value >= 0 GROUP BY key EMIT CHANGES"
COLUMNS = "key BIGINT, value BIGINT"


def batch(rows: int, seed: int) -> pa.RecordBatch:
    """Make rows of random keys."""
    random = np.random.default_rng(seed)
    return pa.record_batch({"key": random.integers(0, KEYS, rows), "value": random.integers(-10, 1000, rows)})


async def insert_to_change(rate: int, seconds: int) -> list[float]:
    """Give, per batch, the seconds from the begin of its insert until its change was read."""
    sent: list[tuple[int, float]] = []
    latencies: list[float] = []
    async with streamq.connect() as db:
        await db.execute(f"CREATE SOURCE pushed ({COLUMNS}) WITH (retention_rows = 1000000)")

        async def push() -> None:
            total, began = 0, time.perf_counter()
            for number in range(seconds * BATCHES_A_SECOND):
                await anyio.sleep(max(0.0, began + number / BATCHES_A_SECOND - time.perf_counter()))
                rows = batch(max(rate // BATCHES_A_SECOND, 1), number)
                total += rows.num_rows
                sent.append((total, time.perf_counter()))
                await db.insert("pushed", rows)
            await db.finish("pushed")

        async with db.query(SQL, progress=True) as stream, anyio.create_task_group() as pushing:
            await stream.start()
            pushing.start_soon(push)
            async for _ in stream:
                if stream.progress.epoch_complete:
                    seen, now = stream.progress.positions.get("pushed", 0), time.perf_counter()
                    while len(latencies) < len(sent) and sent[len(latencies)][0] <= seen:
                        latencies.append(now - sent[len(latencies)][1])
    return latencies[BATCHES_A_SECOND:]


async def inserts_beside_scans(path: Path) -> list[float]:
    """Give the seconds of 1,000-row inserts beside four full scans and a continuous query."""
    latencies: list[float] = []
    async with streamq.connect() as db:
        await db.register("measured", path)
        await db.execute(f"CREATE SOURCE pushed ({COLUMNS})")

        async def scan() -> None:
            while True:
                await stream_rows(db, "SELECT * FROM measured")

        async def follow() -> None:
            async for _ in db.query(SQL):
                pass

        async with anyio.create_task_group() as beside:
            for _ in range(SCANS):
                beside.start_soon(scan)
            beside.start_soon(follow)
            for number in range(INSERTS):
                rows = batch(1_000, number)
                latencies.append(await time_await(lambda rows=rows: db.insert("pushed", rows)))  # type: ignore[misc]
                await anyio.sleep(0.02)
            beside.cancel_scope.cancel()
    return latencies


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=SECONDS)
    options = parser.parse_args()
    lines = []
    for rate in RATES:
        latencies = anyio.run(insert_to_change, rate, options.seconds)
        lines.append([f"{rate:,} rows/s", *(milliseconds(percentile(latencies, percent)) for percent in (50, 99))])
    show("insert to change seen: filter, GROUP BY over 1,000 keys", ["", "p50", "p99"], lines)
    latencies = anyio.run(inserts_beside_scans, measured_file())
    beside = f"{SCANS} scans and a continuous query"
    show("insert of 1,000 rows", ["", "p50", "p99"], [[f"beside {beside}", *(milliseconds(percentile(latencies, p)) for p in (50, 99))]])


if __name__ == "__main__":
    main()
