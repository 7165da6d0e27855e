"""Leases are handed out on demand: each split once, and whoever is faster takes more."""

from __future__ import annotations

import heapq
import threading

import pytest

from streamq.plan.leases import LeaseQueue
from streamq.plan.splits import Split

SPLITS = [Split(n // 10, n % 10 * 1_000, None if n % 10 == 9 else n % 10 * 1_000 + 1_000, 1_000, 8_000) for n in range(200)]


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("slower", [2, 5, 20])
def test_a_slow_worker_takes_less(streaming: bool, slower: int) -> None:
    """With one worker several times as slow, the others take over its share, and nobody's share is read twice or left out."""
    speeds = [1, 1, 1, slower]
    queue = LeaseQueue(SPLITS, workers=4, streaming=streaming)
    free = [(0, worker) for worker in range(4)]
    taken: dict[int, list[Split]] = {worker: [] for worker in range(4)}
    while free:
        now, worker = heapq.heappop(free)
        lease = queue.take(worker)
        if lease is not None:
            taken[worker] += lease.splits
            heapq.heappush(free, (now + lease.rows * speeds[worker], worker))
    assert sorted((split.unit, split.first) for splits in taken.values() for split in splits) == [
        (split.unit, split.first) for split in SPLITS
    ]
    assert len(taken[3]) < min(len(taken[worker]) for worker in range(3))


def test_splits_go_out_once_under_contention() -> None:
    """With eight threads that take as fast as they can, in turn, every split is done exactly once."""
    queue, turn = LeaseQueue(SPLITS, workers=8, streaming=True), threading.Lock()
    done: list[Split] = []

    def work(worker: int) -> None:
        while True:
            with turn:
                lease = queue.take(worker)
            if lease is None:
                return
            done.extend(lease.splits)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted((split.unit, split.first) for split in done) == [(split.unit, split.first) for split in SPLITS]
