"""Compare continuous queries with DuckDB's answer, computed once over all rows, in the same run.

Rows are Arrow batches in memory, epochs have at most 131,072 rows, and every change is read and counted. streamq and
DuckDB take turns, and the medians of their times are compared: 1.00 is as fast as DuckDB's one batch query on as many
threads as streamq has workers, less is slower. ``--rows`` and ``--runs`` make it shorter, ``--only`` picks lines.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

import anyio
import duckdb
import pyarrow as pa
from rich.console import Console

import streamq
from benchmarks.measure import duckdb_rows, milliseconds, show, time_call
from streamq.config import Executor

ROWS = 10_000_000
KEYS = 100_000
EPOCH_ROWS = 131_072
JOINED_ROWS = 1_000_000
JOINED_KEYS = 10_000
STATE_GROUPS = (100_000, 1_000_000, 10_000_000)
STATE_EPOCH = 32_768
STATE_EPOCHS = 30
AGGREGATES = "count(*) AS c, sum(quantity) AS s, avg(price) AS a, min(price) AS lo, max(id) AS hi"
FIVE_MINUTES = 300
EXECUTORS: tuple[Executor, ...] = ("process", "thread")


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table: a continuous query, and the SQL of the same answer in DuckDB."""

    name: str
    sql: str
    emit: Literal["CHANGES", "FINAL"]
    peer: str
    rows: int = ROWS


def _bucket(seconds: int) -> str:
    return f"time_bucket(INTERVAL '{seconds} seconds', ts, TIMESTAMP '1970-01-01')"


LINES = (
    Line("filter and project", "SELECT id, price * quantity AS value FROM events WHERE quantity >= 500", "CHANGES", ""),
    Line("GROUP BY 100 k int keys, 5 aggregates", f"SELECT key, {AGGREGATES} FROM events GROUP BY key", "CHANGES", ""),
    Line("the same, string keys", f"SELECT name, {AGGREGATES} FROM events GROUP BY name", "CHANGES", ""),
    Line(
        "tumble 5 min × 100 k keys",
        f"SELECT key, window_start, {AGGREGATES} FROM TUMBLE(events, ts, INTERVAL '5' MINUTE) GROUP BY key, window_start",
        "FINAL",
        f"SELECT key, {_bucket(FIVE_MINUTES)} AS window_start, {AGGREGATES} FROM events GROUP BY ALL",
    ),
    Line(
        "hop 10 min / 1 min × 100 k keys",
        "SELECT key, window_start, count(*) AS c, sum(quantity) AS s FROM HOP(events, ts, INTERVAL '1' MINUTE, INTERVAL '10' MINUTE) "
        "GROUP BY key, window_start",
        "FINAL",
        f"SELECT key, {_bucket(60)} - to_minutes(j) AS window_start, count(*) AS c, sum(quantity) AS s "
        "FROM events, range(10) AS p(j) GROUP BY ALL",
    ),
    Line(
        "interval join of two streams, ± 1 s",
        "SELECT a.id, b.id AS other FROM lefts AS a JOIN rights AS b ON a.key = b.key "
        "AND b.ts BETWEEN a.ts - INTERVAL '1' SECOND AND a.ts + INTERVAL '1' SECOND",
        "CHANGES",
        "",
        2 * JOINED_ROWS,
    ),
)


def events(rows: int, keys: int, *, seed: int = 0) -> pa.Table:
    """Make rows of random keys over an hour of event time, in order, in batches of an epoch."""
    with duckdb.connect() as connection:
        table = connection.sql(
            f"""SELECT i AS id, (hash(i + {seed}) % {keys})::BIGINT AS key, (hash(i + 1) % 100000) / 8 AS price,
                (hash(i + 2) % 1000)::INTEGER AS quantity, 'customer ' || (hash(i + {seed}) % {keys}) AS name,
                make_timestamp(1700000000000000 + (i * 3600000000 // {rows})::BIGINT) AS ts
            FROM range({rows}) AS r(i) ORDER BY i"""
        ).to_arrow_table()
    return pa.Table.from_batches(table.combine_chunks().to_batches(max_chunksize=EPOCH_ROWS))


