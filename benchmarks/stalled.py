"""Measure the memory of all processes while the reader of a full scan stalls.

The reader takes the first batches and then none, while time passes; then it reads the rest, which must be whole.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import anyio

import streamq
from benchmarks.data import ROWS, measured_file
from benchmarks.measure import BATCH_ROWS, megabytes, resident_bytes, show, tell
from benchmarks.scan import EXECUTORS
from streamq.config import Executor

FIRST_BATCHES = 32
LEAST_ROWS = 4 * FIRST_BATCHES * BATCH_ROWS
"""With fewer, the reader would stall when hardly any rows are left."""
STALL_S = 10
SAMPLES = 20


async def measure(path: Path, rows: int, executor: Executor) -> list[str]:
    """Give a line of the table: memory after the first batches, the most while stalled, the growth, what was read ahead."""
    async with streamq.connect(executor=executor) as db:
        await db.register("measured", path)
        async with db.query("SELECT * FROM measured") as stream:
            seen = 0
            for _ in range(FIRST_BATCHES):
                seen += (await anext(stream)).num_rows
            tell(f"{executor}: the reader stalls for {STALL_S} s")
            before = resident_bytes()
            most = before
            for _ in range(SAMPLES):
                await anyio.sleep(STALL_S / SAMPLES)
                most = max(most, resident_bytes())
            ahead = (await stream.statistics()).channel_bytes
            tell(f"{executor}: reading the rest")
            async for batch in stream:
                seen += batch.num_rows
        if seen != rows:
            raise SystemExit(f"{executor}: the stalled reader got {seen} of {rows} rows")
    return [executor, megabytes(before), megabytes(most), megabytes(most - before), megabytes(ahead)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    options = parser.parse_args()
    if options.rows < LEAST_ROWS:
        parser.error(f"--rows must be at least {LEAST_ROWS:,}: the reader takes {FIRST_BATCHES} batches before it stalls")
    path = measured_file(options.rows)
    lines = [anyio.run(measure, path, options.rows, executor) for executor in EXECUTORS]
    headings = ["executor", f"after {FIRST_BATCHES} batches", f"most in {STALL_S} s", "growth", "waiting for the reader"]
    show(f"{options.rows:,} rows, stalled reader: memory of all processes", headings, lines)


if __name__ == "__main__":
    main()
