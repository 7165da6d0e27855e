"""Clocks, processes and tables."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from statistics import median, quantiles

import duckdb
import psutil
from rich.console import Console
from rich.table import Table

import streamq

BATCH_ROWS = 32_768


async def stream_rows(db: streamq.Database, sql: str) -> int:
    """Read a query's batches as they come and count the rows."""
    rows = 0
    async with db.query(sql, batch_rows=BATCH_ROWS) as stream:
        async for batch in stream:
            rows += batch.num_rows
    return rows


def duckdb_rows(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    """Read the same from DuckDB, as a stream of Arrow batches."""
    return sum(batch.num_rows for batch in connection.sql(sql).to_arrow_reader(BATCH_ROWS))


def time_call(call: Callable[[], object]) -> float:
    """Give the seconds that a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


async def time_await(call: Callable[[], Awaitable[object]]) -> float:
    """Give the seconds that an awaited call takes."""
    started = time.perf_counter()
    await call()
    return time.perf_counter() - started


def percentile(values: Sequence[float], percent: int) -> float:
    """Give a percentile of at least two values.

    >>> percentile([1.0, 2.0, 3.0], 50)
    2.0
    """
    return quantiles(values, n=100, method="inclusive")[percent - 1]


def ratio(peer: Sequence[float], ours: Sequence[float]) -> str:
    """Give our speed as a part of the peer's: the ratio of the median times."""
    return f"{median(peer) / median(ours):.2f}"


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds >= 0.01 else f"{seconds * 1000:.1f} ms"


def megabytes(count: float) -> str:
    return f"{count / (1 << 20):.0f} MB"


def resident_bytes() -> int:
    """Add up the memory of this process and its children. Pages that several of them share count once, where the system tells."""
    this = psutil.Process()
    return sum(resident(process) for process in (this, *this.children(recursive=True)))


def tell(what: str) -> None:
    """Say on standard error what is measured now."""
    print(f"… {what}", file=sys.stderr, flush=True)


def show(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table."""
    table = Table(title=title, title_justify="left", title_style="bold")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row)
    console = Console()
    console.print(table)
    versions = f"Python {sys.version.split()[0]}, DuckDB {duckdb.__version__}"
    console.print(f"{streamq.Config.load().workers} workers, {os.cpu_count()} processors, {versions}\n")


def resident(process: psutil.Process) -> int:
    """Give the memory of a process; nothing once it has ended."""
    try:
        memory = process.memory_full_info()
    except psutil.NoSuchProcess:
        return 0
    return int(getattr(memory, "pss", memory.rss))
