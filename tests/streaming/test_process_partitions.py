"""Partitions in worker processes: what they compute, keep and give back, and how they end."""

from __future__ import annotations

import os
import pickle
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import numpy as np
import pyarrow as pa
import pytest

from streamq.config import Config
from streamq.errors import DataError, QueryError, StreamqError, WorkerCrashed
from streamq.execution.planning import Planner
from streamq.execution.processes import ProcessPool
from streamq.execution.statements import run_statement
from streamq.kernels.evaluate import Evaluator
from streamq.kernels.session import Session
from streamq.operators import make
from streamq.operators.base import Delta, Epoch, Operator, OperatorContext
from streamq.plan.dataflow import Dataflow, Node, Read
from streamq.sql.parse import parse_one
from streamq.sql.statements import CreateSource, CreateTable, Select
from streamq.storage.catalog import Catalog
from streamq.streaming.parcels import INLINE_BYTES
from streamq.streaming.partitions import LocalPartitions, Partitions
from streamq.streaming.processes import ProcessPartitions
from tests.execution.services import Recorded

pytestmark = [pytest.mark.anyio, pytest.mark.by_turns]
RELATIONS = (
    "CREATE SOURCE orders (id BIGINT, shop VARCHAR, amount BIGINT, price DECIMAL(10, 2))",
    "CREATE TABLE shops (shop VARCHAR PRIMARY KEY, city VARCHAR)",
)
QUERIES = {
    "map": "SELECT id, upper(shop) AS s FROM orders WHERE amount % 3 = 0",
    "group": "SELECT shop, count(*) AS n, sum(amount) AS s, max(price) AS p FROM orders GROUP BY shop",
    "global": "SELECT count(*) AS n, sum(price) AS p FROM orders",
    "join": "SELECT o.id, s.city FROM orders o LEFT JOIN shops s ON o.shop = s.shop",
    "join and group": "SELECT s.city, sum(o.amount) AS a FROM orders o JOIN shops s ON o.shop = s.shop GROUP BY s.city",
    "distinct count": "SELECT amount % 5 AS k, count(DISTINCT shop) AS n FROM orders GROUP BY 1",
    "top": "SELECT id, amount FROM orders ORDER BY amount DESC, id LIMIT 7",
    "subquery": "SELECT id FROM orders WHERE amount > (SELECT avg(amount) FROM orders)",
    "window": "SELECT shop, id, row_number() OVER (PARTITION BY shop ORDER BY amount, id) AS r FROM orders",
}
every_query = pytest.mark.parametrize("sql", QUERIES.values(), ids=QUERIES.keys())
Net = Counter[tuple[Any, ...]]


