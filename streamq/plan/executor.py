"""Chooses between worker processes and threads for a query, which runs once or goes on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from streamq.config import Executor
from streamq.plan.fragments import PhysicalPlan, ScanInput
from streamq.plan.relations import RelationSnapshot
from streamq.plan.sizes import human_bytes


@dataclass(frozen=True, slots=True)
class ExecutorChoice:
    """What runs a query's tasks, and why."""

    kind: Literal["process", "thread"]
    reason: str


def choose_executor(
    plan: PhysicalPlan,
    snapshots: Mapping[str, RelationSnapshot],
    *,
    wanted: Executor,
    process_bytes: int,
    processes: bool = hasattr(os, "memfd_create") and hasattr(os, "eventfd"),
) -> ExecutorChoice:
    """Choose what runs a plan: `wanted` if it says, else processes for scans of at least `process_bytes` outside this process.

    `processes` tells whether the platform has worker processes.
    """
    if (choice := _without_a_choice(wanted, processes)) is not None:
        return choice
    relations = {source.relation for stage in plan.stages for source in stage.fragment.inputs if isinstance(source, ScanInput)}
    outside = sum(snapshots[name].bytes for name in relations if not snapshots[name].in_memory)
    total = sum(snapshots[name].bytes for name in relations)
    if total and not outside:
        return ExecutorChoice("thread", f"the rows ({human_bytes(total)}) are in this process's memory")
    if outside < process_bytes:
        return ExecutorChoice("thread", f"the scans read {human_bytes(outside)}, under {human_bytes(process_bytes)}")
    return ExecutorChoice("process", f"the scans read {human_bytes(outside)}, at least {human_bytes(process_bytes)}")


def choose_continuous_executor(
    *, wanted: Executor, processes: bool = hasattr(os, "memfd_create") and hasattr(os, "eventfd")
) -> ExecutorChoice:
    """Choose where the partitions of a continuous query are.

    >>> choose_continuous_executor(wanted="auto").kind
    'thread'
    """
    return _without_a_choice(wanted, processes) or ExecutorChoice(
        "thread", "epochs are read in this process, and its threads take over their rows without a copy or a message"
    )


def _without_a_choice(wanted: Executor, processes: bool) -> ExecutorChoice | None:
    if wanted == "thread":
        return ExecutorChoice("thread", "it was asked for")
    if not processes:
        return ExecutorChoice("thread", "this platform has no worker processes")
    return ExecutorChoice("process", "it was asked for") if wanted == "process" else None
