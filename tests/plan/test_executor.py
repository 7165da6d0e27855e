"""The choice between processes and threads, and its reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streamq.config import Executor
from streamq.plan.executor import choose_continuous_executor, choose_executor
from streamq.plan.planner import plan_query
from tests.plan.queries import relations
from tests.plan.test_explain import SCAN


def choice(wanted: Executor = "auto", *, size: int = 100, in_memory: bool = False, processes: bool = True) -> tuple[str, str]:
    """Choose for a scan of `size` bytes where processes pay from 50."""
    given = relations()
    given["orders"] = replace(given["orders"], bytes=size, in_memory=in_memory)
    plan = plan_query(SCAN, given, target_partitions=2, broadcast_bytes=0)
    chosen = choose_executor(plan, given, wanted=wanted, process_bytes=50, processes=processes)
    return chosen.kind, chosen.reason


@pytest.mark.parametrize(
    ("chosen", "kind"),
    [
        (choice(), "process"),
        (choice(size=49), "thread"),
        (choice(in_memory=True), "thread"),
        (choice("process", size=1), "process"),
        (choice("thread"), "thread"),
        (choice("process", processes=False), "thread"),
    ],
)
def test_choice(chosen: tuple[str, str], kind: str) -> None:
    """Large scans outside this process run in processes; a wish comes first; a platform without processes has threads."""
    assert chosen[0] == kind


def test_the_reason_has_both_sizes() -> None:
    """The reader sees what was compared."""
    assert choice(size=49)[1] == "the scans read 49 B, under 50 B"


@pytest.mark.parametrize(
    ("wanted", "processes", "kind"),
    [("auto", True, "thread"), ("thread", True, "thread"), ("process", True, "process"), ("process", False, "thread")],
)
def test_choice_of_a_continuous_query(wanted: Executor, processes: bool, kind: str) -> None:
    """Partitions are in this process, where their rows are, unless workers were asked for."""
    assert choose_continuous_executor(wanted=wanted, processes=processes).kind == kind