class Plans:
    """Plans queries over a few relations, and has LocalPartitions compute them."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        config = Config.load({}, temp_dir=str(directory))
        self._catalog = Catalog(config)
        stack.callback(self._catalog.close)
        self._planner = Planner(self._catalog, config)
        stack.callback(self._planner.close)
        self._session = stack.enter_context(Session(64 << 20, str(directory)))
        self._stack = stack
        for sql in RELATIONS:
            statement = parse_one(sql)
            assert isinstance(statement, CreateSource | CreateTable)
            run_statement(statement, self._catalog, self._planner, None)

    def dataflow(self, sql: str, partitions: int) -> Dataflow:
        select = parse_one(f"{sql} EMIT CHANGES")
        assert isinstance(select, Select)
        return self._planner.plan_continuous(select, None, partitions).dataflow

    def local(self, dataflow: Dataflow, partitions: int) -> LocalPartitions:
        evaluators = [self._stack.enter_context(Evaluator(self._session)) for _ in range(partitions)]
        nodes: Mapping[str, Node] = {node.id: node for node in dataflow.nodes}

        def operator(node: Node, partition: int) -> Operator:
            return make(node, OperatorContext.of(node, nodes, evaluators[partition], dict(dataflow.parameters), partition))

        local = LocalPartitions(dataflow, partitions, operator)
        self._stack.callback(local.close)
        return local


class Epochs:
    """Random changes of the relations, epoch after epoch."""

    def __init__(self, dataflow: Dataflow, seed: int = 1) -> None:
        self._reads = [node for node in dataflow.nodes if isinstance(node, Read)]
        self._random = random.Random(seed)
        self._cities: dict[str, str] = {}
        self._orders = 0
        self.number = 0

    def next(self, rows: int) -> tuple[Epoch, dict[str, Delta]]:
        self.number += 1
        changes = {"orders": self._new_orders(rows), "shops": self._changed_shops()}
        return Epoch(self.number, 0), {read.id: _columns(changes[read.scan.relation], read.schema) for read in self._reads}

    def _new_orders(self, rows: int) -> Delta:
        numbers = np.arange(self._orders, self._orders + rows)
        self._orders += rows
        amounts = np.array([self._random.randrange(100) for _ in range(rows)], np.int64)
        columns = {
            "id": pa.array(numbers),
            "shop": pa.array([f"shop {n % 11}" if n % 13 else None for n in numbers], pa.string()),
            "amount": pa.array(amounts),
            "price": pa.array(amounts.astype(np.int32)).cast(pa.decimal128(12, 2)).cast(pa.decimal128(10, 2)),
        }
        return Delta(pa.record_batch(columns))

    def _changed_shops(self) -> Delta:
        shop, city = f"shop {self._random.randrange(11)}", f"city {self._random.randrange(3)}"
        rows = [(shop, self._cities[shop], -1)] if shop in self._cities else []
        self._cities[shop] = city
        rows.append((shop, city, 1))
        names, cities, weights = zip(*rows, strict=True)
        return Delta(pa.record_batch({"shop": pa.array(names), "city": pa.array(cities)}), np.array(weights))


def _columns(delta: Delta, schema: pa.Schema) -> Delta:
    return Delta(pa.RecordBatch.from_arrays([delta.rows.column(name) for name in schema.names], schema=schema), delta.weights)


def net(deltas: list[Delta]) -> Net:
    """Add up the changes of an epoch."""
    total: Net = Counter()
    for delta in deltas:
        weights = [1] * delta.num_rows if delta.weights is None else delta.weights.tolist()
        for row, weight in zip(delta.rows.to_pylist(), weights, strict=True):
            total[tuple(row.values())] += weight
    return Counter({row: weight for row, weight in total.items() if weight})


async def step(partitions: Partitions, epoch: Epoch, inputs: Mapping[str, Delta]) -> Net:
    """Compute an epoch in a thread, as the coordinator does."""
    return net(await anyio.to_thread.run_sync(partitions.step, epoch, inputs))


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plans]:
    with ExitStack() as stack:
        yield Plans(tmp_path_factory.mktemp("plans"), stack)


@pytest.fixture(scope="module")
async def pool(anyio_backend: object, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ProcessPool]:
    """Two workers, shared by this module's tests."""
    async with ProcessPool(Config.load({}, workers=2, temp_dir=str(tmp_path_factory.mktemp("pool")))) as pool:
        yield pool


def files_of(pool: ProcessPool) -> list[Path]:
    """List the rows that are on their way in files."""
    return list(Path(pool.directory).rglob("*.arrow"))


def left_in(pool: ProcessPool) -> list[Path]:
    """List what queries have in the pool's directory."""
    return [*Path(pool.directory).glob("partitions*"), *files_of(pool)]


def restarts(pool: ProcessPool) -> list[int]:
    """Tell how often each worker was replaced."""
    return [worker.restarts for worker in pool.statistics().workers]


@pytest.fixture(autouse=True)
async def nothing_is_left(pool: ProcessPool) -> AsyncIterator[None]:
    """Check after each test that no worker hosts anything and that no file is left."""
    yield
    assert [worker.jobs for worker in pool.statistics().workers] == [0, 0]
    assert left_in(pool) == []


# What is computed


@every_query
@pytest.mark.parametrize("count", [1, 2, 5])
async def test_workers_compute_what_threads_do(plans: Plans, pool: ProcessPool, sql: str, count: int) -> None:
    """Every epoch's changes are those of partitions in this process, with a partition a worker and with several."""
    dataflow = plans.dataflow(sql, count)
    local, remote = plans.local(dataflow, count), ProcessPartitions(dataflow, count)
    epochs = Epochs(dataflow)
    async with remote.running(pool):
        for rows in (5, 1, 0, 300):
            epoch, inputs = epochs.next(rows)
            assert await step(remote, epoch, inputs) == await step(local, epoch, inputs), f"epoch {epoch.number}"
    assert [(node.node, node.rows_in, node.rows_out, node.state_rows) for node in remote.statistics()] == [
        (node.node, node.rows_in, node.rows_out, node.state_rows) for node in local.statistics()
    ]


