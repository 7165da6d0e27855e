"""Compare scans, aggregates and sorts with DuckDB itself, on the same file, with as many threads as streamq has workers.

streamq and DuckDB take turns, and the medians of their times are compared: 1.00 is as fast as DuckDB, less is slower.
Time to the first batch and time to let go are not compared but given. ``--rows`` and ``--runs`` make it shorter.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import anyio
import duckdb

import streamq
from benchmarks.data import NUMERIC, ROWS, measured_file
from benchmarks.measure import duckdb_rows, milliseconds, percentile, ratio, show, stream_rows, tell, time_await, time_call
from streamq.config import Executor

QUERIES = {
    "stream 4 numeric columns": f"SELECT {NUMERIC} FROM {{}}",
    "stream all columns, with strings": "SELECT * FROM {}",
    "GROUP BY 100 k keys, 5 aggregates": "SELECT key, count(*) AS c, sum(price) AS s, avg(quantity) AS a, min(price) AS lo, max(id) AS hi "
    "FROM {} GROUP BY key",
    "ORDER BY … LIMIT 100": "SELECT * FROM {} ORDER BY price DESC, id LIMIT 100",
}
EXECUTORS: tuple[Executor, ...] = ("process", "thread")
LETTING_GO = 40


async def measure(path: Path, runs: int) -> list[list[str]]:
    """Give the rows of the table: a line per query, a column per executor."""
    config = streamq.Config.load()
    lines = {name: [name] for name in (*QUERIES, "first batch of SELECT *, warm", "aclose(), p99")}
    with duckdb.connect(config={"threads": config.workers}) as peer:
        for executor in EXECUTORS:
            async with streamq.connect(executor=executor) as db:
                await db.register("measured", path)
                for name, sql in QUERIES.items():
                    tell(f"{executor}: {name}")
                    lines[name].append(await _compare(db, peer, sql, path, runs))
                tell(f"{executor}: first batch, aclose()")
                first, closing = await _let_go(db)
                lines["first batch of SELECT *, warm"].append(milliseconds(percentile(first, 50)))
                lines["aclose(), p99"].append(milliseconds(percentile(closing, 99)))
    return list(lines.values())


async def _compare(db: streamq.Database, peer: duckdb.DuckDBPyConnection, sql: str, path: Path, runs: int) -> str:
    ours_sql, peer_sql = sql.format("measured"), sql.format(f"read_parquet('{path}')")
    await stream_rows(db, ours_sql)
    duckdb_rows(peer, peer_sql)
    ours, theirs = [], []
    for _ in range(runs):
        theirs.append(time_call(lambda: duckdb_rows(peer, peer_sql)))
        ours.append(await time_await(lambda: stream_rows(db, ours_sql)))
    return ratio(theirs, ours)


async def _let_go(db: streamq.Database) -> tuple[list[float], list[float]]:
    """Time the first batch of a full scan, and closing it then."""
    first, closing = [], []
    for _ in range(LETTING_GO):
        stream = db.query("SELECT * FROM measured")
        first.append(await time_await(lambda stream=stream: anext(stream)))  # type: ignore[misc]
        closing.append(await time_await(stream.aclose))
    return first, closing


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    lines = anyio.run(measure, measured_file(options.rows), options.runs)
    show(f"{options.rows:,} rows: speed as a part of DuckDB's", ["", "process pool", "thread executor"], lines)


if __name__ == "__main__":
    main()
