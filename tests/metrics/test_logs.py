"""The log: its records, and their fields as JSON."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import pyarrow as pa
import pytest

from streamq.execution.events import emit_piece_started, emit_query_ended, emit_query_started
from streamq.execution.statistics import Outcome, QueryStatistics, ScanStatistics, Waits
from streamq.metrics import JsonFormatter
from streamq.plan.fragments import Choice, Passthrough, PhysicalPlan, TwoPhaseAggregation

SCAN = ScanStatistics("flights", "range", max_parallelism=8, splits=4, pruned=1, rows=10_000)
PLAN = PhysicalPlan(
    stages=(),
    choices=(Choice(Passthrough("round_robin"), "a filter"), Choice(TwoPhaseAggregation(), "GROUP BY", fallback=None)),
    limit=None,
    offset=0,
    schema=pa.schema([]),
)
ENDED = QueryStatistics(
    query_id="q1",
    sql="SELECT 1",
    outcome="completed",
    started_at=0.0,
    elapsed_s=1.5,
    first_batch_s=None,
    rows_out=10,
    bytes_out=80,
    batches_out=2,
    strategy="TwoPhaseAggregation",
    executor="thread",
    fallback=None,
    scans=(SCAN,),
    tasks=4,
    channel_batches=0,
    channel_bytes=0,
    waited=Waits(channel_s=0.25),
)


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, logger="streamq")
    return caplog


def fields(log: pytest.LogCaptureFixture) -> dict[str, object]:
    """Read the only record as JSON."""
    (record,) = log.records
    parsed: dict[str, object] = json.loads(JsonFormatter().format(record))
    return parsed


def test_the_start_tells_how_the_work_is_split(log: pytest.LogCaptureFixture) -> None:
    """The message sums up strategy, workers and splits."""
    emit_query_started("q1", "SELECT 1", PLAN, executor="process", partitions=4, scans=(SCAN,))
    assert log.messages == [
        "query q1 started: TwoPhaseAggregation on process workers, 4 at once; flights in 4 splits by range (1 pruned, feeds 8 tasks)"
    ]


def test_the_start_carries_its_numbers(log: pytest.LogCaptureFixture) -> None:
    """The fields have strategy, reason, parallelism and splits, for programs."""
    emit_query_started("q1", "SELECT 1", PLAN, executor="process", partitions=4, scans=(SCAN,))
    expected = {"event": "query_started", "query_id": "q1", "sql": "SELECT 1", "strategy": "TwoPhaseAggregation", "reason": "GROUP BY"}
    expected |= {"executor": "process", "fallback": None, "partitions": 4, "splits": 4, "splits_pruned": 1}  # type: ignore[dict-item]
    assert fields(log).items() >= expected.items()


def test_a_piece_of_work_names_its_rows(log: pytest.LogCaptureFixture) -> None:
    """With DEBUG on, every lease is told."""
    emit_piece_started("q1", "scan", 0, 4, "flights rows 0 to 2499")
    assert log.messages == ["query q1, scan: task 0 of 4 reads flights rows 0 to 2499"]
    assert fields(log)["shard"] == "flights rows 0 to 2499"


@pytest.mark.parametrize(("outcome", "level"), [("completed", "info"), ("cancelled", "info"), ("timed_out", "info"), ("failed", "warning")])
def test_only_failures_warn(log: pytest.LogCaptureFixture, outcome: Outcome, level: str) -> None:
    """A query that ended in any other way is information."""
    emit_query_ended(replace(ENDED, outcome=outcome, error="no"))
    assert (fields(log)["event"], fields(log)["level"]) == (f"query_{outcome}", level)


def test_a_failure_says_why(log: pytest.LogCaptureFixture) -> None:
    """The error is in the message and in a field."""
    emit_query_ended(replace(ENDED, outcome="failed", error="division by zero"))
    assert log.messages[0].endswith("; division by zero")
    assert fields(log)["error"] == "division by zero"


def test_an_exception_is_part_of_the_line() -> None:
    """JSON lines stay lines: a traceback is a field."""
    try:
        raise ValueError("boom")
    except ValueError as error:
        record = logging.LogRecord("streamq", logging.ERROR, "", 0, "failed", None, (type(error), error, error.__traceback__))
    assert "ValueError: boom" in json.loads(JsonFormatter().format(record))["exception"]
