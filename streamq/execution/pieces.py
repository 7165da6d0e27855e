"""What the tasks of a stage do: the pieces of its work, one after the other, and what is known of the stage while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import assert_never

import anyio
import pyarrow as pa

from streamq.execution.jobs import ArrowFiles, JobResult
from streamq.execution.statistics import ScanStatistics
from streamq.plan.explain import StageRun, WorkerRun
from streamq.plan.fragments import PARTITION_COLUMN, CoPartitions, Emit, Leases, Once, Partitions, ScanInput, Stage
from streamq.plan.leases import LeaseQueue
from streamq.plan.pruning import PlannedScan
from streamq.plan.relations import RelationSnapshot
from streamq.plan.splits import Lease, Split

Snapshots = Mapping[str, RelationSnapshot]
TakePiece = Callable[[int], "Piece | None"]
"""Gives the next piece to a runner, by its number; None if nothing is left."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What one task does next: `leases` by input name, or partition number `partition`. `shard` says it for people."""

    number: int
    shard: str
    leases: Mapping[str, Lease]
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """What a stage left for others: `(piece, partition, path)` of every file, and the schema of the rows."""

    files: tuple[tuple[int, int, str], ...]
    schema: pa.Schema

    def read(self, partition: int | None) -> ArrowFiles:
        """Name the files of a partition (None: of all), in order of their pieces."""
        chosen = sorted(file for file in self.files if partition is None or file[1] == partition)
        return ArrowFiles(tuple(path for _, _, path in chosen), self.schema)


@dataclass(slots=True)
class ScanState:
    """How far the scan that drives a stage is."""

    plan: PlannedScan
    leases: int = 0
    rows_done: int = 0
    splits_done: int = 0

    def statistics(self) -> ScanStatistics:
        return ScanStatistics(
            relation=self.plan.relation,
            unit=self.plan.snapshot.unit,
            max_parallelism=self.plan.snapshot.max_parallelism,
            splits=len(self.plan.splits),
            pruned=self.plan.pruned,
            leases=self.leases,
            rows=self.plan.rows,
            rows_done=self.rows_done,
            splits_done=self.splits_done,
        )


class StageState:
    """What is known of one stage while it runs: the results of its jobs, and its kept files when it is done."""

    def __init__(self, stage: Stage, scan: PlannedScan | None) -> None:
        self.stage = stage
        self.results: list[tuple[int, JobResult]] = []
        self.scan = None if scan is None else ScanState(scan)
        self.tasks = 0
        self.done = anyio.Event()

    def kept(self) -> Kept:
        files = tuple((number, partition, path) for number, result in self.results for partition, path, _ in result.files)
        schema = self.results[0][1].schema
        if PARTITION_COLUMN in schema.names:
            schema = schema.remove(schema.get_field_index(PARTITION_COLUMN))
        return Kept(files, schema)

    def report(self) -> StageRun:
        workers: dict[int, list[JobResult]] = {}
        for _, result in self.results:
            workers.setdefault(result.worker, []).append(result)
        return StageRun(
            stage=self.stage.id,
            tasks=self.tasks,
            workers=tuple(
                WorkerRun(worker, sum(r.rows for r in done), sum(r.bytes for r in done), sum(r.busy_s for r in done))
                for worker, done in sorted(workers.items())
            ),
        )


def pieces(run: StageState, snapshots: Snapshots, target_partitions: int) -> TakePiece:
    """Give the work of a stage, piece by piece, to at most `width` runners."""
    match run.stage.driver:
        case Leases(input=name):
            assert run.scan is not None
            return _leased(run, run.scan, name, width(run, target_partitions))
        case CoPartitions(inputs=names, count=count):
            scans = [_scan(run.stage, name) for name in names]
            return _in_turn(_co_partition(snapshots, scans, number) for number in range(count))
        case Partitions(count=count):
            return _in_turn(Piece(number, f"partition {number} of {count}", {}, number) for number in range(count))
        case Once():
            return _in_turn(iter([Piece(0, "the final step", {})]))
        case driver:
            assert_never(driver)


def _leased(run: StageState, scan: ScanState, name: str, workers: int) -> TakePiece:
    relation, splits = scan.plan.relation, scan.plan.splits
    if not splits:
        return _in_turn(iter([Piece(0, f"{relation} (no rows)", {name: Lease(0, ())})]))
    queue = LeaseQueue(splits, workers=workers, streaming=isinstance(run.stage.output, Emit))

    def take(runner: int) -> Piece | None:
        lease = queue.take(runner)
        if lease is None:
            return None
        scan.leases += 1
        return Piece(lease.number, describe_shard(relation, lease.splits), {name: lease})

    return take


def _co_partition(snapshots: Snapshots, scans: list[ScanInput], number: int) -> Piece:
    leases = {scan.name: Lease(number, tuple(split for split in snapshots[scan.relation].splits if split.unit == number)) for scan in scans}
    return Piece(number, f"partition {number} of {', '.join(scan.relation for scan in scans)}", leases)


def width(run: StageState, target_partitions: int) -> int:
    """Tell how many runners of a stage work side by side."""
    match run.stage.driver:
        case Leases():
            assert run.scan is not None
            pieces = max(1, len(run.scan.plan.splits))
        case CoPartitions(count=count) | Partitions(count=count):
            pieces = count
        case Once():
            pieces = 1
        case driver:
            assert_never(driver)
    return min(pieces, target_partitions)


def _scan(stage: Stage, name: str) -> ScanInput:
    return next(source for source in stage.fragment.inputs if isinstance(source, ScanInput) and source.name == name)


def _in_turn(pieces: Iterator[Piece]) -> TakePiece:
    return lambda _runner: next(pieces, None)


def by_split(piece: Piece) -> Iterator[Piece]:
    """Divide a piece that has one lease into pieces of a split each."""
    match list(piece.leases.items()):
        case [(name, lease)] if len(lease.splits) > 1:
            for split in lease.splits:
                yield replace(piece, leases={name: Lease(lease.number, (split,))})
        case _:
            yield piece


def describe_shard(relation: str, splits: tuple[Split, ...]) -> str:
    """Say for people which rows of a relation a task reads.

    >>> describe_shard("flights", (Split(0, 0, 10, 10, 1), Split(0, 10, None, 5, 1)))
    'flights, unit 0 from row 0'
    """
    first, last = splits[0], splits[-1]
    if first.unit != last.unit:
        return f"{relation}, units {first.unit} to {last.unit}"
    end = "" if last.end is None else f" to {last.end - 1}"
    return f"{relation}, unit {first.unit} from row {first.first}{end}"
