"""Measure two hundred queries at once, and one-row queries beside eight full scans."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import anyio
import pyarrow as pa

import streamq
from benchmarks.data import ROWS, measured_file
from benchmarks.measure import megabytes, milliseconds, percentile, resident_bytes, show, stream_rows, tell, time_await
from benchmarks.scan import EXECUTORS
from streamq.config import Executor

QUERIES = 200
SCANS = 8
SMALL_QUERIES = 100


async def measure(path: Path, executor: Executor) -> list[str]:
    """Give a line of the table."""
    async with streamq.connect(executor=executor) as db:
        await db.register("measured", path)
        await db.register("small", pa.table({"id": range(1000), "name": [f"name {n}" for n in range(1000)]}))
        await stream_rows(db, "SELECT count(*) AS c FROM measured")
        tell(f"{executor}: {QUERIES} queries at once")
        seconds, most = await _many(db)
        tell(f"{executor}: {SMALL_QUERIES} queries for one row beside {SCANS} full scans")
        latencies = await _beside_scans(db)
    small = [milliseconds(percentile(latencies, percent)) for percent in (50, 99)]
    return [executor, f"{seconds:.1f} s", f"{QUERIES / seconds:.0f}", megabytes(most), *small]


async def _many(db: streamq.Database) -> tuple[float, int]:
    """Run the two hundred; give the seconds they took and the memory they grew by. Wrong answers end the program."""
    before = most = resident_bytes()
    started = time.perf_counter()
    done = anyio.Event()

    async def watch() -> None:
        nonlocal most
        while not done.is_set():
            most = max(most, resident_bytes())
            await anyio.sleep(0.1)

    async def ask(number: int) -> None:
        first, end = number * 1000, number * 1000 + 50_000
        answer = await db.fetch(f"SELECT count(*) AS c, sum(id) AS s FROM measured WHERE id >= {first} AND id < {end}")
        if answer.to_pylist() != [{"c": end - first, "s": (first + end - 1) * (end - first) // 2}]:
            raise SystemExit(f"query {number} got {answer.to_pylist()}")

    async with anyio.create_task_group() as watching:
        watching.start_soon(watch)
        async with anyio.create_task_group() as asking:
            for number in range(QUERIES):
                asking.start_soon(ask, number)
        done.set()
    return time.perf_counter() - started, most - before


async def _beside_scans(db: streamq.Database) -> list[float]:
    """Give the latencies of one-row queries, one after the other, while eight full scans run again and again."""
    latencies = []

    async def scan() -> None:
        while True:
            await stream_rows(db, "SELECT * FROM measured")

    async with anyio.create_task_group() as scanning:
        for _ in range(SCANS):
            scanning.start_soon(scan)
        for number in range(SMALL_QUERIES):
            latencies.append(await time_await(lambda number=number: db.fetch("SELECT name FROM small WHERE id = ?", [number])))  # type: ignore[misc]
        scanning.cancel_scope.cancel()
    return latencies


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    options = parser.parse_args()
    path = measured_file(options.rows)
    lines = [anyio.run(measure, path, executor) for executor in EXECUTORS]
    headings = ["executor", f"{QUERIES} queries", "a second", "memory growth", f"one row beside {SCANS} scans, p50", "p99"]
    show(f"{options.rows:,} rows: many queries at once", headings, lines)


if __name__ == "__main__":
    main()
