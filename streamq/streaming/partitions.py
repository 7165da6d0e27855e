"""The partitions of a dataflow in this process: instances of every node, stepped through an epoch stage by stage.

Epochs with few rows run in the caller's thread, one partition after the other; large ones in a thread for each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from streamq.kernels.session import Interrupted
from streamq.operators.base import Delta, Epoch, Operator
from streamq.plan.dataflow import Dataflow, Node
from streamq.streaming.instances import Instance, NodeStatistics
from streamq.streaming.layout import Layout, States

PARALLEL_ROWS = 4_096
"""Fewer rows than this are faster in one thread."""


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


class LocalPartitions:
    """Partitions as threads of this process. `make` gives the operator of a node for a partition."""

    __slots__ = ("_instances", "_interrupt", "_layout", "_outputs", "_parallel_rows", "_partitions", "_stopped", "_threads")

    def __init__(
        self,
        dataflow: Dataflow,
        partitions: int,
        make: Callable[[Node, int], Operator],
        *,
        interrupt: Callable[[], None] = lambda: None,
        parallel_rows: int = PARALLEL_ROWS,
    ) -> None:
        self._layout = layout = Layout(dataflow, partitions)
        self._partitions = partitions
        self._interrupt = interrupt
        self._parallel_rows = parallel_rows
        self._instances: dict[str, list[Instance]] = {}
        for name in layout.operators:
            schemas = layout.input_schemas(name)
            operators = [make(layout.nodes[name], place) for place in range(layout.widths[name])]
            self._instances[name] = [Instance(name, operator, schemas, partitions) for operator in operators]
        self._outputs: list[list[Delta]] = [[] for _ in range(partitions)]
        self._threads: ThreadPoolExecutor | None = None
        self._stopped = False

    def step(self, epoch: Epoch, inputs: Mapping[str, Delta]) -> list[Delta]:
        """Compute an epoch. See `Partitions`."""
        for read, delta in inputs.items():
            self._send(read, 0, delta)
        parallel = self._partitions > 1 and (epoch.ended or sum(delta.num_rows for delta in inputs.values()) >= self._parallel_rows)
        for stage in self._layout.stages:
            self._run(stage, epoch, parallel)
        given = [delta for outputs in self._outputs for delta in outputs]
        self._outputs = [[] for _ in range(self._partitions)]
        return given

    def snapshot(self) -> States:
        """Give the state of every instance."""
        return {name: tuple(instance.operator.snapshot() for instance in instances) for name, instances in self._instances.items()}

    def restore(self, states: States) -> None:
        """Give every instance its part of the state."""
        for name, parts in self._layout.redistributed(states).items():
            for instance, state in zip(self._instances[name], parts, strict=True):
                instance.operator.restore(state)

    def statistics(self) -> tuple[NodeStatistics, ...]:
        """Add up the instances of every node."""
        return tuple(
            NodeStatistics.total(name, [instance.statistics() for instance in instances]) for name, instances in self._instances.items()
        )

    def interrupt(self) -> None:
        """Stop before the next node, and the SQL that runs now."""
        self._stopped = True
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
            if partition < self._layout.widths[name]:
                if self._stopped:
                    raise Interrupted("the query was stopped")
                self._send(name, partition, self._instances[name][partition].process(epoch))

    def _send(self, name: str, partition: int, delta: Delta) -> None:
        if name == self._layout.output:
            self._outputs[partition].append(delta)
        for sending in self._layout.sendings(name, partition, delta):
            self._instances[sending.node][sending.target].receive(sending.place, partition, sending.delta)