async def changes(db: streamq.Database, sql: str) -> int:
    """Read a continuous query to its end and count its changes."""
    rows = 0
    async with db.query(sql, epoch_rows=EPOCH_ROWS) as stream:
        async for batch in stream:
            rows += batch.num_rows
    return rows


async def compare(line: Line, tables: dict[str, pa.Table], runs: int) -> list[str]:
    """Give a line of the table: DuckDB's rate, then our rate, ratio and changes on each executor."""
    workers = streamq.Config.load().workers
    with duckdb.connect(config={"threads": workers}) as peer:
        for name, rows in tables.items():
            peer.register(name, rows)
        theirs: list[float] = []
        ours: dict[Executor, list[float]] = {executor: [] for executor in EXECUTORS}
        emitted = 0
        for executor in EXECUTORS:
            async with streamq.connect(executor=executor) as db:
                for name, rows in tables.items():
                    await db.register(name, rows, watermark="ts")
                sql = f"{line.sql} EMIT {line.emit}"
                emitted = await changes(db, sql)
                for _ in range(runs):
                    theirs.append(time_call(lambda: duckdb_rows(peer, line.peer or line.sql)))
                    started = time.perf_counter()
                    await changes(db, sql)
                    ours[executor].append(time.perf_counter() - started)
    cells = [f"{_rate(line.rows, ours[executor])} ({median(theirs) / median(ours[executor]):.2f})" for executor in EXECUTORS]
    return [line.name, _rate(line.rows, theirs), *cells, f"{emitted:,}"]


def _rate(rows: int, seconds: Sequence[float]) -> str:
    return f"{rows / median(seconds) / 1e6:.1f} M/s"


async def epoch_costs(executor: Executor) -> list[float]:
    """Give the median seconds of an epoch of 32 k rows over states of more and more groups."""
    costs = []
    for groups in STATE_GROUPS:
        filling = pa.table({"key": pa.array(range(groups), pa.int64())}).append_column("quantity", pa.array([1] * groups, pa.int32()))
        more = events(STATE_EPOCH * STATE_EPOCHS, groups, seed=7).select(["key", "quantity"])
        async with streamq.connect(executor=executor, max_source_bytes=4 << 30) as db:
            await db.register("events", pa.concat_tables([filling, more]).combine_chunks())
            sql = "SELECT key, count(*) AS c, sum(quantity) AS s FROM events GROUP BY key EMIT CHANGES"
            times, position = [], 0
            async with db.query(sql, epoch_rows=STATE_EPOCH) as stream:
                started = time.perf_counter()
                async for _ in stream:
                    if stream.progress.epoch_complete:
                        position = stream.progress.positions["events"]
                        now = time.perf_counter()
                        if position > groups + STATE_EPOCH:
                            times.append(now - started)
                        started = now
        costs.append(median(times))
    return costs


async def measure(rows: int, runs: int, only: str) -> None:
    """Measure and print line by line."""
    console = Console(stderr=True)
    tables = {"events": events(rows, KEYS)}
    joined = {"lefts": events(JOINED_ROWS, JOINED_KEYS), "rights": events(JOINED_ROWS, JOINED_KEYS, seed=3)}
    lines = []
    for line in LINES:
        if only in line.name:
            console.print(f"measuring: {line.name}")
            lines.append(await compare(line, joined if "lefts" in line.sql else tables, runs))
    headings = ["", "DuckDB, once", "process (of DuckDB)", "thread (of DuckDB)", "changes"]
    show(f"{rows:,} rows, epochs of {EPOCH_ROWS:,}, every change read", headings, lines)
    if only in "cost of an epoch":
        del tables
        console.print("measuring: cost of an epoch over states of more and more groups")
        costs = {executor: await epoch_costs(executor) for executor in EXECUTORS}
        table = [
            [executor, *map(milliseconds, cost), f"{cost[2] / cost[1]:.2f}", f"{cost[2] / cost[0]:.2f}"] for executor, cost in costs.items()
        ]
        groups = [f"{count:,} groups" for count in STATE_GROUPS]
        show(f"an epoch of {STATE_EPOCH:,} rows", ["executor", *groups, "10 M to 1 M", "10 M to 100 k"], table)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="", help="measure lines with this in their name")
    options = parser.parse_args()
    anyio.run(measure, options.rows, options.runs, options.only)


if __name__ == "__main__":
    main()
