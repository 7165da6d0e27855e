"""Where the instances of a dataflow's nodes are, in which order they run, and where their rows go. Knows nothing of threads or processes.

A stage is made of nodes whose rows stay in their partition; between stages rows change places.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

from streamq.operators.base import Delta, State
from streamq.plan.dataflow import Dataflow, Node, Read, edges
from streamq.plan.exchanges import Broadcast, Edge, Gather, Keep
from streamq.streaming.exchange import exchanged
from streamq.streaming.rescale import redistributed

States = Mapping[str, tuple[State, ...]]
"""What a dataflow keeps: by node, the state of each of its instances."""


@dataclass(frozen=True, slots=True)
class Sending:
    """Rows on their way to partition `target` of a node, for the edge at `place`."""

    node: str
    place: int
    target: int
    delta: Delta


class Layout:
    """The instances of every node of a dataflow in a number of partitions."""

    __slots__ = ("_consumers", "nodes", "output", "partitions", "stages", "widths")

    def __init__(self, dataflow: Dataflow, partitions: int) -> None:
        self.nodes: Mapping[str, Node] = {node.id: node for node in dataflow.nodes}
        self.output = dataflow.output
        self.partitions = partitions
        self.stages = _stages(dataflow)
        self.widths = _widths(dataflow, partitions)
        """How many instances each node has, from partition 0 on."""
        self._consumers: dict[str, list[tuple[str, int, Edge]]] = {node.id: [] for node in dataflow.nodes}
        for node in dataflow.nodes:
            for place, edge in enumerate(edges(node)):
                self._consumers[edge.node].append((node.id, place, edge))

    @property
    def operators(self) -> tuple[str, ...]:
        """The nodes that have instances: all but the reads, in the dataflow's order."""
        return tuple(name for name, node in self.nodes.items() if not isinstance(node, Read))

    def input_schemas(self, name: str) -> list[pa.Schema]:
        """Give the schemas of what a node takes, by edge."""
        return [self.nodes[edge.node].schema for edge in edges(self.nodes[name])]

    def sendings(self, name: str, source: int, delta: Delta) -> Iterator[Sending]:
        """Tell where the rows go that partition `source` of a node has made."""
        retracts = self.nodes[name].retracts
        for consumer, place, edge in self._consumers[name]:
            parts = exchanged(delta, edge.exchange, source, self.partitions, retracts)
            for target, part in enumerate(parts[: self.widths[consumer]]):
                if part is not None:
                    yield Sending(consumer, place, target, part)

    def redistributed(self, states: States) -> States:
        """Give the state of another layout of the same dataflow to the instances of this one."""
        return {name: redistributed(self.nodes[name], self.nodes, states[name], self.widths[name]) for name in self.operators}


def _stages(dataflow: Dataflow) -> tuple[tuple[str, ...], ...]:
    """Put every node but the reads into the first stage in which all its rows are there."""
    levels: dict[str, int] = {}
    for node in dataflow.nodes:
        levels[node.id] = max((levels[edge.node] + (not isinstance(edge.exchange, Keep)) for edge in edges(node)), default=0)
    used = sorted({levels[node.id] for node in dataflow.nodes})
    stages = (tuple(node.id for node in dataflow.nodes if levels[node.id] == level and not isinstance(node, Read)) for level in used)
    return tuple(stage for stage in stages if stage)


def _widths(dataflow: Dataflow, partitions: int) -> dict[str, int]:
    """Tell how many instances each node has: one, where all rows are in partition 0, or none come at all."""
    widths: dict[str, int] = {}
    for node in dataflow.nodes:
        single = [isinstance(edge.exchange, Gather) or (isinstance(edge.exchange, Keep) and widths[edge.node] == 1) for edge in edges(node)]
        sided = [isinstance(edge.exchange, Broadcast) for edge in edges(node)]
        alone = not single or (any(single) and all(one or side for one, side in zip(single, sided, strict=True)))
        widths[node.id] = 1 if alone else partitions
    return widths
