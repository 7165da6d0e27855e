"""What somebody should be told of, as rules for Prometheus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from grafana.promql import ALERT as a
from grafana.promql import Expression
from streamq.metrics import definitions as m

JOB = "streamq"
"""What the services are called in the configuration of Prometheus."""


@dataclass(frozen=True, slots=True)
class Alert:
    """A rule: it is pending while `expression` has a value, and fires after `after`. `advice` says what to do."""

    name: str
    expression: Expression
    after: str
    severity: Literal["critical", "warning", "info"]
    summary: str
    advice: str


ALERTS: tuple[Alert, ...] = (
    Alert(
        "StreamqDown",
        Expression(f'up{{job="{JOB}"}} == 0', frozenset(), "short"),
        "1m",
        "critical",
        "streamq on {{ $labels.instance }} does not answer",
        "Look at its log, and at the memory of its machine.",
    ),
    Alert(
        "StreamqRequestsFail",
        (a.rate(m.REQUESTS, code="500|503") / a.rate(m.REQUESTS)).above(0.05),
        "10m",
        "warning",
        "{{ $value | humanizePercentage }} of the requests to {{ $labels.instance }} are not served",
        "503 is a worker that crashed, or a shutdown; 500 is a fault of streamq, whose record in the log has the traceback.",
    ),
    Alert(
        "StreamqQueriesFail",
        (a.rate(m.QUERIES, outcome="failed|timed_out") / a.rate(m.QUERIES)).above(0.05),
        "10m",
        "warning",
        "{{ $value | humanizePercentage }} of the queries on {{ $labels.instance }} fail or time out",
        "The log has the error of each: event query_failed or query_timed_out.",
    ),
    Alert(
        "StreamqClientsAreSlow",
        (a.value(m.CHANNEL_BYTES) / a.value(m.CHANNEL_LIMIT)).above(0.9),
        "10m",
        "warning",
        "Clients of {{ $labels.instance }} do not take their rows",
        "SHOW QUERIES or GET /v1/queries says for which queries channel_bytes are large: cancel them, or look at their clients.",
    ),
    Alert(
        "StreamqResourceIsTaken",
        (a.value(m.RESOURCE_USED, "resource") / a.value(m.RESOURCE_LIMIT, "resource")).above(0.99),
        "10m",
        "warning",
        "All {{ $labels.resource }} of {{ $labels.instance }} are taken, and queries wait for each other",
        "Fewer queries at once, or more memory_bytes and workers.",
    ),
    Alert(
        "StreamqWorkersDie",
        a.grown(m.WORKER_RESTARTS, "15m").above(0),
        "0m",
        "warning",
        "Workers of {{ $labels.instance }} died",
        "A killed worker was perhaps out of memory: memory_bytes should be below what the machine has. Their queries got WorkerCrashed.",
    ),
    Alert(
        "StreamqWatermarkLags",
        a.largest(m.WATERMARK_LAG).above(600),
        "10m",
        "warning",
        "A watermark on {{ $labels.instance }} is {{ $value | humanizeDuration }} behind the clock, and windows stay open",
        "A source or one partition of it sends nothing new: held_back_by in the statistics of the query names it.",
    ),
    Alert(
        "StreamqRowsAreLate",
        (a.rate(m.LATE_ROWS) / a.rate(m.ROWS_IN, kind="continuous")).above(0.01),
        "10m",
        "warning",
        "{{ $value | humanizePercentage }} of the rows on {{ $labels.instance }} come too late for their window",
        "A larger delay of the watermark or WITH (lateness = …) lets them in; LATE ROWS INTO keeps them.",
    ),
    Alert(
        "StreamqEpochsAreSlow",
        a.quantile(0.99, m.EPOCH_DURATION).above(5),
        "10m",
        "warning",
        "An epoch takes {{ $value | humanizeDuration }} on {{ $labels.instance }}: changes are seen so much later",
        "See which operators keep and work most: EXPLAIN, and operators in the statistics of the query.",
    ),
    Alert(
        "StreamqFollowersAreBehind",
        a.largest(m.BEHIND, "kind").above(1 << 28),
        "10m",
        "warning",
        "A query on {{ $labels.instance }} is {{ $value | humanize1024 }}B behind its {{ $labels.kind }}",
        "It cannot keep up, or its client stalls: the dashboard “Why is a query slow?” tells which.",
    ),
    Alert(
        "StreamqInsertsWait",
        a.rate(m.INSERT_WAITS).above(1),
        "10m",
        "warning",
        "Inserts on {{ $labels.instance }} wait for queries that have not read what a retention would drop",
        "A larger retention, or a faster client of the slowest query.",
    ),
    Alert(
        "StreamqStreamsAreDropped",
        a.grown(m.DROPPED_STREAMS, "1h").above(0),
        "0m",
        "info",
        "A program of {{ $labels.instance }} leaves streams open",
        "Streams are read to their end or closed: `async with db.query(…) as stream`.",
    ),
)
"""All rules."""
