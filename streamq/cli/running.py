"""`streamq queries` and `streamq cancel`: what runs in a service, and its end."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import ROUNDED
from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamq.cli.arguments import CancelCommand, QueriesCommand
from streamq.cli.opening import open_database
from streamq.cli.results import Results
from streamq.cli.sink import open_sink
from streamq.cli.table import drawn, plain_line
from streamq.cli.terminal import Terminal
from streamq.cli.wording import count, duration
from streamq.errors import StreamqError
from streamq.execution.statements import queries_table
from streamq.execution.statistics import QueryStatistics
from streamq.plan.sizes import human_bytes

_ANY_WIDTH = 200
"""Where there is no terminal, the SQL is cut here."""


async def run_queries(command: QueriesCommand, terminal: Terminal) -> None:
    """Run `streamq queries`.

    Raises:
        StreamqError: the service cannot be asked.
    """
    async with open_database(command.service) as db:
        running = await db.queries()
    with open_sink(None) as sink:
        results = Results(sink, command.format, terminal, lasting=True)
        if command.format == "table":
            await results.write_text(describe_queries(running, terminal))
        else:
            await results.write_table(queries_table(running))


async def run_cancel(command: CancelCommand, notes: Console) -> None:
    """Run `streamq cancel`: all that run are ended, and then those that do not are named.

    Raises:
        StreamqError: a query does not run, or the service cannot be asked.
    """
    async with open_database(command.service) as db:
        absent = [query_id for query_id in command.query_ids if not await db.cancel(query_id)]
    if cancelled := len(command.query_ids) - len(absent):
        notes.print(f"{count(cancelled, 'query', 'queries')} cancelled", style="dim")
    if absent:
        raise StreamqError(f"no such query runs: {', '.join(absent)}; `streamq queries` lists those that do")


def describe_queries(running: Sequence[QueryStatistics], terminal: Terminal) -> str:
    """Draw a table of running queries."""
    if not running:
        return "no query runs\n"
    table = Table(box=ROUNDED, header_style="bold")
    for name in ("id", "runs for", "rows out"):
        table.add_column(name, justify="left" if name == "id" else "right", no_wrap=True)
    table.add_column("continuous", no_wrap=True)
    table.add_column("SQL", no_wrap=True, overflow="ellipsis", ratio=1)
    for query in running:
        sql = Text(plain_line(query.sql))
        if query.view is not None:
            sql = Text.assemble((f"view {query.view}: ", "dim"), sql)
        table.add_row(query.query_id, duration(query.elapsed_s), f"{query.rows_out:,}", _describe_continuous(query), sql)
    return drawn(table, width=terminal.width or _ANY_WIDTH, color=terminal.color) + count(len(running), "query", "queries") + "\n"


def _describe_continuous(query: QueryStatistics) -> Text:
    """Say what only a query with EMIT has."""
    if (continuous := query.continuous) is None:
        return Text("")
    parts = [f"{continuous.total_rows_in:,} in"]
    if continuous.late_rows:
        parts.append(f"{continuous.late_rows:,} late")
    if continuous.watermark_lag_s is not None:
        parts.append(f"{duration(max(0.0, continuous.watermark_lag_s))} behind")
    return Text(" · ".join([*parts, f"keeps {human_bytes(continuous.state_bytes)}"]))
