"""Writes to the log: one record when a query starts, one when it ends, and, at DEBUG, one for every piece of its work.

The logger is ``streamq``. Every record says its fact in words and carries the same in fields (`extra`) for a formatter
that writes them out (`streamq.metrics.JsonFormatter`). Failures are logged beside being raised, never instead.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict

from streamq.execution.statistics import QueryStatistics, ScanStatistics
from streamq.plan.fragments import PhysicalPlan, Strategy

LOGGER = logging.getLogger("streamq")
# A program that sets up no logging sees nothing of us; without this, Python would print our warnings.
LOGGER.addHandler(logging.NullHandler())


def emit_query_started(
    query_id: str, sql: str, plan: PhysicalPlan, *, executor: str, partitions: int, scans: Sequence[ScanStatistics] = ()
) -> None:
    """Log that a planned query starts: its strategy with the reason, and how what it reads is split.

    `partitions` is the parallelism it is planned for, `executor` the kind of workers that run it.
    """
    if not LOGGER.isEnabledFor(logging.INFO):
        return
    strategy = type(plan.strategy).__name__
    LOGGER.info(
        "query %s started: %s on %s workers, %d at once%s",
        query_id,
        strategy,
        executor,
        partitions,
        "".join(f"; {describe_scan(scan)}" for scan in scans),
        extra={
            "event": "query_started",
            "query_id": query_id,
            "sql": sql,
            "strategy": strategy,
            "reason": _reason(plan, plan.strategy),
            "fallback": next((choice.fallback for choice in plan.choices if choice.fallback), None),
            "executor": executor,
            "partitions": partitions,
            "splits": sum(scan.splits for scan in scans),
            "splits_pruned": sum(scan.pruned for scan in scans),
            "scans": [asdict(scan) for scan in scans],
        },
    )


def emit_continuous_started(
    query_id: str, sql: str, *, form: str, key: Sequence[str] | None, executor: str, partitions: int, operators: int
) -> None:
    """Log that a continuous query starts: the form of its changelog with the key, and how many operators in how many partitions."""
    LOGGER.info(
        "query %s started: %s changes%s from %d operators in %d partitions",
        query_id,
        form,
        "" if key is None else f" by ({', '.join(key)})",
        operators,
        partitions,
        extra={
            "event": "query_started",
            "query_id": query_id,
            "sql": sql,
            "strategy": "Continuous",
            "changelog": form,
            "key": None if key is None else list(key),
            "executor": executor,
            "partitions": partitions,
            "operators": operators,
        },
    )


def emit_piece_started(query_id: str, stage: str, runner: int, width: int, shard: str) -> None:
    """Log at DEBUG that runner number `runner` of `width` of a stage takes a piece of work. `shard` says for people which rows."""
    if LOGGER.isEnabledFor(logging.DEBUG):
        fields = {"event": "piece_started", "query_id": query_id, "stage": stage, "runner": runner, "width": width, "shard": shard}
        LOGGER.debug("query %s, %s: task %d of %d reads %s", query_id, stage, runner, width, shard, extra=fields)


def emit_query_ended(statistics: QueryStatistics) -> None:
    """Log that a query has ended, with its last statistics: as a warning if it failed, else as information."""
    failed = statistics.outcome == "failed"
    level = logging.WARNING if failed else logging.INFO
    if not LOGGER.isEnabledFor(level):
        return
    LOGGER.log(
        level,
        "query %s %s after %.3f s: %d rows, %d bytes%s",
        statistics.query_id,
        statistics.outcome.replace("_", " "),
        statistics.elapsed_s,
        statistics.rows_out,
        statistics.bytes_out,
        f"; {statistics.error}" if failed else "",
        extra={
            "event": f"query_{statistics.outcome}",
            "query_id": statistics.query_id,
            "outcome": statistics.outcome,
            "strategy": statistics.strategy,
            "executor": statistics.executor,
            "fallback": statistics.fallback,
            "elapsed_s": statistics.elapsed_s,
            "first_batch_s": statistics.first_batch_s,
            "rows_out": statistics.rows_out,
            "bytes_out": statistics.bytes_out,
            "splits": statistics.splits,
            "splits_pruned": statistics.splits_pruned,
            "tasks": statistics.tasks,
            "blocked_s": statistics.blocked_s,
            "error": statistics.error,
        },
    )


def describe_scan(scan: ScanStatistics) -> str:
    """Say in a few words how a relation is split.

    >>> describe_scan(ScanStatistics("flights", "row group", 28, 25, 3, 300_000))
    'flights in 25 splits by row group (3 pruned, feeds 28 tasks)'
    """
    splits = "1 split" if scan.splits == 1 else f"{scan.splits:,} splits"
    pruned = f"{scan.pruned:,} pruned, " if scan.pruned else ""
    tasks = "1 task" if scan.max_parallelism == 1 else f"{scan.max_parallelism:,} tasks"
    return f"{scan.relation} in {splits} by {scan.unit} ({pruned}feeds {tasks})"


def _reason(plan: PhysicalPlan, strategy: Strategy) -> str:
    return next(choice.reason for choice in plan.choices if choice.strategy is strategy)
