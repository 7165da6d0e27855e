"""The partitions of a dataflow in this process: instances of every node, stepped through an epoch stage by stage.

A stage is made of nodes whose rows stay in their partition; between stages rows change places. Epochs with few rows run in the
caller's thread, one partition after the other; large ones in a thread for each.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from streamq.kernels.session import Interrupted
from streamq.operators.base import Delta, Epoch, Operator, State
from streamq.plan.dataflow import Broadcast, Dataflow, Edge, Gather, Hash, Keep, Node, Read, edges
from streamq.streaming.cuts import joined
from streamq.streaming.exchange import exchanged, owners_of

PARALLEL_ROWS = 4_096
"""Fewer rows than this are faster in one thread."""

States = Mapping[str, tuple[State, ...]]
"""What a dataflow keeps: by node, the state of each of its instances."""


@dataclass(frozen=True, slots=True)
class NodeStatistics:
    """What the instances of a node have done and keep, together."""

    node: str
    rows_in: int
    rows_out: int
    state_rows: int
    state_bytes: int
    busy_s: float


class Partitions(Protocol):
    """The running partitions of a dataflow, wherever they run. Used by one thread at a time, but for `interrupt`."""

    def step(self, epoch: Epoch, inputs: Mapping[str, Delta]) -> list[Delta]:
        """Compute an epoch: take the rows of its reads (by node), give the changes of the result.

        Raises:
            DataError: an expression failed on a row. The partitions are then of no more use, as after any error.
        """

    def snapshot(self) -> States:
        """Give all that is kept, as it is after an epoch."""

    def restore(self, states: States) -> None:
        """Take over what another run of the same dataflow kept, maybe in another number of partitions."""

    def statistics(self) -> tuple[NodeStatistics, ...]:
        """Tell what each node has done and keeps."""

    def interrupt(self) -> None:
        """Make `step` end soon, with an error. To be repeated until it has. From any thread."""

    def close(self) -> None:
        """Give everything back. No step may be running."""


class _Instance:
    """One partition's operator of a node, with its mail: by edge, what each partition has sent it in this epoch."""

    def __init__(self, operator: Operator, inputs: Sequence[pa.Schema], partitions: int) -> None:
        self.operator = operator
        self.inputs = inputs
        self.mail: list[list[Delta | None]] = [[None] * partitions for _ in inputs]
        self.rows_in = 0
        self.rows_out = 0
        self.busy_s = 0.0

    def process(self, epoch: Epoch) -> Delta:
        started = time.perf_counter()
        inputs = [self._collect(place) for place in range(len(self.inputs))]
        output = self.operator.process(inputs, epoch)
        self.rows_in += sum(delta.num_rows for delta in inputs)
        self.rows_out += output.num_rows
        self.busy_s += time.perf_counter() - started
        return output

    def _collect(self, place: int) -> Delta:
        sent = [delta for delta in self.mail[place] if delta is not None]
        self.mail[place] = [None] * len(self.mail[place])
        return joined(sent) if sent else Delta.empty(self.inputs[place])