@pytest.mark.parametrize("name", ["map", "group", "join and group", "subquery"])
async def test_large_epochs_go_through_files(plans: Plans, pool: ProcessPool, name: str) -> None:
    """Rows that are too many for a message arrive just so, and their files are gone with the epoch."""
    dataflow = plans.dataflow(QUERIES[name], 2)
    local, remote = plans.local(dataflow, 2), ProcessPartitions(dataflow, 2)
    epochs = Epochs(dataflow)
    async with remote.running(pool):
        for _ in range(2):
            epoch, inputs = epochs.next(20_000)
            assert any(delta.rows.nbytes > 2 * INLINE_BYTES for delta in inputs.values())
            assert await step(remote, epoch, inputs) == await step(local, epoch, inputs)
            assert files_of(pool) == []


@every_query
@pytest.mark.parametrize(("before", "after"), [(1, 5), (3, 2), (2, 2)])
async def test_state_moves_to_another_number_of_partitions(plans: Plans, pool: ProcessPool, sql: str, before: int, after: int) -> None:
    """What some partitions kept, others go on with, in this process or in workers."""
    dataflow = plans.dataflow(sql, max(before, after))
    old, local, new = ProcessPartitions(dataflow, before), plans.local(dataflow, before), ProcessPartitions(dataflow, after)
    epochs = Epochs(dataflow)
    async with old.running(pool):
        for rows in (50, 20):
            epoch, inputs = epochs.next(rows)
            assert await step(old, epoch, inputs) == await step(local, epoch, inputs)
        states = await anyio.to_thread.run_sync(old.snapshot)
    new.restore(states)
    async with new.running(pool):
        assert (await anyio.to_thread.run_sync(new.snapshot)).keys() == states.keys()
        assert [node.state_rows > 0 for node in new.statistics()] == [node.state_rows > 0 for node in local.statistics()]
        for rows in (30, 0, 10):
            epoch, inputs = epochs.next(rows)
            assert await step(new, epoch, inputs) == await step(local, epoch, inputs), f"epoch {epoch.number}"


async def test_several_queries_share_the_workers(plans: Plans, pool: ProcessPool) -> None:
    """Queries that are stepped at the same time do not see each other."""

    async def follow(sql: str) -> None:
        dataflow = plans.dataflow(sql, 2)
        remote = ProcessPartitions(dataflow, 2)
        answers = []
        epochs = Epochs(dataflow)
        async with remote.running(pool):
            for _ in range(5):
                epoch, inputs = epochs.next(20)
                answers.append((epoch, inputs, await step(remote, epoch, inputs)))
        local = plans.local(dataflow, 2)
        assert [answer for _, _, answer in answers] == [await step(local, epoch, inputs) for epoch, inputs, _ in answers]

    async with anyio.create_task_group() as tasks:
        for sql in (QUERIES["group"], QUERIES["join"], QUERIES["distinct count"]):
            tasks.start_soon(follow, sql)


# How it ends


async def test_an_operators_error_comes_back_as_it_was(plans: Plans, pool: ProcessPool) -> None:
    """A failed expression is a DataError; the workers go on."""
    dataflow = plans.dataflow("SELECT 100 // (amount - amount) AS d FROM orders", 2)
    epoch, inputs = Epochs(dataflow).next(10)
    remote = ProcessPartitions(dataflow, 2)
    before = restarts(pool)
    with pytest.raises(DataError, match="TRY"):
        async with remote.running(pool):
            await step(remote, epoch, inputs)
    assert restarts(pool) == before


