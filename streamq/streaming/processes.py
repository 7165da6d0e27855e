"""The partitions of a dataflow in the worker processes of a pool, which it shares with other queries.

The coordinator steps all hosts through an epoch stage by stage. Between stages it passes on what they have for each other, which is the
names of files where it is much. A host that fails, or dies, ends the query: what it kept is gone.
"""

from __future__ import annotations

import pickle
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from queue import SimpleQueue
from typing import TypeVar

import anyio
import anyio.to_thread

from streamq.errors import QueryCancelled, StreamqError, WorkerCrashed
from streamq.execution.jobs import HostedService, WorkerPool
from streamq.flow.scopes import raising_one
from streamq.kernels.session import Interrupted
from streamq.operators.base import Delta, Epoch, State
from streamq.plan.dataflow import Dataflow
from streamq.streaming.hosted import (
    Answer,
    HostedSetup,
    Hosts,
    Mail,
    Request,
    Restore,
    Restored,
    Snapshot,
    Step,
    Stepped,
    TakeSnapshot,
    packed,
)
from streamq.streaming.instances import NodeStatistics
from streamq.streaming.layout import Layout, States
from streamq.streaming.parcels import PackedState, Receiver, Sender, unpack_state

A = TypeVar("A", bound=Answer)


class ProcessPartitions:
    """Partitions as services of a pool's workers, several in one where there are fewer workers. See `Partitions`.

    They are there as long as `running()` is entered.
    """

    def __init__(self, dataflow: Dataflow, partitions: int) -> None:
        self._dataflow = dataflow
        self._layout = Layout(dataflow, partitions)
        self._hosts = Hosts(1, partitions)
        self._statistics = [tuple(NodeStatistics(name) for name in self._layout.operators)]
        self._told: SimpleQueue[tuple[int, bytes | StreamqError] | None] = SimpleQueue()
        self._services: Sequence[HostedService] = ()
        self._restored: States | None = None
        self._sender = Sender("", "coordinator")
        self._receiver = Receiver()
        self._stopped = False

    @asynccontextmanager
    async def running(self, pool: WorkerPool) -> AsyncIterator[None]:
        """Have workers of a pool host the partitions. No step may be running when this is left; then nothing of them is left either.

        Raises:
            WorkerCrashed: a worker died, at whatever time.
        """
        directory = await anyio.to_thread.run_sync(partial(tempfile.mkdtemp, prefix="partitions-", dir=pool.directory))
        self._sender = Sender(directory, "coordinator")
        used = max((self._layout.widths[name] for name in self._layout.operators), default=1)
        workers = pool.quietest(used)
        self._hosts = Hosts(len(workers), self._layout.partitions)
        self._statistics *= len(workers)
        try:
            with raising_one():
                async with AsyncExitStack() as stack, anyio.create_task_group() as watching:
                    services = []
                    for host, worker in enumerate(workers):
                        setup = HostedSetup(self._dataflow, self._hosts, host, directory)
                        services.append(await stack.enter_async_context(pool.host(setup, worker, partial(self._tell, host))))
                        watching.start_soon(_watch, services[-1])
                    self._services = services
                    yield
                    watching.cancel_scope.cancel()
        finally:
            self._sender.close()
            self._receiver.close()
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(partial(shutil.rmtree, directory, ignore_errors=True))

    def step(self, epoch: Epoch, inputs: Mapping[str, Delta]) -> list[Delta]:
        """Compute an epoch. See `Partitions`."""
        self._hand_over_restored()
        self._sender.clear()
        outputs: list[tuple[int, Delta]] = []
        waiting: list[list[Mail]] = [[] for _ in range(self._hosts.count)]
        for read, delta in inputs.items():
            if read == self._layout.output:
                outputs.append((0, delta))
            _deliver(packed(self._layout.sendings(read, 0, delta), 0, self._hosts, self._sender), waiting)
        stages = [self._hosts_of(stage) for stage in self._layout.stages]
        last = {host: number for number, hosts in enumerate(stages) for host in hosts}
        for number, hosts in enumerate(stages):
            steps = {host: Step(epoch, number, tuple(waiting[host]), last[host] == number) for host in hosts}
            for host in hosts:
                waiting[host] = []
            for host, stepped in self._ask(steps, Stepped).items():
                _deliver(stepped.mail, waiting)
                outputs += [(partition, self._receiver.unpack(parcel)) for partition, parcel in stepped.outputs]
                self._statistics[host] = stepped.statistics or self._statistics[host]
        return [delta for _, delta in sorted(outputs, key=lambda output: output[0])]

    def snapshot(self) -> States:
        """Give the state of every instance."""
        self._hand_over_restored()
        places: dict[str, dict[int, State]] = {name: {} for name in self._layout.operators}
        for answer in self._ask({host: TakeSnapshot() for host in range(self._hosts.count)}, Snapshot).values():
            for name, parts in answer.states.items():
                places[name].update((place, unpack_state(state)) for place, state in parts.items())
        return {name: tuple(states for _, states in sorted(parts.items())) for name, parts in places.items()}

    def restore(self, states: States) -> None:
        """Give every instance its part of the state, with the next step or snapshot: the workers may not host the partitions yet."""
        self._restored = states

    def statistics(self) -> tuple[NodeStatistics, ...]:
        """Tell what each node had done and kept after the last epoch."""
        return tuple(NodeStatistics.total(parts[0].node, parts) for parts in zip(*self._statistics, strict=True))

    def interrupt(self) -> None:
        """Wait for the workers no longer. What they compute is interrupted when `running()` is left."""
        self._stopped = True
        self._told.put(None)

    def close(self) -> None:
        """Do nothing: what runs in workers ends with `running()`."""

    def _hand_over_restored(self) -> None:
        states, self._restored = self._restored, None
        if states is None:
            return
        parts: list[dict[str, dict[int, PackedState]]] = [{} for _ in range(self._hosts.count)]
        for name, instances in self._layout.redistributed(states).items():
            for place, state in enumerate(instances):
                parts[self._hosts.of(place)].setdefault(name, {})[place] = self._sender.pack_state(state)
        for host, restored in self._ask({host: Restore(part) for host, part in enumerate(parts)}, Restored).items():
            self._statistics[host] = restored.statistics

    def _ask(self, requests: Mapping[int, Request], kind: type[A]) -> dict[int, A]:
        """Ask hosts and wait for all their answers."""
        if self._stopped:
            raise Interrupted("the query was stopped")
        for host, request in requests.items():
            self._services[host].call(request)
        answers: dict[int, A] = {}
        while len(answers) < len(requests):
            told = self._told.get()
            if told is None:
                raise Interrupted("the query was stopped")
            host, answer = told
            if isinstance(answer, StreamqError):
                raise answer
            answers[host] = pickle.loads(answer)
            assert isinstance(answers[host], kind), f"host {host} answered {answers[host]!r}"
        return answers

    def _tell(self, host: int, answer: bytes | StreamqError) -> None:
        self._told.put((host, answer))

    def _hosts_of(self, stage: Sequence[str]) -> list[int]:
        width = max(self._layout.widths[name] for name in stage)
        return list(range(self._hosts.of(width - 1) + 1))


def _deliver(mails: Iterable[Mail], waiting: Sequence[list[Mail]]) -> None:
    for mail in mails:
        waiting[mail.host].append(mail)


async def _watch(service: HostedService) -> None:
    """Fail when a worker ends, also while nothing is asked of it. What its answers fail with is raised where they are waited for."""
    reason = await service.wait_ended()
    if isinstance(reason, WorkerCrashed | QueryCancelled):
        raise reason
