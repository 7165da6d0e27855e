"""The partitions of a dataflow: who gets which rows, and in which order nodes run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from streamq.errors import QueryError
from streamq.operators.base import Delta, Epoch, State
from streamq.plan.dataflow import INPUT, Dataflow, Distinct, Hold, Map, Node, Read, Recompute, Side, Sided, Union
from streamq.plan.exchanges import Broadcast, Edge, Exchange, Gather, Hash, Keep, Spread
from streamq.sql.logical import Continuous, Scan
from streamq.streaming.exchange import SPREAD_ROWS, exchanged
from streamq.streaming.instances import NodeStatistics
from streamq.streaming.partitions import LocalPartitions

SCHEMA = pa.schema([("n", pa.int64())])
PARTITIONS = 4
READ = Read("read", Scan("s#1", "s", ("n",)), SCHEMA, retracts=False)


class Recorder:
    """An operator that passes its rows on, and remembers them and the epochs."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.epochs: list[int] = []

    def process(self, inputs: Sequence[Delta], epoch: Epoch) -> Delta:
        self.epochs.append(epoch.number)
        for delta in inputs:
            self.rows += delta.rows.column("n").to_pylist()
        return max(inputs, key=lambda delta: delta.num_rows, default=Delta.empty(SCHEMA))

    @property
    def state_rows(self) -> int:
        return len(self.rows)

    state_bytes = 8

    def snapshot(self) -> State:
        return {"rows": pa.table({"n": pa.array(self.rows, pa.int64())})}

    def restore(self, state: State) -> None:
        self.rows = state["rows"].column("n").to_pylist()


class Harness:
    """A dataflow with a recorder in every place. It is small, but runs in threads."""

    def __init__(self, *nodes: Node, partitions: int = PARTITIONS) -> None:
        self.recorders: dict[str, list[Recorder]] = {}
        dataflow = Dataflow(nodes, nodes[-1].id, SCHEMA, None, "append", False, Continuous("changes"))
        self.partitions = LocalPartitions(dataflow, partitions, self._make, parallel_rows=1)

    def _make(self, node: Node, partition: int) -> Recorder:
        places = self.recorders.setdefault(node.id, [])
        assert len(places) == partition
        places.append(Recorder())
        return places[-1]

    def step(self, count: int, number: int = 1) -> list[int]:
        """Give the read numbers from 0 on; gives what comes out."""
        outputs = self.partitions.step(Epoch(number, 0), {"read": numbers(count)})
        self.partitions.close()
        return [value for delta in outputs for value in delta.rows.column("n").to_pylist()]

    def placed(self, node: str) -> list[list[int]]:
        return [recorder.rows for recorder in self.recorders[node]]


def numbers(count: int) -> Delta:
    return Delta(pa.record_batch({"n": pa.array(np.arange(count))}))


def passing(name: str, source: str, exchange: Exchange) -> Map:
    return Map(name, Edge(source, exchange), f'SELECT * FROM "{INPUT}"', SCHEMA, retracts=False)


@pytest.mark.parametrize("exchange", [Hash(("n",)), Spread(), Gather()])
def test_every_row_is_in_one_partition(exchange: Exchange) -> None:
    """Whatever the exchange, but for a broadcast, no row is lost and none is there twice."""
    harness = Harness(READ, passing("map", "read", exchange))
    assert Counter(harness.step(10_000)) == Counter(range(10_000))


def test_a_hash_brings_equal_keys_together() -> None:
    """Two nodes that hash by the same column have equal rows in the same partition, in every epoch."""
    harness = Harness(READ, passing("a", "read", Hash(("n",))), passing("b", "a", Spread()), passing("c", "b", Hash(("n",))))
    harness.step(10_000)
    harness.step(10_000, number=2)
    first, again = harness.placed("a"), harness.placed("c")
    assert all(rows for rows in first)
    assert [Counter(rows) for rows in first] == [Counter(rows) for rows in again]


def test_spread_rows_are_cut_into_runs() -> None:
    """Many rows are one run a partition; few rows stay together."""
    parts = exchanged(numbers(8 * SPREAD_ROWS), Spread(), 0, PARTITIONS, retracts=False)
    assert [part.rows.column("n")[0].as_py() for part in parts if part is not None] == [2 * SPREAD_ROWS * n for n in range(4)]
    assert [part is None for part in exchanged(numbers(9), Spread(), 0, PARTITIONS, retracts=False)] == [False, True, True, True]


def test_spread_rows_that_can_be_withdrawn_go_where_they_went() -> None:
    """A row's withdrawal meets the row, whatever comes with it."""
    came = exchanged(numbers(100), Spread(), 0, PARTITIONS, retracts=True)
    for partition, part in enumerate(came):
        assert part is not None
        one = Delta(part.rows.slice(0, 1), np.array([-1]))
        assert exchanged(one, Spread(), 0, PARTITIONS, retracts=True)[partition] is not None


