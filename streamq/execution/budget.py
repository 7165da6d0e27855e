"""How the memory of a database is shared out, and which jobs may be open at once so that the shares hold.

Six eighths of `Config.memory_bytes` are for the DuckDB sessions of the workers: five for the executor that the database is set to and
one for the other, which a query may ask for, or four for processes and two for threads where the planner chooses. One eighth is for
what waits in the channels of the queries, and one for the batches that open jobs have on their way.

An open job costs its session memory for as long as its reader lets it stand: a scan keeps the columns of a row group. So only some
jobs, the *direct* ones, are read while they run. Once these are all taken, as with hundreds of queries at once or many readers that
stall, jobs write their rows to a file, which the reader maps. Such jobs, and those that write files for other stages, wait for no
reader, so the limit on them is a queue that always moves.
"""

from __future__ import annotations

from typing import Literal

import anyio

from streamq.config import Config
from streamq.execution.statistics import ResourceStatistics
from streamq.flow.channel import ByteBudget

PoolKind = Literal["process", "thread"]
JOB_BYTES = 16 << 20
"""What a session should have for each open job: more than a scan keeps of a row group of usual size and a dozen columns."""
CREDITS = 2
"""Turns whose batches a direct job may have under way: its worker makes those of one while its task takes another's."""
LEAST_SLOTS = 2
"""With fewer a worker could not fill one slot while another is emptied."""
SLOTS_A_JOB = CREDITS + 3
"""What a direct job has outside its session, in slots at most: the turns under way, the batch that its worker has no room for in a
turn, the one that its task waits to send, and what the reader took of a copy that it shares with others."""


def session_bytes(config: Config, kind: PoolKind) -> int:
    """Give the memory limit of one worker's session.

    >>> [session_bytes(Config(workers=2, memory_bytes=512 << 20, executor=kind), "process") >> 20 for kind in ("process", "auto", "thread")]
    [160, 128, 32]
    """
    return max(1 << 20, _pool_bytes(config, kind) // config.workers)


def ring_slots(config: Config) -> int:
    """Give the slots of one worker process: as many as are configured, if all workers' fit into the share for batches on their way.

    >>> [ring_slots(Config(workers=2, memory_bytes=size << 20)) for size in (64, 256, 1_024)]
    [2, 4, 8]
    """
    affordable = config.memory_bytes // 8 // (config.workers * config.slot_bytes)
    return min(config.slots, max(LEAST_SLOTS, affordable))


def channel_budget(config: Config) -> ByteBudget:
    """Give the bytes that may wait in the channels of all queries together."""
    return ByteBudget(config.memory_bytes // 8)


def _pool_bytes(config: Config, kind: PoolKind) -> int:
    eighths = {"auto": {"process": 4, "thread": 2}, "process": {"process": 5, "thread": 1}, "thread": {"process": 1, "thread": 5}}
    return config.memory_bytes * eighths[config.executor][kind] // 8


class Admission:
    """Limits the open jobs of one pool.

    `filing` is the queue of the jobs that write files: whoever is through must wait for no reader.
    """

    def __init__(self, config: Config, kind: PoolKind) -> None:
        self._kind = kind
        on_their_way = config.memory_bytes // 8 // (SLOTS_A_JOB * config.slot_bytes)
        jobs = _pool_bytes(config, kind) // JOB_BYTES
        direct = max(config.workers, min(jobs // 2, on_their_way))
        self._direct = self._direct_left = direct
        self._files = max(config.workers, jobs - direct)
        self.filing = anyio.CapacityLimiter(self._files)

    def admit_direct(self) -> bool:
        """Take a place among the jobs that are read while they run, if there is one; to be given back with `end_direct`."""
        if not self._direct_left:
            return False
        self._direct_left -= 1
        return True

    def end_direct(self) -> None:
        """Give a place back."""
        self._direct_left += 1

    def statistics(self) -> tuple[ResourceStatistics, ResourceStatistics]:
        """Tell how many jobs are open, of each sort."""
        return (
            ResourceStatistics(f"{self._kind} jobs", self._direct - self._direct_left, self._direct),
            ResourceStatistics(f"{self._kind} file jobs", self.filing.borrowed_tokens, self._files),
        )
