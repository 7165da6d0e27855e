"""The partitions that one worker process hosts: operators made there, stepped stage by stage as the coordinator says.

Rows that stay in the worker are handed over as they are; those for other workers are cut here and packed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby

from streamq.kernels.evaluate import Evaluator
from streamq.kernels.session import Interrupted, Session
from streamq.operators import make
from streamq.operators.base import Delta, Epoch, OperatorContext
from streamq.plan.dataflow import Dataflow
from streamq.streaming.instances import Instance, NodeStatistics
from streamq.streaming.layout import Layout, Sending
from streamq.streaming.parcels import PackedState, Parcel, Receiver, Sender, unpack_state

PackedStates = Mapping[str, Mapping[int, PackedState]]
"""By node and partition."""


@dataclass(frozen=True, slots=True)
class Mail:
    """Rows that partition `source` sends to partitions of one host, for the edge at `place` of a node."""

    host: int
    node: str
    place: int
    source: int
    targets: tuple[int, ...]
    parcel: Parcel


@dataclass(frozen=True, slots=True)
class Step:
    """Compute a stage of an epoch, once what came for it (or for later stages) has been taken in. With `last`, tell statistics."""

    epoch: Epoch
    stage: int
    mail: tuple[Mail, ...]
    last: bool


@dataclass(frozen=True, slots=True)
class Stepped:
    """What a stage has given: rows for other hosts, and changes of the result by partition."""

    mail: tuple[Mail, ...]
    outputs: tuple[tuple[int, Parcel], ...]
    statistics: tuple[NodeStatistics, ...] | None


@dataclass(frozen=True, slots=True)
class TakeSnapshot:
    """Give all that is kept."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    states: PackedStates


@dataclass(frozen=True, slots=True)
class Restore:
    """Take over states."""

    states: PackedStates


@dataclass(frozen=True, slots=True)
class Restored:
    statistics: tuple[NodeStatistics, ...]


Request = Step | TakeSnapshot | Restore
Answer = Stepped | Snapshot | Restored


@dataclass(frozen=True, slots=True)
class Hosts:
    """Which of `count` hosts has which of `partitions`: each a range, as equal as can be."""

    count: int
    partitions: int

    def of(self, partition: int) -> int:
        """Give the host of a partition.

        >>> [Hosts(2, 5).of(partition) for partition in range(5)]
        [0, 0, 0, 1, 1]
        """
        return partition * self.count // self.partitions

    def partitions_of(self, host: int) -> tuple[int, ...]:
        """Give the partitions of a host."""
        return tuple(partition for partition in range(self.partitions) if self.of(partition) == host)


@dataclass(frozen=True, slots=True)
class HostedSetup:
    """What a worker needs to be host number `host` of a dataflow's partitions. Large parcels go through `directory`."""

    dataflow: Dataflow
    hosts: Hosts
    host: int
    directory: str

    def open(self, session: Session) -> HostedPartitions:
        """Make the operators.

        Raises:
            QueryError: DuckDB does not accept the SQL of a node.
        """
        with ExitStack() as stack:
            return HostedPartitions(self, session, stack)


class HostedPartitions:
    """Partitions of a dataflow in a worker. See `Service`."""

    def __init__(self, setup: HostedSetup, session: Session, stack: ExitStack) -> None:
        self._layout = layout = Layout(setup.dataflow, setup.hosts.partitions)
        self._hosts = setup.hosts
        self._host = setup.host
        self._sender = Sender(setup.directory, f"host{setup.host}")
        stack.callback(self._sender.close)
        self._receiver = Receiver()
        stack.callback(self._receiver.close)
        self._epoch = 0
        self._evaluators: list[Evaluator] = []
        self._instances: dict[str, dict[int, Instance]] = {name: {} for name in layout.operators}
        self._stopped = False
        self._own = setup.hosts.partitions_of(setup.host)
        parameters = dict(setup.dataflow.parameters)
        for partition in self._own:
            evaluator = stack.enter_context(Evaluator(session))
            self._evaluators.append(evaluator)
            for name in layout.operators:
                if partition < layout.widths[name]:
                    context = OperatorContext.of(layout.nodes[name], layout.nodes, evaluator, parameters, partition)
                    operator = make(layout.nodes[name], context)
                    self._instances[name][partition] = Instance(name, operator, layout.input_schemas(name), layout.partitions)
        self._open = stack.pop_all()

    def call(self, request: object) -> Answer:
        """Answer one request of the coordinator."""
        match request:
            case Step():
                return self._step(request)
            case TakeSnapshot():
                return self._snapshot()
            case Restore(states):
                return self._restore(states)
            case _:
                raise TypeError(f"unexpected request {request!r}")

    def interrupt(self) -> None:
        """Stop before the next node, and the SQL that runs now."""
        self._stopped = True
        for evaluator in self._evaluators:
            evaluator.interrupt()

    def close(self) -> None:
        """Give operators and connections back."""
        self._instances.clear()
        self._open.close()

    def _step(self, step: Step) -> Stepped:
        if step.epoch.number != self._epoch:
            # The coordinator begins an epoch when everybody has what was sent in the one before.
            self._epoch = step.epoch.number
            self._sender.clear()
        for mail in step.mail:
            delta = self._receiver.unpack(mail.parcel)
            for target in mail.targets:
                self._instances[mail.node][target].receive(mail.place, mail.source, delta)
        sent: list[Mail] = []
        outputs: list[tuple[int, Parcel]] = []
        for partition in self._own:
            for name in self._layout.stages[step.stage]:
                if (instance := self._instances[name].get(partition)) is not None:
                    if self._stopped:
                        raise Interrupted("the query was stopped")
                    delta = instance.process(step.epoch)
                    if name == self._layout.output and delta.num_rows:
                        outputs.append((partition, self._sender.pack(delta)))
                    sent += self._send(name, partition, delta)
        return Stepped(tuple(sent), tuple(outputs), self._statistics() if step.last else None)

    def _send(self, name: str, source: int, delta: Delta) -> list[Mail]:
        elsewhere: list[Sending] = []
        for sending in self._layout.sendings(name, source, delta):
            if self._hosts.of(sending.target) == self._host:
                self._instances[sending.node][sending.target].receive(sending.place, source, sending.delta)
            else:
                elsewhere.append(sending)
        return packed(elsewhere, source, self._hosts, self._sender)

    def _snapshot(self) -> Snapshot:
        return Snapshot(
            {
                name: {partition: self._sender.pack_state(instance.operator.snapshot()) for partition, instance in instances.items()}
                for name, instances in self._instances.items()
            }
        )

    def _restore(self, states: PackedStates) -> Restored:
        for name, parts in states.items():
            for partition, state in parts.items():
                self._instances[name][partition].operator.restore(unpack_state(state))
        return Restored(self._statistics())

    def _statistics(self) -> tuple[NodeStatistics, ...]:
        return tuple(
            NodeStatistics.total(name, [instance.statistics() for instance in instances.values()])
            for name, instances in self._instances.items()
        )


def packed(sendings: Iterable[Sending], source: int, hosts: Hosts, sender: Sender) -> list[Mail]:
    """Pack rows for other hosts. What several partitions of a host get (they follow each other) is packed once for it."""
    mail = []
    for (host, node, place, _), group in groupby(sendings, lambda s: (hosts.of(s.target), s.node, s.place, id(s.delta))):
        same = list(group)
        mail.append(Mail(host, node, place, source, tuple(sending.target for sending in same), sender.pack(same[0].delta)))
    return mail
