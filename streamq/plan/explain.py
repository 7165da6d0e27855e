"""EXPLAIN: a plan as text that a reader can follow, and what running it cost."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, assert_never

from streamq.plan.executor import ExecutorChoice
from streamq.plan.fragments import (
    CoPartitions,
    Driver,
    Emit,
    Fragment,
    Input,
    Keep,
    Leases,
    Once,
    Output,
    Partitions,
    PhysicalPlan,
    ScanInput,
    SortedRuns,
    StageInput,
    describe_strategy,
)
from streamq.plan.pruning import PlannedScan
from streamq.plan.relations import RelationSnapshot
from streamq.plan.sizes import human_bytes

WIDTH = 100


@dataclass(frozen=True, slots=True)
class WorkerRun:
    """What one worker did for a stage: rows and bytes it gave, and the seconds it was busy."""

    worker: int
    rows: int
    bytes: int
    busy_s: float


@dataclass(frozen=True, slots=True)
class StageRun:
    """What running a stage took: how many tasks, and what each worker did."""

    stage: int
    tasks: int
    workers: tuple[WorkerRun, ...]

    @property
    def rows(self) -> int:
        return sum(worker.rows for worker in self.workers)

    @property
    def bytes(self) -> int:
        return sum(worker.bytes for worker in self.workers)

    @property
    def balance(self) -> float:
        """The busiest worker's time over the mean: 1 is even. 1 where nothing was measured."""
        total = sum(worker.busy_s for worker in self.workers)
        return max(worker.busy_s for worker in self.workers) * len(self.workers) / total if total else 1.0


class Measured(Protocol):
    """Whatever knows what the stages of a query took."""

    @property
    def stages(self) -> tuple[StageRun, ...]: ...


def explain(
    plan: PhysicalPlan,
    snapshots: Mapping[str, RelationSnapshot],
    scans: Mapping[int, PlannedScan],
    executor: ExecutorChoice,
    target_partitions: int,
    statistics: Measured | None = None,
) -> str:
    """Describe a plan: the strategy and why, the parallelism, the stages in order, the merge; and what each stage took, if it ran."""
    runs = () if statistics is None else statistics.stages
    return (
        "\n".join([*_header(plan, snapshots, executor, target_partitions), *_stages(plan, snapshots, scans, runs), "", *_merge(plan)])
        + "\n"
    )


def _header(
    plan: PhysicalPlan, snapshots: Mapping[str, RelationSnapshot], executor: ExecutorChoice, target_partitions: int
) -> Iterator[str]:
    yield f"strategy: {describe_strategy(plan.strategy)}"
    for choice in sorted(plan.choices, key=lambda choice: choice.strategy != plan.strategy):
        if choice.strategy != plan.strategy:
            yield f"  with {describe_strategy(choice.strategy)}"
        fallback = f" [fallback: {choice.fallback}]" if choice.fallback else ""
        yield from _wrapped("  because ", f"{choice.reason}{fallback}")
    read = {source.relation for stage in plan.stages for source in stage.fragment.inputs if isinstance(source, ScanInput)}
    natural = max((snapshots[relation].max_parallelism for relation in read), default=1)
    yield f"natural parallelism: {natural}"
    yield f"target_partitions: {target_partitions}"
    yield from _wrapped("executor: ", f"{executor.kind}, because {executor.reason}" if executor.reason else executor.kind)


def _stages(
    plan: PhysicalPlan, snapshots: Mapping[str, RelationSnapshot], scans: Mapping[int, PlannedScan], runs: Sequence[StageRun]
) -> Iterator[str]:
    measured = {run.stage: run for run in runs}
    for stage in plan.stages:
        yield ""
        yield f"stage {stage.id}: {stage.label}"
        yield f"  tasks: {_driver(stage.driver)}"
        if stage.id in scans:
            yield f"  splits: {_splits(scans[stage.id])}"
        for source in stage.fragment.inputs:
            yield from _wrapped("  reads: ", _input(source, stage.driver, snapshots))
        yield from _fragment(stage.fragment)
        yield f"  output: {_output(stage.output)}"
        if stage.id in measured:
            yield from _run(measured[stage.id])


def _driver(driver: Driver) -> str:
    match driver:
        case Leases(name):
            return f"one per lease of {name}"
        case CoPartitions(names, count):
            return f"{count}, one per partition of {' and '.join(names)}"
        case Partitions(count):
            return f"{count}, one per partition"
        case Once():
            return "1"
        case _:
            assert_never(driver)


def _splits(scan: PlannedScan) -> str:
    pruned = f", {scan.pruned} pruned by statistics" if scan.pruned else ""
    rows = f"{'' if scan.snapshot.exact else 'about '}{scan.rows:,} rows"
    return f"{len(scan.splits)} kept{pruned} (unit: {scan.snapshot.unit}, {rows})"


def _input(source: Input, driver: Driver, snapshots: Mapping[str, RelationSnapshot]) -> str:
    match source:
        case ScanInput():
            divided = (isinstance(driver, Leases) and driver.input == source.name) or (
                isinstance(driver, CoPartitions) and source.name in driver.inputs
            )
            snapshot = snapshots[source.relation]
            how = "the task's part" if divided else f"whole, {human_bytes(snapshot.bytes)}"
            columns = ", ".join(snapshot.schema.names if source.columns is None else source.columns) or "no columns"
            pushed = f" where {source.filter}" if source.filter is not None else ""
            return f"{source.name} = {source.relation}({columns}){pushed} [{how}]"
        case StageInput():
            how = "the task's partition" if source.partitioned else "whole"
            return f"{source.name} = stage {source.stage} [{how}]"
        case _:
            assert_never(source)


def _fragment(fragment: Fragment) -> Iterator[str]:
    for name, sql in fragment.views:
        yield f'  view "{name}":'
        yield textwrap.indent(sql, "    | ")
    yield "  sql:"
    yield textwrap.indent(fragment.sql, "    | ")


def _output(output: Output) -> str:
    match output:
        case Emit():
            return "emit to the reader"
        case Keep(partitions):
            return "keep" if partitions == 1 else f"keep in {partitions} partitions by hash"
        case SortedRuns():
            return "keep as sorted runs"
        case _:
            assert_never(output)


def _merge(plan: PhysicalPlan) -> Iterator[str]:
    emitting = [stage for stage in plan.stages if not isinstance(stage.output, Keep)]
    ordered = any(isinstance(stage.output, SortedRuns) for stage in emitting)
    single = all(isinstance(stage.driver, Once) for stage in emitting) and len(emitting) == 1
    yield "merge: " + ("ordered, by the runs' sort keys" if ordered else "none, one task emits" if single else "unordered, as batches come")
    if plan.limit is not None or plan.offset:
        limit = "none" if plan.limit is None else str(plan.limit)
        yield f"limit: {limit}, offset {plan.offset}; reading stops as soon as it is reached"


def _run(run: StageRun) -> Iterator[str]:
    tasks = "1 task" if run.tasks == 1 else f"{run.tasks} tasks"
    yield f"  ran: {tasks}, {run.rows:,} rows, {human_bytes(run.bytes)}, balance {run.balance:.2f}"
    for worker in run.workers:
        yield f"    worker {worker.worker}: {worker.rows:,} rows, {human_bytes(worker.bytes)}, {worker.busy_s * 1000:.1f} ms"


def _wrapped(head: str, text: str) -> list[str]:
    return textwrap.wrap(head + text, WIDTH, subsequent_indent=" " * len(head), break_long_words=False, break_on_hyphens=False)
