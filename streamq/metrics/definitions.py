"""Every metric that streamq has: its name, what it says, its labels.

The exporter, the dashboards and the alerts are made from these. Names follow Prometheus: base units, counters end in ``_total``.
Labels have few values each, known beforehand but for the number of workers; no query, relation, SQL text or user is a label.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram"]
Unit = Literal["seconds", "bytes", "rows", "count"]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric by its full name. `text` is one sentence that ends in a full stop."""

    name: str
    kind: Kind
    unit: Unit
    text: str
    labels: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


# Queries. `kind` is snapshot or continuous, `outcome` completed, failed, cancelled or timed_out.

QUERIES_RUNNING = Metric("streamq_queries_running", "gauge", "count", "Queries that run now.", ("kind",))
QUERIES = Metric("streamq_queries_total", "counter", "count", "Queries that have ended, by how they ended.", ("kind", "outcome"))
QUERY_DURATION = Metric(
    "streamq_query_duration_seconds", "histogram", "seconds", "Time from the start of a query to its end.", ("kind", "outcome")
)
FIRST_BATCH = Metric("streamq_first_batch_seconds", "histogram", "seconds", "Time from the start of a query to its first batch.", ("kind",))
QUERY_WAITS = Metric(
    "streamq_query_wait_seconds_total",
    "counter",
    "seconds",
    "Time that queries waited: for the client to take rows, for room in the channel to it, for workers to compute, for rows of a source.",
    ("kind", "stage"),
)
STRATEGIES = Metric("streamq_query_strategies_total", "counter", "count", "Queries by partition strategy.", ("strategy",))
FALLBACKS = Metric("streamq_query_fallbacks_total", "counter", "count", "Queries that nothing parallel fitted, by reason.", ("reason",))
DROPPED_STREAMS = Metric(
    "streamq_dropped_streams_total", "counter", "count", "Streams that were neither read to their end nor closed by their owner."
)

# Rows, in and out.

ROWS_IN = Metric("streamq_rows_in_total", "counter", "rows", "Rows and changes that queries have read.", ("kind",))
ROWS_OUT = Metric("streamq_rows_out_total", "counter", "rows", "Rows handed to readers.", ("kind",))
BYTES_OUT = Metric("streamq_bytes_out_total", "counter", "bytes", "Arrow buffers handed to readers.", ("kind",))
BATCHES_OUT = Metric("streamq_batches_out_total", "counter", "count", "Batches handed to readers.", ("kind",))
INSERTS = Metric("streamq_inserts_total", "counter", "count", "Inserts into sources and tables.")
ROWS_INSERTED = Metric("streamq_inserted_rows_total", "counter", "rows", "Rows inserted into sources and tables.")
BYTES_INSERTED = Metric("streamq_inserted_bytes_total", "counter", "bytes", "Arrow buffers inserted into sources and tables.")
INSERT_WAITS = Metric(
    "streamq_insert_wait_seconds_total", "counter", "seconds", "Time that inserts waited until queries had read what a retention drops."
)
CHANNEL_BATCHES = Metric("streamq_channel_batches", "gauge", "count", "Batches that wait for their readers.")
CHANNEL_BYTES = Metric("streamq_channel_bytes", "gauge", "bytes", "Arrow buffers that wait for their readers.")
CHANNEL_LIMIT = Metric("streamq_channel_limit_bytes", "gauge", "bytes", "What may wait for readers, of all queries together.")

# Reading. `unit` is what splits are made of.

SPLITS = Metric("streamq_splits_total", "counter", "count", "Splits that queries were to read, by what they are made of.", ("unit",))
SPLITS_DONE = Metric("streamq_splits_done_total", "counter", "count", "Splits that have been read, by what they are made of.", ("unit",))
SPLITS_LEFT = Metric("streamq_splits_left", "gauge", "count", "Splits that running queries have yet to read.")
SPLITS_PRUNED = Metric("streamq_splits_pruned_total", "counter", "count", "Splits that statistics ruled out.")
TASKS = Metric("streamq_tasks_total", "counter", "count", "Pieces of work that were done.")

