"""Memory and CPU time of the processes of a database, as their operating system counts them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress

import psutil

from streamq.execution.jobs import PoolStatistics
from streamq.metrics import definitions as m
from streamq.metrics.samples import Sample


def process_samples(pools: Iterable[PoolStatistics]) -> Iterator[Sample]:
    """Look at this process and at every worker that is one. Pages that they share are in the memory of each."""
    pids = {"main": os.getpid()}
    pids.update((f"worker-{worker.worker}", worker.pid) for pool in pools for worker in pool.workers if worker.pid is not None)
    for name, pid in pids.items():
        with suppress(psutil.NoSuchProcess):  # it died since the snapshot
            process = psutil.Process(pid)
            with process.oneshot():
                memory, times = process.memory_info(), process.cpu_times()
            yield Sample(m.MEMORY, (name,), memory.rss)
            yield Sample(m.CPU, (name,), times.user + times.system)