class LocalPartitions:
    """Partitions as threads of this process. `make` gives the operator of a node for a partition."""

    def __init__(
        self,
        dataflow: Dataflow,
        partitions: int,
        make: Callable[[Node, int], Operator],
        *,
        interrupt: Callable[[], None] = lambda: None,
        parallel_rows: int = PARALLEL_ROWS,
    ) -> None:
        self._nodes = {node.id: node for node in dataflow.nodes}
        self._output = dataflow.output
        self._partitions = partitions
        self._interrupt = interrupt
        self._parallel_rows = parallel_rows
        self._widths = _widths(dataflow, partitions)
        self._stages = _stages(dataflow)
        self._consumers: dict[str, list[tuple[str, int, Edge]]] = {node.id: [] for node in dataflow.nodes}
        self._instances: dict[str, list[_Instance]] = {}
        for node in dataflow.nodes:
            for place, edge in enumerate(edges(node)):
                self._consumers[edge.node].append((node.id, place, edge))
            if not isinstance(node, Read):
                schemas = [self._nodes[edge.node].schema for edge in edges(node)]
                self._instances[node.id] = [_Instance(make(node, p), schemas, partitions) for p in range(self._widths[node.id])]
        self._outputs: list[list[Delta]] = [[] for _ in range(partitions)]
        self._threads: ThreadPoolExecutor | None = None
        self._stopped = threading.Event()

    def step(self, epoch: Epoch, inputs: Mapping[str, Delta]) -> list[Delta]:
        """Compute an epoch. See `Partitions`."""
        self._outputs = [[] for _ in range(self._partitions)]
        for read, delta in inputs.items():
            self._send(read, 0, delta)
        parallel = self._partitions > 1 and (epoch.ended or sum(delta.num_rows for delta in inputs.values()) >= self._parallel_rows)
        for stage in self._stages:
            self._run(stage, epoch, parallel)
        return [delta for outputs in self._outputs for delta in outputs]

    def snapshot(self) -> States:
        """Give the state of every instance."""
        return {name: tuple(instance.operator.snapshot() for instance in instances) for name, instances in self._instances.items()}

    def restore(self, states: States) -> None:
        """Give every instance its part of the state."""
        for name, instances in self._instances.items():
            parts = _redistributed(states[name], edges(self._nodes[name]), len(instances))
            for instance, state in zip(instances, parts, strict=True):
                instance.operator.restore(state)

    def statistics(self) -> tuple[NodeStatistics, ...]:
        """Add up the instances of every node."""
        return tuple(
            NodeStatistics(
                name,
                sum(instance.rows_in for instance in instances),
                sum(instance.rows_out for instance in instances),
                sum(instance.operator.state_rows for instance in instances),
                sum(instance.operator.state_bytes for instance in instances),
                sum(instance.busy_s for instance in instances),
            )
            for name, instances in self._instances.items()
        )

    def interrupt(self) -> None:
        """Stop before the next node, and the SQL that runs now."""
        self._stopped.set()
        self._interrupt()

    def close(self) -> None:
        """End the threads."""
        if self._threads is not None:
            self._threads.shutdown()
            self._threads = None

    def _run(self, stage: tuple[str, ...], epoch: Epoch, parallel: bool) -> None:
        if not parallel:
            for partition in range(self._partitions):
                self._run_partition(stage, partition, epoch)
            return
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._partitions - 1, thread_name_prefix="streamq partition")
        others = [self._threads.submit(self._run_partition, stage, partition, epoch) for partition in range(1, self._partitions)]
        try:
            self._run_partition(stage, 0, epoch)
        finally:
            # Whatever failed, nothing of this epoch runs on.
            errors = [other.exception() for other in others]
        for error in errors:
            if error is not None:
                raise error

    def _run_partition(self, stage: tuple[str, ...], partition: int, epoch: Epoch) -> None:
        for name in stage:
            if partition < self._widths[name]:
                if self._stopped.is_set():
                    raise Interrupted("the query was stopped")
                self._send(name, partition, self._instances[name][partition].process(epoch))

    def _send(self, name: str, partition: int, delta: Delta) -> None:
        if name == self._output:
            self._outputs[partition].append(delta)
        retracts = self._nodes[name].retracts
        for consumer, place, edge in self._consumers[name]:
            instances = self._instances[consumer]
            for target, part in enumerate(exchanged(delta, edge.exchange, partition, self._partitions, retracts)[: len(instances)]):
                instances[target].mail[place][partition] = part


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


def _redistributed(states: tuple[State, ...], inputs: Sequence[Edge], partitions: int) -> list[State]:
    """Give the state of a node's instances to another number of them."""
    if len(states) == partitions:
        return list(states)
    parts: list[dict[str, pa.Table]] = [{} for _ in range(partitions)]
    for name in states[0]:
        table = pa.concat_tables([state[name] for state in states])
        for partition, rows in enumerate(_by_owner(states[0][name], table, inputs, partitions)):
            parts[partition][name] = rows
    return [dict(part) for part in parts]


def _by_owner(first: pa.Table, table: pa.Table, inputs: Sequence[Edge], partitions: int) -> list[pa.Table]:
    exchanges = [edge.exchange for edge in inputs]
    if any(isinstance(exchange, Broadcast) for exchange in exchanges) and not any(isinstance(exchange, Hash) for exchange in exchanges):
        return [first] * partitions
    keys = next((e.columns for e in exchanges if isinstance(e, Hash) and set(e.columns) <= set(table.column_names)), ())
    columns = [table.column(key).combine_chunks() for key in keys]
    targets = owners_of(columns, table.num_rows, partitions)
    return [table.filter(pa.array(targets == partition)) for partition in range(partitions)]
