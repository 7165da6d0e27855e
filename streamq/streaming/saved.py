"""All that a continuous query is between two epochs: what another run of it needs to go on as if nothing had happened."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from streamq.errors import StorageError
from streamq.operators.base import Delta
from streamq.plan.dataflow import Dataflow
from streamq.storage.feeds import Bookmark
from streamq.streaming.instances import NodeStatistics
from streamq.streaming.layout import States
from streamq.streaming.records import EpochRecord
from streamq.streaming.watermarks import TrackerState

Fingerprint = Mapping[str, str]
"""What a plan consists of, by name; parts that are too long to be read are hashed."""
_READABLE = ("changelog", "key", "EMIT", "lateness", "state_ttl")


@dataclass(frozen=True, slots=True)
class SavedQuery:
    """A query between two epochs, of which `record` is the last one; None before the first.

    `waiting` are changes that were not emitted yet, which can be none: `emitted` tells whether the last epoch was. Nodes have told
    `nodes` of what they did so far.
    """

    plan: Fingerprint
    record: EpochRecord | None
    ended: bool
    bookmarks: Mapping[str, Bookmark]
    tracker: TrackerState
    late_rows: int
    waiting: Delta | None
    emitted: bool
    nodes: tuple[NodeStatistics, ...]
    states: States


def fingerprint(dataflow: Dataflow) -> Fingerprint:
    """Say what must be the same for a run to take over the state of another: everything but how the result is handed over."""
    continuous = dataflow.continuous
    told = {
        "changelog": dataflow.changelog,
        "key": "none" if dataflow.key is None else f"({', '.join(dataflow.key)})",
        "EMIT": continuous.emit,
        "lateness": f"{continuous.lateness_us} us",
        "state_ttl": "none" if continuous.state_ttl_s is None else f"{continuous.state_ttl_s:g} s",
    }
    hashed = {f"node {node.id}": repr(node) for node in dataflow.nodes}
    hashed["parameters"] = repr(sorted(dataflow.parameters, key=lambda parameter: parameter[0]))
    hashed["rows that are late"] = repr(dataflow.late)
    return told | {name: hashlib.sha256(text.encode()).hexdigest()[:16] for name, text in hashed.items()}


def check_plan(saved: Fingerprint, plan: Fingerprint) -> None:
    """Compare the plan of a query with that of a saved one.

    Raises:
        StorageError: it is another query. The message says what differs.
    """
    for name in (*saved, *plan):
        old, new = saved.get(name), plan.get(name)
        if old == new:
            continue
        if old is None or new is None:
            what = f"{'only the saved one has' if new is None else 'the saved one has no'} {name}"
        else:
            what = f"{name} was {old} and is {new}" if name in _READABLE else f"{name} is another one"
        raise StorageError(f"the saved query is another one than this: {what}")


def added(before: NodeStatistics, now: NodeStatistics) -> NodeStatistics:
    """Go on counting where another run of a node stopped."""
    return replace(now, rows_in=before.rows_in + now.rows_in, rows_out=before.rows_out + now.rows_out, busy_s=before.busy_s + now.busy_s)
