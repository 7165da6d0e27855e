"""Settings of a database: arguments of `connect()`, else ``STREAMQ_*`` in the environment, else the defaults below."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from streamq.config.checks import WrongSetting

Executor = Literal["auto", "process", "thread"]
MAX_PARTITIONS = 256
"""More partitions than this only cost: work is handed out by leases, not by partition."""


def usable_cpus() -> int:
    """The processors that this process may run on (its affinity, not the machine's count)."""
    if hasattr(os, "process_cpu_count"):
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def clamp_partitions(count: int) -> int:
    """Bring a partition count into 1..256.

    >>> [clamp_partitions(n) for n in (-1, 0, 1, 256, 257, 10**9)]
    [1, 1, 1, 256, 256, 256]
    """
    return min(max(count, 1), MAX_PARTITIONS)


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of a database.

    `memory_bytes` is for the DuckDB sessions of all workers together and for the rows that wait for readers. `slots` × `slot_bytes`
    is the shared memory of one process worker, with fewer slots where all workers' would be more than an eighth of `memory_bytes`.
    `process_bytes` is the size of a scan from which the process pool serves it when `executor` is auto.
    `max_state_bytes` is the most that any one continuous query may keep, whatever its own text says.
    `broadcast_bytes` is the largest join input that every task gets whole. A query that goes through at most `single_task_rows`
    rows runs as one task, unless it asks for a number of partitions.
    """

    workers: int = field(default_factory=usable_cpus)
    target_partitions: int = field(default_factory=usable_cpus)
    executor: Executor = "auto"
    memory_bytes: int = 2 << 30
    process_bytes: int = 16 << 20
    broadcast_bytes: int = 10 << 20
    single_task_rows: int = 10_000
    max_source_bytes: int = 1 << 30
    max_state_bytes: int | None = None
    slots: int = 8
    slot_bytes: int = 4 << 20
    grace_s: float = 5.0
    temp_dir: str = field(default_factory=tempfile.gettempdir)

    def __post_init__(self) -> None:
        if self.executor not in ("auto", "process", "thread"):
            raise WrongSetting("executor", f"executor must be auto, process or thread, not {self.executor!r}")
        for name in ("workers", "memory_bytes", "slots", "slot_bytes", "max_state_bytes"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise WrongSetting(name, f"{name} must be at least 1, not {value}")
        object.__setattr__(self, "target_partitions", clamp_partitions(self.target_partitions))

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, **arguments: Any) -> Config:
        """Make the settings from arguments, then ``STREAMQ_<NAME>`` variables.

        Raises:
            ValueError: a variable or argument is not of the setting's type or range.
        """
        # Workers do without it.
        from streamq.config.sources import find_settings, make

        given = {name: (name, value) for name, value in arguments.items() if value is not None}
        if unknown := given.keys() - set(cls.__slots__):
            raise TypeError(f"connect() has no setting {min(unknown)!r}")
        return make(cls, find_settings([cls], given, os.environ if environ is None else environ))
