"""The dashboard of continuous queries."""

from __future__ import annotations

from grafana.panels import Dashboard, Line, Panel, Row
from grafana.promql import DASHBOARD as d
from streamq.metrics import definitions as m

_EVENT_TIME = Row(
    "Event time",
    (
        Panel(
            "Watermark lag",
            "How far the watermark of the furthest query is behind the clock: its windows close so much later. Nothing is drawn where no "
            "query waits for event time. `statistics()` says which partition holds it back.",
            (Line(d.largest(m.WATERMARK_LAG), "lag"),),
        ),
        Panel(
            "Late rows",
            "The share of the rows read that came too late for their window. `WITH (lateness = …)` or a larger delay of the watermark lets "
            "them in; `LATE ROWS INTO` keeps them.",
            (Line(d.rate(m.LATE_ROWS) / d.rate(m.ROWS_IN, kind="continuous"), "late"),),
        ),
        Panel("Late rows a second", "Of all queries.", (Line(d.rate(m.LATE_ROWS), "late"),)),
        Panel("Rows read", "Rows and changes.", (Line(d.rate(m.ROWS_IN, kind="continuous"), "rows"),)),
    ),
)
_EPOCHS = Row(
    "Epochs",
    (
        Panel(
            "Time of an epoch",
            "What it takes to compute one: until then nothing of it is seen. Epochs grow with what is waiting.",
            tuple(Line(d.quantile(share, m.EPOCH_DURATION), legend) for share, legend in ((0.5, "half"), (0.95, "95 %"), (0.99, "99 %"))),
        ),
        Panel("Epochs", "How many are computed.", (Line(d.frequency(m.EPOCH_DURATION), "epochs"),)),
        Panel(
            "Rows in an epoch",
            "The mean. One row while all is quiet, many when queries cannot keep up.",
            (Line(d.rate(m.ROWS_IN, kind="continuous") / d.frequency(m.EPOCH_DURATION), "rows"),),
        ),
        Panel(
            "What queries wait for",
            "How many waited at a time. source: all is read. worker: epochs are computed. client and channel: readers do not take what "
            "changed.",
            (Line(d.rate(m.QUERY_WAITS, "stage", kind="continuous"), "{{stage}}"),),
            "areas",
        ),
    ),
)
_STATE = Row(
    "State",
    (
        Panel(
            "Bytes kept",
            "By kind of operator. State without a window grows with its keys: `state_ttl` and `max_state_bytes` bound it.",
            (Line(d.value(m.STATE_BYTES, "operator"), "{{operator}}"),),
            "areas",
        ),
        Panel("Rows kept", "Rows and groups, by kind of operator.", (Line(d.value(m.STATE_ROWS, "operator"), "{{operator}}"),), "areas"),
    ),
)
_FOLLOWING = Row(
    "Following",
    (
        Panel(
            "Followers",
            "Continuous queries by the kind of relation that they read.",
            (Line(d.value(m.FOLLOWERS, "kind"), "{{kind}}"),),
            width=8,
        ),
        Panel(
            "Behind",
            "What the slowest follower has not taken, by kind of relation. A retention waits for it.",
            (Line(d.largest(m.BEHIND, "kind"), "{{kind}}"),),
            width=8,
        ),
        Panel("Queries", "Continuous queries that run.", (Line(d.value(m.QUERIES_RUNNING, kind="continuous"), "running"),), width=8),
    ),
)

CONTINUOUS_QUERIES = Dashboard(
    "streamq-continuous-queries",
    "streamq: continuous queries",
    "Event time, epochs and state of queries that go on with their sources.",
    (_EVENT_TIME, _EPOCHS, _STATE, _FOLLOWING),
)
