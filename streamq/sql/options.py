"""The options of a query: `WITH (name = value, …)` behind it."""

from __future__ import annotations

QUERY_OPTIONS = (
    "start",
    "lateness",
    "idle_timeout",
    "state_ttl",
    "max_state_bytes",
    "epoch_rows",
    "max_staleness",
    "target_partitions",
    "executor",
    "broadcast_bytes",
    "retention",
    "retention_rows",
    "retention_bytes",
)
"""The names that a query knows, in the order in which messages list them."""
DURATION_OPTIONS = frozenset({"lateness", "idle_timeout", "state_ttl", "retention", "max_staleness"})
"""Those whose value is a length of time, also where it is written as a string."""
