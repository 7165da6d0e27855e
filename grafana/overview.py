"""The dashboard that tells whether all is well."""

from __future__ import annotations

from grafana.panels import Dashboard, Line, Panel, Row
from grafana.promql import DASHBOARD as d
from streamq.metrics import definitions as m

_NOW = Row(
    "Now",
    (
        Panel("Running", "Queries that run now.", (Line(d.value(m.QUERIES_RUNNING, "kind"), "{{kind}}"),), "number", 6),
        Panel(
            "Failed",
            "The share of the queries that ended which failed or timed out. The log says why.",
            (Line(d.rate(m.QUERIES, outcome="failed|timed_out") / d.rate(m.QUERIES), "failed"),),
            "number",
            6,
        ),
        Panel("Rows a second", "Rows handed to readers.", (Line(d.rate(m.ROWS_OUT), "rows"),), "number", 6),
        Panel("Memory", "Resident memory of the service and its workers.", (Line(d.value(m.MEMORY), "memory"),), "number", 6),
    ),
)
_QUERIES = Row(
    "Queries",
    (
        Panel("Queries that run", "By kind.", (Line(d.value(m.QUERIES_RUNNING, "kind"), "{{kind}}"),), "areas"),
        Panel("Queries that end", "By how they end.", (Line(d.rate(m.QUERIES, "outcome"), "{{outcome}}"),), "areas"),
        Panel(
            "Time to the end",
            "Of snapshot queries that completed. If it is long, see “Why is a query slow?”.",
            tuple(
                Line(d.quantile(share, m.QUERY_DURATION, kind="snapshot", outcome="completed"), legend)
                for share, legend in ((0.5, "half"), (0.95, "95 %"), (0.99, "99 %"))
            ),
        ),
        Panel(
            "Time to the first batch",
            "From the start of a query until its reader has rows.",
            tuple(
                Line(d.quantile(share, m.FIRST_BATCH, "kind"), f"{{{{kind}}}}, {legend}")
                for share, legend in ((0.5, "half"), (0.99, "99 %"))
            ),
        ),
        Panel(
            "How queries run",
            "By partition strategy. EXPLAIN gives the reason.",
            (Line(d.rate(m.STRATEGIES, "strategy"), "{{strategy}}"),),
            "areas",
        ),
        Panel(
            "Nothing parallel fitted",
            "Queries that ran as one task, by reason. EXPLAIN says more.",
            (Line(d.rate(m.FALLBACKS, "reason"), "{{reason}}"),),
            "areas",
        ),
    ),
)
_ROWS = Row(
    "Rows and bytes",
    (
        Panel("Rows read", "Rows and changes that queries have read.", (Line(d.rate(m.ROWS_IN, "kind"), "{{kind}}"),), "areas"),
        Panel("Rows given", "Rows handed to readers.", (Line(d.rate(m.ROWS_OUT, "kind"), "{{kind}}"),), "areas"),
        Panel(
            "Bytes",
            "Arrow buffers that came in by inserts and went out to readers.",
            (Line(d.rate(m.BYTES_INSERTED), "in"), Line(d.rate(m.BYTES_OUT), "out")),
        ),
        Panel("Rows inserted", "Rows written into sources and tables.", (Line(d.rate(m.ROWS_INSERTED), "rows"),)),
        Panel(
            "Inserts", "Writes, of however many rows. Many small ones cost more than few large ones.", (Line(d.rate(m.INSERTS), "inserts"),)
        ),
        Panel(
            "Rows in a batch",
            "The mean. Small batches cost more for each row.",
            (Line(d.rate(m.ROWS_OUT, "kind") / d.rate(m.BATCHES_OUT, "kind"), "{{kind}}"),),
        ),
    ),
)
_STORED = Row(
    "What is stored",
    (
        Panel("Relations", "By kind.", (Line(d.value(m.RELATIONS, "kind"), "{{kind}}"),), width=8),
        Panel("Rows stored", "By kind of relation.", (Line(d.value(m.RELATION_ROWS, "kind"), "{{kind}}"),), "areas", 8),
        Panel("Bytes stored", "By kind of relation.", (Line(d.value(m.RELATION_BYTES, "kind"), "{{kind}}"),), "areas", 8),
    ),
)

_SERVICE = Row(
    "The service",
    (
        Panel(
            "Requests",
            "By status code; left are those whose client did not wait.",
            (Line(d.rate(m.REQUESTS, "code"), "{{code}}"),),
            "areas",
            8,
        ),
        Panel(
            "Time of a request",
            "Until the end of the answer, of 99 %. That of a query is as long as its reader takes.",
            (Line(d.quantile(0.99, m.REQUEST_DURATION, "route"), "{{route}}"),),
            width=8,
        ),
        Panel("Requests that run", "Followers among them.", (Line(d.value(m.REQUESTS_RUNNING), "requests"),), width=8),
    ),
)

OVERVIEW = Dashboard(
    "streamq-overview",
    "streamq: overview",
    "What the service does, and whether it does it well.",
    (_NOW, _QUERIES, _ROWS, _STORED, _SERVICE),
)