# Relations. `kind` is source, table, view, materialized_view or registered.

RELATIONS = Metric("streamq_relations", "gauge", "count", "Relations, by kind.", ("kind",))
RELATION_ROWS = Metric("streamq_relation_rows", "gauge", "rows", "Rows in relations, by kind.", ("kind",))
RELATION_BYTES = Metric("streamq_relation_bytes", "gauge", "bytes", "Size of relations, by kind.", ("kind",))
FOLLOWERS = Metric("streamq_relation_followers", "gauge", "count", "Continuous queries that read relations, by kind.", ("kind",))
BEHIND = Metric(
    "streamq_relation_behind_bytes", "gauge", "bytes", "What the slowest follower of a relation has not taken, by kind.", ("kind",)
)

# Continuous queries. `operator` is a kind of operator: aggregate, join, top_n …

EPOCH_DURATION = Metric("streamq_epoch_duration_seconds", "histogram", "seconds", "Time that it took to compute an epoch.")
LATE_ROWS = Metric("streamq_late_rows_total", "counter", "rows", "Rows that came too late for their window or time bound.")
WATERMARK_LAG = Metric(
    "streamq_watermark_lag_seconds",
    "gauge",
    "seconds",
    "How far the watermark is behind the clock, of the running query for which that is most; no sample where none waits for event time.",
)
STATE_BYTES = Metric("streamq_state_bytes", "gauge", "bytes", "What running continuous queries keep.", ("operator",))
STATE_ROWS = Metric("streamq_state_rows", "gauge", "rows", "Rows and groups that running continuous queries keep.", ("operator",))

# Workers, and what queries share. `executor` is process or thread, `process` main or worker-0, worker-1 …

WORKERS = Metric("streamq_workers", "gauge", "count", "Workers, by whether they have work.", ("executor", "state"))
WORKER_JOBS = Metric("streamq_worker_jobs", "gauge", "count", "Jobs that are open.", ("executor",))
WORKER_JOBS_DONE = Metric("streamq_worker_jobs_done_total", "counter", "count", "Jobs that ended.", ("executor",))
WORKER_BUSY = Metric("streamq_worker_busy_seconds_total", "counter", "seconds", "Time that workers worked, all added up.", ("executor",))
WORKER_RESTARTS = Metric(
    "streamq_worker_restarts_total", "counter", "count", "Workers that were started in place of one that died.", ("executor",)
)
RESOURCE_USED = Metric("streamq_resource_used", "gauge", "count", "What is taken of what all queries share.", ("resource",))
RESOURCE_LIMIT = Metric("streamq_resource_limit", "gauge", "count", "How much there is of what all queries share.", ("resource",))
MEMORY = Metric("streamq_resident_memory_bytes", "gauge", "bytes", "Resident memory of the process and of its workers.", ("process",))
MEMORY_LIMIT = Metric("streamq_memory_limit_bytes", "gauge", "bytes", "What queries may take together: the setting memory_bytes.")
CPU = Metric("streamq_cpu_seconds_total", "counter", "seconds", "CPU time of the process and of its workers.", ("process",))

# The service. `route` is the name of what answers, `code` the status, or left where a client did not wait for the answer to begin.

REQUESTS = Metric("streamq_http_requests_total", "counter", "count", "Requests that have ended.", ("route", "code"))
REQUEST_DURATION = Metric(
    "streamq_http_request_duration_seconds", "histogram", "seconds", "Time from a request to the end of its answer.", ("route",)
)
REQUESTS_RUNNING = Metric("streamq_http_requests_running", "gauge", "count", "Requests that are being answered.")

METRICS: tuple[Metric, ...] = tuple(definition for definition in tuple(globals().values()) if isinstance(definition, Metric))
"""All of them, in this order."""
