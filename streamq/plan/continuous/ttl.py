"""What `WITH (state_ttl = …)` bounds: state by key without a window, as far as it comes from sources.

A key that nothing has touched for so long is forgotten, without a withdrawal: what was given for it stays given. Rows that come later
count as the first of their key, and withdrawals of what was forgotten are passed over. Rows of tables and views are not
forgotten: they are bounded by these, and who joins with them expects them to be there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from streamq.plan.dataflow import Aggregate, Distinct, Join, Node, Read, Recompute, edges


def forgetting(nodes: Sequence[Node], ttl_s: float | None) -> tuple[Node, ...]:
    """Give the nodes, told what they forget and when."""
    if ttl_s is None:
        return tuple(nodes)
    ttl_us = max(1, round(ttl_s * 1_000_000))
    streams: dict[str, bool] = {}
    for node in nodes:
        streams[node.id] = not node.retracts if isinstance(node, Read) else any(streams[edge.node] for edge in edges(node))
    return tuple(_forgetting(node, ttl_us, streams) for node in nodes)


def _forgetting(node: Node, ttl_us: int, streams: Mapping[str, bool]) -> Node:
    inputs = tuple(ttl_us if streams[edge.node] else None for edge in edges(node))
    match node:
        case Aggregate(closing=None) if node.keys:
            return replace(node, ttl_us=inputs[0])
        case Distinct(closing=None):
            return replace(node, ttl_us=inputs[0])
        case Recompute(closing=None, once=False) if node.keys[0] and any(inputs):
            return replace(node, ttl_us=inputs)
        case Join(interval=None) if node.left_keys and any(inputs):
            return replace(node, ttl_us=inputs)
        case _:
            return node
