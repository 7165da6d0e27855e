"""Gives what a dataflow keeps to another number of partitions: rows go where the exchange in front of them takes their like.

Where that does not depend on the rows (they stay where they are made, or come in runs) nothing is ever withdrawn, so what is kept may be
anywhere, as long as it stays together: partition 0 takes it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import pyarrow as pa

from streamq.operators.base import EVERYWHERE, State
from streamq.plan.dataflow import Node, edges
from streamq.plan.exchanges import Broadcast, Edge, Hash, Spread
from streamq.streaming.exchange import owners_of

_INPUT = re.compile(r"input(\d+)(?:\..*)?")


def redistributed(node: Node, nodes: Mapping[str, Node], states: Sequence[State], partitions: int) -> tuple[State, ...]:
    """Give the state of a node's instances to `partitions` of them."""
    if len(states) == partitions:
        return tuple(states)
    inputs = edges(node)
    parts: list[dict[str, pa.Table]] = [{} for _ in range(partitions)]
    for name in states[0]:
        if name == EVERYWHERE:
            for part in parts:
                part[name] = states[0][name]
            continue
        found = _INPUT.fullmatch(name)
        edge = inputs[int(found[1]) if found else 0] if inputs else None
        for part, table in zip(parts, _parts([state[name] for state in states], edge, nodes, partitions), strict=True):
            part[name] = table
    return tuple(parts)


def _parts(tables: Sequence[pa.Table], edge: Edge | None, nodes: Mapping[str, Node], partitions: int) -> list[pa.Table]:
    whole = pa.concat_tables(tables)
    columns: Sequence[str] = ()
    match edge:
        case Edge(exchange=Broadcast()):
            return [tables[0]] * partitions
        case Edge(exchange=Hash(names)):
            columns = names
        case Edge(node=source, exchange=Spread()) if nodes[source].retracts:
            columns = nodes[source].schema.names
    if not columns or not set(columns) <= set(whole.column_names):
        return [whole, *[whole.slice(0, 0)] * (partitions - 1)]
    targets = owners_of([whole.column(name).combine_chunks() for name in columns], whole.num_rows, partitions)
    return [whole.filter(pa.array(targets == partition)) for partition in range(partitions)]
