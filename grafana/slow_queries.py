"""The dashboard that tells why queries are slow."""

from __future__ import annotations

from grafana.panels import Dashboard, Line, Panel, Row
from grafana.promql import DASHBOARD as d
from streamq.metrics import definitions as m

_HOW_TO_READ = (
    "How many waited at a time, on average. client: there were rows, and the reader did not take them. channel: tasks had no room for "
    "their rows, because the reader was behind. worker: tasks or epochs waited for workers to compute: more workers, or less to compute. "
    "source: a continuous query waited for rows, which is what it does while all is well."
)
_WAITS = Row(
    "What queries wait for",
    (
        Panel(
            "Snapshot queries wait for",
            _HOW_TO_READ,
            (Line(d.rate(m.QUERY_WAITS, "stage", kind="snapshot", stage="client|channel|worker"), "{{stage}}"),),
            "areas",
        ),
        Panel(
            "Continuous queries wait for", _HOW_TO_READ, (Line(d.rate(m.QUERY_WAITS, "stage", kind="continuous"), "{{stage}}"),), "areas"
        ),
        Panel(
            "Time to the end",
            "By how queries end.",
            tuple(
                Line(d.quantile(share, m.QUERY_DURATION, "outcome", kind="snapshot"), f"{{{{outcome}}}}, {legend}")
                for share, legend in ((0.5, "half"), (0.99, "99 %"))
            ),
        ),
        Panel(
            "Time to the first batch",
            "Long while workers compute much before they have a row (sorting, grouping), or when all of them are taken.",
            tuple(
                Line(d.quantile(share, m.FIRST_BATCH, "kind"), f"{{{{kind}}}}, {legend}")
                for share, legend in ((0.5, "half"), (0.99, "99 %"))
            ),
        ),
    ),
)
_CLIENT = Row(
    "client and channel",
    (
        Panel(
            "Bytes that wait for readers",
            "At the limit only queries with an empty channel go on: clients are slow, or there are too many at once.",
            (Line(d.value(m.CHANNEL_BYTES), "waiting"), Line(d.value(m.CHANNEL_LIMIT), "limit")),
        ),
        Panel("Batches that wait for readers", "Of all queries.", (Line(d.value(m.CHANNEL_BATCHES), "batches"),)),
        Panel(
            "Dropped streams",
            "Streams that nobody read to the end or closed, in the last hour: programs that should use `async with`.",
            (Line(d.grown(m.DROPPED_STREAMS, "1h"), "dropped"),),
        ),
        Panel(
            "Inserts that wait",
            "How many waited at a time: a retention has no room until queries have read what it would drop. Look for the slow query.",
            (Line(d.rate(m.INSERT_WAITS), "waiting"),),
        ),
    ),
)
_WORKER = Row(
    "worker",
    (
        Panel(
            "Shared resources",
            "How much is taken. At 100 % queries wait for each other: planning threads bind and plan, epoch threads compute continuous "
            "queries, jobs are what workers have open.",
            (Line(d.value(m.RESOURCE_USED, "resource") / d.value(m.RESOURCE_LIMIT, "resource"), "{{resource}}"),),
        ),
        Panel("Tasks", "Pieces of work that are begun, a second.", (Line(d.rate(m.TASKS), "tasks"),)),
    ),
)
_READING = Row(
    "Reading",
    (
        Panel("Splits read", "By what they are made of.", (Line(d.rate(m.SPLITS_DONE, "unit"), "{{unit}}"),), "areas"),
        Panel("Splits left", "Of the queries that run.", (Line(d.value(m.SPLITS_LEFT), "splits"),)),
        Panel(
            "Splits that need not be read",
            "The share that statistics rule out. Data that is sorted by what queries filter on has more of them.",
            (Line(d.rate(m.SPLITS_PRUNED) / (d.rate(m.SPLITS_PRUNED) + d.rate(m.SPLITS)), "pruned"),),
        ),
    ),
)

SLOW_QUERIES = Dashboard(
    "streamq-slow-queries",
    "streamq: why is a query slow?",
    "Where the time of queries goes: the client, the channel to it, the workers, or the source.",
    (_WAITS, _CLIENT, _WORKER, _READING),
)
