"""The dashboard of workers and memory."""

from __future__ import annotations

from grafana.panels import Dashboard, Line, Panel, Row
from grafana.promql import DASHBOARD as d
from streamq.metrics import definitions as m

_PROCESSES = Row(
    "Processes",
    (
        Panel(
            "Memory",
            "Resident memory. Pages that the service and its workers share are in each of them.",
            (Line(d.value(m.MEMORY, "process"), "{{process}}"),),
            "areas",
        ),
        Panel(
            "Memory and its limit",
            "memory_bytes is for queries; what relations and continuous queries keep, and the program itself, come on top.",
            (Line(d.value(m.MEMORY), "resident"), Line(d.value(m.MEMORY_LIMIT), "memory_bytes"), Line(d.value(m.STATE_BYTES), "state")),
        ),
        Panel(
            "Relations in memory",
            "What sources, tables and views keep.",
            (Line(d.value(m.RELATION_BYTES, "kind", kind="source|table|materialized_view"), "{{kind}}"),),
            "areas",
        ),
        Panel("CPU", "Processors that are busy.", (Line(d.rate(m.CPU, "process"), "{{process}}"),), "areas"),
    ),
)
_WORKERS = Row(
    "Workers",
    (
        Panel(
            "Workers", "By whether they have work.", (Line(d.value(m.WORKERS, "executor", "state"), "{{executor}}, {{state}}"),), "areas"
        ),
        Panel(
            "Working",
            "The share of the time in which workers work. At 100 % more workers help, if there are processors for them.",
            (Line(d.rate(m.WORKER_BUSY, "executor") / d.value(m.WORKERS, "executor"), "{{executor}}"),),
        ),
        Panel("Jobs that are open", "Of all workers.", (Line(d.value(m.WORKER_JOBS, "executor"), "{{executor}}"),), "areas"),
        Panel("Jobs that end", "Of all workers.", (Line(d.rate(m.WORKER_JOBS_DONE, "executor"), "{{executor}}"),), "areas"),
        Panel(
            "Time of a job",
            "The mean time of work.",
            (Line((d.rate(m.WORKER_BUSY, "executor") / d.rate(m.WORKER_JOBS_DONE, "executor")).of_unit("s"), "{{executor}}"),),
        ),
        Panel(
            "Workers that died",
            "In the last hour. Their queries ended with WorkerCrashed; a killed one was perhaps out of memory.",
            (Line(d.grown(m.WORKER_RESTARTS, "1h", "executor"), "{{executor}}"),),
        ),
    ),
)

WORKERS = Dashboard("streamq-workers", "streamq: workers and memory", "Processes, jobs and memory.", (_PROCESSES, _WORKERS))
