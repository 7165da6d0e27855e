"""What each node of a dataflow keeps from epoch to epoch, and when it is freed."""

from __future__ import annotations

from typing import assert_never

from streamq.plan.dataflow import (
    Aggregate,
    Closing,
    Dataflow,
    Distinct,
    First,
    Hold,
    Hop,
    Join,
    Lookup,
    Map,
    Node,
    Read,
    Recompute,
    Sessions,
    Sided,
    TopN,
    Union,
)
from streamq.plan.render import plain

MERGE = "merge aggregate"
"""The label of nodes that merge one row of each partition."""


def describe_state(node: Node, dataflow: Dataflow) -> tuple[str, str]:
    """Say what a node keeps and when it goes; two empty texts if it keeps nothing."""
    match node:
        case Read() | Map() | Union() | First():
            return "", ""
        case Sided():
            return "all rows of the input, and the subqueries' results", _never(node, dataflow, "input")
        case Aggregate():
            return _aggregate(node, dataflow)
        case Hop():
            kept = f"one pane for each {_names(node.keys)}: {len(node.calls)} {'value' if len(node.calls) == 1 else 'values'}"
            return kept, "when the last window of its rows closes"
        case Recompute():
            return _recompute(node, dataflow)
        case Distinct():
            return "each different row", _closes(node.closing) or _never(node, dataflow, "rows")
        case Join():
            return _join(node, dataflow)
        case Lookup():
            return "all rows of the right side", "as they are withdrawn"
        case TopN():
            return _top(node, dataflow)
        case Sessions():
            return "the rows of open sessions", "when the session closes" if node.closes else _never(node, dataflow, "rows")
        case Hold():
            return "rows that wait", _closes(node.closing) or "at the end of the sources"
        case _:
            assert_never(node)


def _aggregate(node: Aggregate, dataflow: Dataflow) -> tuple[str, str]:
    if not node.keys:
        return "one group", "never; it does not grow"
    kept = f"one group for each {_names(node.keys)}: {len(node.calls)} {'value' if len(node.calls) == 1 else 'values'}"
    return kept, _closes(node.closing) or _never(node, dataflow, "keys")


def _recompute(node: Recompute, dataflow: Dataflow) -> tuple[str, str]:
    if node.once or not node.inputs:
        return "", ""
    if node.label == MERGE:
        return "one row of each partition", "never; it does not grow"
    if not node.keys[0]:
        return "all rows of the input, and what was given for them", _never(node, dataflow, "input")
    given = ", and what was given for them" if node.grouped else ""
    return f"all rows of each {_names(node.keys[0])}{given}", _closes(node.closing) or _never(node, dataflow, "input")


def _join(node: Join, dataflow: Dataflow) -> tuple[str, str]:
    if node.interval is not None:
        return "the rows of both sides", "once the watermark less the lateness has passed the time within which they can be joined"
    return "all rows of both sides", _never(node, dataflow, "sides")


def _top(node: TopN, dataflow: Dataflow) -> tuple[str, str]:
    retracts = next(other.retracts for other in dataflow.nodes if other.id == node.input.node)
    if retracts:
        return "all rows of the input, since any of them may move up", _never(node, dataflow, "input")
    return f"the first {node.offset + node.limit} rows", "when others come before them"


def _closes(closing: Closing | None) -> str | None:
    if closing is None:
        return None
    after = f" + {closing.plus_us / 1e6:g} s" if closing.plus_us else ""
    return f"when the window closes: the watermark less the lateness has passed {plain(closing.column)}{after}"


def _never(node: Node, dataflow: Dataflow, grows_with: str) -> str:
    if forgets(node):
        tables = "; rows of tables and views stay" if isinstance(node, Join | Recompute) and None in node.ttl_us else ""
        return f"after nothing has touched it for {dataflow.continuous.state_ttl_s:g} s (state_ttl){tables}"
    if dataflow.continuous.state_ttl_s is not None:
        return f"never: it grows with the {grows_with}, which state_ttl does not bound"
    return f"never: it grows with the {grows_with}{'; WITH (state_ttl = …) bounds it' if _has_keys(node) else ''}"


def forgets(node: Node) -> bool:
    """Tell whether a node forgets what nothing has touched for a time."""
    return isinstance(node, Aggregate | Distinct | Join | Recompute) and bool(node.ttl_us)


def _has_keys(node: Node) -> bool:
    match node:
        case Aggregate() | Distinct():
            return True
        case Recompute():
            return bool(node.keys[0])
        case Join():
            return bool(node.left_keys)
        case _:
            return False


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(map(plain, names))