def test_keys_that_cannot_be_hashed_are_together() -> None:
    """Rows hashed by a list all go to one partition."""
    rows = pa.record_batch({"n": pa.array([[1], [2], [3]])})
    assert [part and part.num_rows for part in exchanged(Delta(rows), Hash(("n",)), 0, 4, retracts=False)] == [3, None, None, None]


def test_what_is_gathered_has_one_instance() -> None:
    """Behind a gathering exchange there is one partition, for as long as rows keep theirs."""
    single = [passing("b", "a", Gather()), passing("c", "b", Keep())]
    harness = Harness(READ, passing("a", "read", Spread()), *single, passing("d", "c", Hash(("n",))))
    assert Counter(harness.step(1_000)) == Counter(range(1_000))
    assert {name: len(places) for name, places in harness.recorders.items()} == {"a": 4, "b": 1, "c": 1, "d": 4}


def test_a_side_is_in_every_partition() -> None:
    """A broadcast row is everywhere; the rows that it is a side of stay where they are."""
    side = Recompute("side", (Edge("read", Gather()),), ("t",), ((),), "", SCHEMA, retracts=True)
    sided = Sided("sided", Edge("read", Spread()), (Side(Edge("side", Broadcast()), "t"),), "", SCHEMA, retracts=True)
    harness = Harness(READ, side, sided)
    harness.step(3)
    assert harness.placed("sided") == [[0, 1, 2, 0, 1, 2], [0, 1, 2], [0, 1, 2], [0, 1, 2]]


def test_a_node_without_inputs_runs_once() -> None:
    """A constant is one row, in one partition."""
    harness = Harness(Recompute("one", (), (), (), "SELECT 1 AS n", SCHEMA, retracts=False))
    harness.partitions.step(Epoch(1, 0), {})
    assert len(harness.recorders["one"]) == 1


def test_branches_meet() -> None:
    """A node runs when the rows of all its inputs are there."""
    slow = [passing("a", "read", Hash(("n",))), passing("b", "a", Spread())]
    union = Union("union", (Edge("read", Gather()), Edge("b", Gather())), SCHEMA, retracts=False)
    harness = Harness(READ, *slow, union)
    harness.step(100)
    assert Counter(harness.recorders["union"][0].rows) == Counter([*range(100)] * 2)


def test_every_instance_takes_part_in_every_epoch() -> None:
    """Time passes where no rows are, too."""
    harness = Harness(READ, Hold("hold", Edge("read", Hash(("n",))), None, SCHEMA))
    harness.step(1, number=1)
    harness.step(0, number=2)
    assert [recorder.epochs for recorder in harness.recorders["hold"]] == [[1, 2]] * PARTITIONS


def test_statistics_add_up_the_instances() -> None:
    """Rows and state are counted over all partitions."""
    harness = Harness(READ, Distinct("distinct", Edge("read", Hash(("n",))), SCHEMA, retracts=False))
    harness.step(1_000)
    (node,) = harness.partitions.statistics()
    assert node == NodeStatistics("distinct", 1_000, 1_000, 1_000, 8 * PARTITIONS, node.busy_s)


@pytest.mark.parametrize("partitions", [1, 2, 4, 7])
def test_state_can_be_restored_in_another_number_of_partitions(partitions: int) -> None:
    """Every partition gets the state of the rows that it will get."""
    node = Distinct("distinct", Edge("read", Hash(("n",))), SCHEMA, retracts=False)
    old, new, fresh = Harness(READ, node), Harness(READ, node, partitions=partitions), Harness(READ, node, partitions=partitions)
    old.step(1_000)
    new.partitions.restore(old.partitions.snapshot())
    fresh.step(1_000)
    assert [sorted(rows) for rows in new.placed("distinct")] == [sorted(rows) for rows in fresh.placed("distinct")]


def test_a_failure_in_any_partition_ends_the_step() -> None:
    """The first failure is raised when every partition has stopped."""

    class Failing(Recorder):
        def process(self, inputs: Sequence[Delta], epoch: Epoch) -> Delta:
            raise QueryError("no")

    node = passing("map", "read", Hash(("n",)))
    dataflow = Dataflow((READ, node), "map", SCHEMA, None, "append", False, Continuous("changes"))
    partitions = LocalPartitions(dataflow, 2, lambda node, p: Failing() if p else Recorder(), parallel_rows=1)
    with pytest.raises(QueryError, match="no"):
        partitions.step(Epoch(1, 0), {"read": numbers(100)})
    partitions.close()


def test_an_interrupted_step_stops_before_the_next_node() -> None:
    """Whoever interrupts, ends it."""
    harness = Harness(READ, passing("map", "read", Gather()))
    harness.partitions.interrupt()
    with pytest.raises(QueryError, match="stopped"):
        harness.step(1)
