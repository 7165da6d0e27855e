"""EXPLAIN and EXPLAIN ANALYZE of a planned query."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime

from streamq.execution.planning import PlannedContinuous, PlannedQuery
from streamq.execution.query import Query, RunningQuery
from streamq.execution.statistics import ContinuousStatistics, QueryStatistics
from streamq.plan.continuous import explain_dataflow
from streamq.plan.explain import WIDTH, explain
from streamq.plan.sizes import human_bytes


def explain_query(planned: PlannedQuery) -> str:
    """Describe how a query would run."""
    return explain(planned.plan, planned.snapshots, planned.scans, planned.executor, planned.target_partitions)


def explain_continuous(planned: PlannedContinuous) -> str:
    """Describe how a query with EMIT would run: its operators, what they keep, what it emits."""
    return explain_dataflow(planned.dataflow, executor=planned.executor)


async def analyze_query(planned: PlannedQuery, query: Query) -> str:
    """Read a started query to its end, dropping the rows, and describe how it ran.

    Raises:
        QueryError, SourceError: it failed.
    """
    while await query.receive() is not None:
        pass
    return explain(planned.plan, planned.snapshots, planned.scans, planned.executor, planned.target_partitions, query.statistics())


async def analyze_continuous(planned: PlannedContinuous, query: RunningQuery) -> str:
    """Read a started query with EMIT to its end, dropping the changes, and describe how it ran.

    Raises:
        QueryError, SourceError: it failed.
    """
    while await query.receive() is not None:
        pass
    statistics = query.statistics()
    continuous = statistics.continuous
    assert continuous is not None
    runs = {operator.node: operator for operator in continuous.operators}
    return (
        explain_dataflow(planned.dataflow, planned.partitions, runs, planned.executor)
        + "\n".join(["", *_run(statistics, continuous)])
        + "\n"
    )


def _run(statistics: QueryStatistics, continuous: ContinuousStatistics) -> Iterator[str]:
    waited = f"of which it waited {statistics.blocked_s:.3f} s for its reader"
    yield f"ran: {_count(continuous.epochs, 'epoch')} in {statistics.elapsed_s:.3f} s, {waited}"
    yield from _wrapped("  read: ", ", ".join(f"{_count(rows, 'row')} of {relation}" for relation, rows in continuous.rows_in.items()))
    yield f"  gave: {_count(statistics.rows_out, 'row')} in {_count(statistics.batches_out, 'batch', 'batches')}"
    yield f"  kept: at most {human_bytes(continuous.peak_state_bytes)} after an epoch, {human_bytes(continuous.state_bytes)} at the end"
    if continuous.watermarks:
        yield f"  late: {_count(continuous.late_rows, 'row')}"
        yield f"  watermark: {_time(continuous.watermark)}"
        for (relation, partition), watermark in sorted(continuous.partition_watermarks.items()):
            held = ", which holds the query back" if (relation, partition) == continuous.held_back_by else ""
            yield f"    {relation} partition {partition}: {_time(watermark)}{held}"


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def _time(watermark: datetime | None) -> str:
    match watermark:
        case None:
            return "none, because no row had an event time"
        case datetime(year=9999):
            return "past all times, because the sources have ended"
        case _:
            return watermark.astimezone(UTC).replace(tzinfo=None).isoformat(" ")


def _wrapped(head: str, text: str) -> list[str]:
    return textwrap.wrap(head + text, WIDTH, subsequent_indent=" " * len(head), break_long_words=False, break_on_hyphens=False)
