"""A small synchronous executor of physical plans over in-memory relations, for tests.

It runs tasks in an order and with lease sizes that a seed decides, as workers of different speed would.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal
from zlib import crc32

import duckdb
import pyarrow as pa
import pyarrow.compute

from streamq.plan.fragments import (
    PARTITION_COLUMN,
    SORT_KEY_COLUMN,
    CoPartitions,
    Emit,
    Fragment,
    Keep,
    Leases,
    Once,
    Partitions,
    PhysicalPlan,
    ScanInput,
    SortedRuns,
    Stage,
)
from streamq.plan.leases import LeaseQueue
from streamq.plan.pruning import prune
from streamq.plan.relations import ScanArrow
from streamq.plan.splits import Lease, Split
from tests.oracle import connect_duckdb
from tests.plan.constants import evaluate


@dataclass(frozen=True, slots=True)
class MemoryRelation:
    """A relation snapshot of Arrow tables, one a unit, in splits of `split_rows` rows."""

    units: tuple[pa.Table, ...]
    split_rows: int = 4
    partition_keys: tuple[str, ...] = ()
    bytes: int = 1000
    exact: bool = True
    in_memory: bool = True
    at_hand: bool = True
    unit: Literal["range", "shard"] = "range"

    @property
    def schema(self) -> pa.Schema:
        return self.units[0].schema

    @property
    def rows(self) -> int:
        return sum(len(unit) for unit in self.units)

    @property
    def max_parallelism(self) -> int:
        return max(1, len(self.units) if self.partition_keys else len(self.splits))

    @property
    def splits(self) -> Sequence[Split]:
        return [
            Split(
                number,
                first,
                None if first + self.split_rows >= len(unit) else first + self.split_rows,
                min(self.split_rows, len(unit) - first),
                1,
            )
            for number, unit in enumerate(self.units)
            for first in range(0, len(unit), self.split_rows)
        ]

    def read(self, lease: Lease | None, columns: Sequence[str], filter: str | None = None) -> ScanArrow:
        splits = self.splits if lease is None else lease.splits
        parts = [self.units[s.unit].slice(s.first, None if s.end is None else s.end - s.first) for s in splits]
        table = pa.concat_tables([self.schema.empty_table(), *parts])
        if not columns:
            return ScanArrow(pa.table({"__row": pa.nulls(len(table))}))
        return ScanArrow(table.select(list(columns)))


def relation(table: pa.Table, split_rows: int = 4, **settings: object) -> MemoryRelation:
    """Make a relation of one unit."""
    return replace(MemoryRelation((table,), split_rows), **settings)  # type: ignore[arg-type]


def partitioned(table: pa.Table, key: str, count: int, **settings: object) -> MemoryRelation:
    """Make a relation whose units are partitions by a key column."""
    # Python's own hash of a text is another one in every process.
    numbers = [crc32(repr(value).encode()) % count for value in table.column(key).to_pylist()]
    units = tuple(table.filter(pa.array([given == number for given in numbers], pa.bool_())) for number in range(count))
    return replace(MemoryRelation(units, partition_keys=(key,), unit="shard"), **settings)  # type: ignore[arg-type]


class _Run:
    def __init__(self, plan: PhysicalPlan, snapshots: Mapping[str, MemoryRelation], seed: int, workers: int) -> None:
        self.plan = plan
        self.snapshots = snapshots
        self.random = random.Random(seed)
        self.workers = workers
        self.kept: dict[int, list[list[pa.Table]]] = {}
        self.emitted: list[pa.Table] = []

    def run(self) -> pa.Table:
        for stage in self.plan.stages:
            self.run_stage(stage)
        result = pa.concat_tables(self.emitted) if self.emitted else self.plan.schema.empty_table()
        end = None if self.plan.limit is None else self.plan.limit
        return result.slice(self.plan.offset, end)

    def run_stage(self, stage: Stage) -> None:
        tasks = self.tasks(stage)
        order = list(range(len(tasks)))
        self.random.shuffle(order)
        with connect_duckdb() as session:
            done: dict[int, pa.Table] = {}
            for number in order:
                self.give(session, stage.fragment, *tasks[number])
                if not done:
                    _create_views(session, stage.fragment)
                done[number] = session.sql(stage.fragment.sql).to_arrow_table()
        match stage.output:
            case Emit():
                self.emitted += [done[number] for number in order]
            case SortedRuns():
                self.emitted.append(_merge([done[number] for number in range(len(tasks))]))
            case Keep(partitions):
                self.kept[stage.id] = [[_part(done[number], part, partitions) for number in order] for part in range(partitions)]

    def tasks(self, stage: Stage) -> list[tuple[dict[str, Lease], int | None]]:
        scans = {source.name: source for source in stage.fragment.inputs if isinstance(source, ScanInput)}
        match stage.driver:
            case Leases(name):
                scan = scans[name]
                splits, _ = prune(self.snapshots[scan.relation].splits, scan.bounds, evaluate)
                queue = LeaseQueue(splits, workers=self.workers, streaming=isinstance(stage.output, Emit))
                leases: list[tuple[dict[str, Lease], int | None]] = []
                while (lease := queue.take(self.random.randrange(self.workers))) is not None:
                    leases.append(({name: lease}, None))
                return leases or [({name: Lease(0, ())}, None)]
            case CoPartitions(names, count):
                return [({name: self.unit(scans[name].relation, number) for name in names}, None) for number in range(count)]
            case Partitions(count):
                return [({}, number) for number in range(count)]
            case Once():
                return [({}, None)]

    def unit(self, relation: str, number: int) -> Lease:
        return Lease(number, tuple(split for split in self.snapshots[relation].splits if split.unit == number))

    def give(self, session: duckdb.DuckDBPyConnection, fragment: Fragment, leases: Mapping[str, Lease], partition: int | None) -> None:
        """Let a task's inputs take the place of those of the task before it."""
        for source in fragment.inputs:
            if isinstance(source, ScanInput):
                snapshot = self.snapshots[source.relation]
                names = snapshot.schema.names if source.columns is None else source.columns
                table = snapshot.read(leases.get(source.name), names, source.filter).table
            else:
                kept = self.kept[source.stage]
                parts = [part for group in kept for part in group] if not source.partitioned else kept[partition or 0]
                table = pa.concat_tables(parts)
            session.register(source.name, table)


def _create_views(session: duckdb.DuckDBPyConnection, fragment: Fragment) -> None:
    for name, sql in fragment.views:
        quoted = name.replace('"', '""')
        session.execute(f'CREATE TEMP VIEW "{quoted}" AS {sql}')


def _part(table: pa.Table, part: int, partitions: int) -> pa.Table:
    if partitions == 1:
        return table
    return table.filter(pa.compute.equal(table.column(PARTITION_COLUMN), part)).drop_columns([PARTITION_COLUMN])


def _merge(runs: list[pa.Table]) -> pa.Table:
    for run in runs:
        keys = run.column(SORT_KEY_COLUMN).to_pylist()
        assert keys == sorted(keys), "a run is not sorted by its key"
    merged = pa.concat_tables(runs)
    keys = merged.column(SORT_KEY_COLUMN).to_pylist()
    return merged.take(sorted(range(len(keys)), key=keys.__getitem__)).drop_columns([SORT_KEY_COLUMN])


def run_plan(plan: PhysicalPlan, snapshots: Mapping[str, MemoryRelation], *, seed: int = 0, workers: int = 3) -> pa.Table:
    """Run a plan to its end and give its result."""
    return _Run(plan, snapshots, seed, workers).run()