async def test_a_row_that_was_never_there_is_an_internal_error(plans: Plans, pool: ProcessPool) -> None:
    """What cannot be is said to be streamq's own error."""
    dataflow = plans.dataflow("SELECT city, count(*) AS n FROM shops GROUP BY city", 2)
    (read,) = [node for node in dataflow.nodes if isinstance(node, Read)]
    rows = pa.RecordBatch.from_pylist([{"shop": "a", "city": "Rome"}]).select(read.schema.names)
    remote = ProcessPartitions(dataflow, 2)
    with pytest.raises(QueryError, match="internal error"):
        async with remote.running(pool):
            await step(remote, Epoch(1, 0), {read.id: Delta(rows, np.array([-1]))})


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_killed_worker_ends_the_query(plans: Plans, pool: ProcessPool, seed: int) -> None:
    """Killed at any time, a worker ends what it hosted with WorkerCrashed, and every answer before was right."""
    dataflow = plans.dataflow(QUERIES["join and group"], 2)
    local, remote = plans.local(dataflow, 2), ProcessPartitions(dataflow, 2)
    random_ = random.Random(seed)
    last = random_.randrange(1, 6)
    epochs = Epochs(dataflow)
    with anyio.fail_after(30), pytest.raises(WorkerCrashed, match="SIGKILL"):
        async with remote.running(pool), anyio.create_task_group() as tasks:
            while True:
                epoch, inputs = epochs.next(500)
                if epoch.number == last:
                    tasks.start_soon(_kill, pool, random_.randrange(2), random_.randrange(20))
                assert await step(remote, epoch, inputs) == await step(local, epoch, inputs)


async def _kill(pool: ProcessPool, worker: int, rounds: int) -> None:
    for _ in range(rounds):
        await anyio.lowlevel.checkpoint()
    pid = pool.statistics().workers[worker].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


async def test_a_worker_that_dies_idle_ends_the_query(plans: Plans, pool: ProcessPool) -> None:
    """Nothing needs to be asked of it."""
    dataflow = plans.dataflow(QUERIES["group"], 2)
    remote = ProcessPartitions(dataflow, 2)
    with anyio.fail_after(30), pytest.raises(WorkerCrashed):
        async with remote.running(pool):
            await _kill(pool, 1, 0)
            await anyio.sleep_forever()


@pytest.mark.parametrize("rounds", [0, 10, 1_000])
async def test_an_interrupted_step_ends(plans: Plans, pool: ProcessPool, rounds: int) -> None:
    """A step that would go on for hours ends when it is interrupted, and its workers are free again."""
    endless = "SELECT count(*) FROM range(10000000) a(i), range(10000000) b(j) WHERE (i * j + id) % 7 = 3"
    dataflow = plans.dataflow(f"SELECT ({endless}) AS n FROM orders", 2)
    epoch, inputs = Epochs(dataflow).next(10)
    remote = ProcessPartitions(dataflow, 2)
    before = restarts(pool)
    with anyio.fail_after(30):
        async with remote.running(pool), anyio.create_task_group() as tasks:
            tasks.start_soon(_expect_interruption, remote, epoch, inputs)
            for _ in range(rounds):
                await anyio.lowlevel.checkpoint()
            remote.interrupt()
    assert restarts(pool) == before


async def _expect_interruption(partitions: Partitions, epoch: Epoch, inputs: Mapping[str, Delta]) -> None:
    with pytest.raises(QueryError, match="stopped"):
        await step(partitions, epoch, inputs)


async def test_workers_get_operators_and_no_parser(plans: Plans, pool: ProcessPool, tmp_path: Path) -> None:
    """A worker that hosts partitions has neither the parser nor the event loop's libraries, and maps no rows of an epoch that is over."""
    dataflow = plans.dataflow(QUERIES["join"], 2)
    remote = ProcessPartitions(dataflow, 2)
    async with remote.running(pool):
        await step(remote, *Epochs(dataflow).next(20_000))
        for worker in pool.statistics().workers:
            maps = await anyio.to_thread.run_sync(Path(f"/proc/{worker.pid}/maps").read_text)
            assert "llvmlite" in maps
            assert "partitions-" not in maps
        told: SimpleQueue[bytes | StreamqError] = SimpleQueue()
        async with pool.host(Recorded(str(tmp_path / "log")), 0, told.put) as service:
            service.call(("modules", "sqlglot", "anyio", "pandas", "streamq.engine"))
            answer = await anyio.to_thread.run_sync(told.get)
            assert isinstance(answer, bytes)
            assert pickle.loads(answer) == []
