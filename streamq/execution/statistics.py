"""What streamq counts: of one query, of a database, and the totals from which a database's numbers are read.

Everything here is a snapshot: frozen data, made when it is asked for. Hot paths count in plain attributes of their own
objects (a channel, a stream, a pool); nothing is pushed anywhere while a query runs.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock
from typing import TYPE_CHECKING, Literal

from streamq.execution.jobs import PoolStatistics

if TYPE_CHECKING:
    from streamq.plan.explain import StageRun

Outcome = Literal["running", "completed", "failed", "cancelled", "timed_out"]
"""`cancelled` is let go before its end: closed, dropped or left by its reader, or cancelled by someone else."""

OUTCOMES: tuple[Outcome, ...] = ("completed", "failed", "cancelled", "timed_out")
"""How a query can end."""

FIRST_BATCH_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the buckets that count times to the first batch, in seconds; one more bucket is above them all."""


@dataclass(frozen=True, slots=True)
class ScanStatistics:
    """How one relation of a query was split, and how far its reading is.

    `unit` is what the splits are made of (``row group``, ``range``, ``modulo``, ``shard``, ``file``) and `max_parallelism`
    how many tasks the relation can feed at once. `splits` are to be read, the `pruned` ones are not among them. `rows` are in
    these splits, by metadata. `leases` and `rows_done` count what has been read to its end.
    """

    relation: str
    unit: str
    max_parallelism: int
    splits: int
    pruned: int
    rows: int
    leases: int = 0
    rows_done: int = 0


Partition = tuple[str, int]
"""A relation's name, and the number of a partition of it."""


@dataclass(frozen=True, slots=True)
class OperatorStatistics:
    """What one operator of a continuous query has done and keeps, over its instances.

    `node` is its place in the plan, under which EXPLAIN shows it, and `kind` what it is (``aggregate``, ``join``, ``top_n`` …).
    `rows_in` and `rows_out` count changes, withdrawn rows among them. `state_rows` of `state_bytes` are kept now.
    """

    node: str
    rows_in: int
    rows_out: int
    state_rows: int
    state_bytes: int
    busy_s: float
    kind: str = ""


@dataclass(frozen=True, slots=True)
class ContinuousStatistics:
    """How far a continuous query is.

    `epochs` have been computed. `rows_in` are the rows and changes read, by relation, of which `late_rows` came too late for their
    window. `watermark` is the query's, None as long as there is none, and the largest time there is once its sources have ended;
    `watermarks` are those of each relation with event time, of which the least holds the others back, and `partition_watermarks` those of
    their partitions. `held_back_by` is the partition for which the query's watermark waits, `idle` partitions hold nobody back.
    `watermark_lag_s` is how far the watermark is behind the clock, None where it waits for nothing. `peak_state_bytes` is the most that all
    operators kept after an epoch.
    """

    epochs: int
    rows_in: Mapping[str, int]
    late_rows: int
    watermark: datetime | None
    watermarks: Mapping[str, datetime | None]
    idle: frozenset[Partition]
    operators: tuple[OperatorStatistics, ...]
    partition_watermarks: Mapping[Partition, datetime | None] = field(default_factory=dict)
    held_back_by: Partition | None = None
    watermark_lag_s: float | None = None
    peak_state_bytes: int = 0

    @property
    def total_rows_in(self) -> int:
        """Rows and changes read, of all relations."""
        return sum(self.rows_in.values())

    @property
    def state_rows(self) -> int:
        """How many rows and groups all operators keep."""
        return sum(operator.state_rows for operator in self.operators)

    @property
    def state_bytes(self) -> int:
        """What all operators keep."""
        return sum(operator.state_bytes for operator in self.operators)


@dataclass(frozen=True, slots=True)
class QueryStatistics:
    """One query, now or at its end.

    `started_at` is in seconds since 1970 (UTC); `elapsed_s` runs until the query ended. `first_batch_s` is the time from
    the start until the reader had the first batch, None before. `rows_out`, `bytes_out` (Arrow buffers) and `batches_out`
    were handed to the reader. `strategy` names the partition strategy, `executor` the kind of pool that runs it
    (``process``, ``thread``), `fallback` is a short label of why nothing parallel fitted. `tasks` have been done, of all
    stages together. `channel_batches` of `channel_bytes` wait for the reader; `blocked_s` is how long producers waited for
    it, all of them together. `error` is the text of what the query failed with. `continuous` is there for queries with EMIT,
    and `view` is the name of the materialized view that the query keeps, whose rows `rows_out` then counts.
    """

    query_id: str
    sql: str
    outcome: Outcome
    started_at: float
    elapsed_s: float
    first_batch_s: float | None
    rows_out: int
    bytes_out: int
    batches_out: int
    strategy: str
    executor: str
    fallback: str | None
    scans: tuple[ScanStatistics, ...]
    tasks: int
    channel_batches: int
    channel_bytes: int
    blocked_s: float
    stages: tuple[StageRun, ...] = ()
    error: str | None = None
    continuous: ContinuousStatistics | None = None
    view: str | None = None

    @property
    def kind(self) -> Literal["snapshot", "continuous"]:
        """Whether it answers once, or goes on with its sources."""
        return "snapshot" if self.continuous is None else "continuous"

    @property
    def splits(self) -> int:
        """Splits to be read, over all scans."""
        return sum(scan.splits for scan in self.scans)

    @property
    def splits_pruned(self) -> int:
        """Splits that statistics ruled out, over all scans."""
        return sum(scan.pruned for scan in self.scans)

    @property
    def leases(self) -> int:
        """Leases that have been read to their end, over all scans."""
        return sum(scan.leases for scan in self.scans)

    @property
    def rows_to_read(self) -> int:
        """Rows in all splits that are to be read."""
        return sum(scan.rows for scan in self.scans)

    @property
    def rows_done(self) -> int:
        """Rows in the leases that have been read: `rows_done / rows_to_read` is the progress of the scans."""
        return sum(scan.rows_done for scan in self.scans)


@dataclass(frozen=True, slots=True)
class RelationStatistics:
    """What a relation holds: `rows`, and `bytes` as stored (files) or of Arrow buffers (memory).

    `inserted` counts the rows that were ever inserted, None where rows come from elsewhere. Of a source with a retention,
    the first `inserted - rows` of them have been dropped. `followers` are the continuous queries that read it; the one that is
    furthest behind has not taken `behind_rows` of `behind_bytes`.
    """

    name: str
    kind: str
    rows: int
    bytes: int
    inserted: int | None = None
    followers: int = 0
    behind_rows: int = 0
    behind_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of values by size: `counts[i]` are at most `bounds[i]` and above the bound before, the last count is above all bounds.

    >>> Histogram((1.0, 2.0), (3, 0, 1), 9.5).cumulative
    ((1.0, 3), (2.0, 3), (inf, 4))
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float

    @property
    def count(self) -> int:
        """All values."""
        return sum(self.counts)

    @property
    def cumulative(self) -> tuple[tuple[float, int], ...]:
        """For every bound, infinity last, how many values are at most that large."""
        seen = 0
        steps = []
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            seen += count
            steps.append((bound, seen))
        return tuple(steps)


@dataclass(frozen=True, slots=True)
class ContinuousTotals:
    """The continuous queries of a database.

    `running` are there now; they keep `state_bytes`, by kind of operator, and the one that is furthest behind the clock is so by
    `watermark_lag_s` (None if none of them waits for event time). The others count since `connect()`: `epochs` computed, `rows_in`
    read, the `late_rows` among them, and `blocked_s`, how long they waited for their readers.
    """

    running: int = 0
    epochs: int = 0
    rows_in: int = 0
    late_rows: int = 0
    blocked_s: float = 0.0
    state_bytes: Mapping[str, int] = field(default_factory=dict)
    watermark_lag_s: float | None = None


@dataclass(frozen=True, slots=True)
class DatabaseStatistics:
    """A database, now. Totals count since `connect()` and include what the running queries have done so far.

    `running` queries are now in `db.queries()`. `outcomes` counts the others by how they ended. `dropped_streams` were
    neither read to their end nor closed: the garbage collector found them. `strategies` counts queries by partition
    strategy, `splits` counts splits read by what they are made of, `fallbacks` counts queries by why nothing parallel
    fitted. `channel_batches` and `channel_bytes` wait for readers now; `blocked_s` is how long producers waited for readers.
    `continuous` has what only queries with EMIT have.
    """

    running: int
    outcomes: Mapping[str, int]
    dropped_streams: int
    rows_out: int
    bytes_out: int
    batches_out: int
    first_batch_s: Histogram
    strategies: Mapping[str, int]
    splits: Mapping[str, int]
    splits_pruned: int
    fallbacks: Mapping[str, int]
    tasks: int
    channel_batches: int
    channel_bytes: int
    blocked_s: float
    pools: tuple[PoolStatistics, ...] = ()
    relations: tuple[RelationStatistics, ...] = ()
    continuous: ContinuousTotals = ContinuousTotals()


class Totals:
    """Adds up the queries of a database, which owns it.

    Queries start and end on the event loop; a snapshot may be taken on any thread, because that is where Prometheus
    collects. The lock makes a query that ends meanwhile count exactly once, so totals never go down.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._running: dict[str, Callable[[], QueryStatistics]] = {}
        self._outcomes: Counter[Outcome] = Counter(dict.fromkeys(OUTCOMES, 0))
        self._dropped = 0
        self._ended = _Sums()

    def query_started(self, query_id: str, read: Callable[[], QueryStatistics]) -> None:
        """Count a query that starts. `read` gives its statistics at any time until it ends; it neither waits nor blocks."""
        with self._lock:
            self._running[query_id] = read

    def query_ended(self, statistics: QueryStatistics) -> None:
        """Count a started query that has ended. `statistics` are its last: its `outcome` is not `running`.

        Raises:
            ValueError: the query is still running.
        """
        if statistics.outcome == "running":
            raise ValueError(f"query {statistics.query_id} has not ended")
        with self._lock:
            del self._running[statistics.query_id]
            self._outcomes[statistics.outcome] += 1
            self._ended.add(statistics)

    def stream_dropped(self) -> None:
        """Count a stream whose last reference went before it was closed. Its query still ends (as `cancelled`)."""
        self._dropped += 1

    def running(self) -> tuple[QueryStatistics, ...]:
        """Give the statistics of the queries that run now, in the order in which they started."""
        with self._lock:
            return tuple(read() for read in self._running.values())

    def snapshot(self, *, pools: Iterable[PoolStatistics] = (), relations: Iterable[RelationStatistics] = ()) -> DatabaseStatistics:
        """Give the totals, with what the running queries have done so far on top."""
        with self._lock:
            outcomes = {str(outcome): count for outcome, count in self._outcomes.items()}
            sums = self._ended.copy()
            running = tuple(read() for read in self._running.values())
        for query in running:
            sums.add(query)
        return DatabaseStatistics(
            running=len(running),
            outcomes=outcomes,
            dropped_streams=self._dropped,
            rows_out=sums.rows_out,
            bytes_out=sums.bytes_out,
            batches_out=sums.batches_out,
            first_batch_s=Histogram(FIRST_BATCH_BOUNDS_S, tuple(sums.first_batch), sums.first_batch_sum_s),
            strategies=dict(sums.strategies),
            splits=dict(sums.splits),
            splits_pruned=sums.splits_pruned,
            fallbacks=dict(sums.fallbacks),
            tasks=sums.tasks,
            channel_batches=sum(query.channel_batches for query in running),
            channel_bytes=sum(query.channel_bytes for query in running),
            blocked_s=sums.blocked_s,
            pools=tuple(pools),
            relations=tuple(relations),
            continuous=_continuous(sums, running),
        )


def _continuous(sums: _Sums, running: Sequence[QueryStatistics]) -> ContinuousTotals:
    now = [query.continuous for query in running if query.continuous is not None]
    state: Counter[str] = Counter()
    for query in now:
        for operator in query.operators:
            state[operator.kind] += operator.state_bytes
    return ContinuousTotals(
        running=len(now),
        epochs=sums.epochs,
        rows_in=sums.rows_in,
        late_rows=sums.late_rows,
        blocked_s=sums.continuous_blocked_s,
        state_bytes={kind: size for kind, size in sorted(state.items()) if size},
        watermark_lag_s=max((query.watermark_lag_s for query in now if query.watermark_lag_s is not None), default=None),
    )


class _Sums:
    """What is added up over queries, whether they have ended or not."""

    __slots__ = (
        "batches_out",
        "blocked_s",
        "bytes_out",
        "continuous_blocked_s",
        "epochs",
        "fallbacks",
        "first_batch",
        "first_batch_sum_s",
        "late_rows",
        "rows_in",
        "rows_out",
        "splits",
        "splits_pruned",
        "strategies",
        "tasks",
    )

    def __init__(self) -> None:
        self.rows_out = self.bytes_out = self.batches_out = 0
        self.splits_pruned = self.tasks = 0
        self.epochs = self.rows_in = self.late_rows = 0
        self.blocked_s = self.continuous_blocked_s = self.first_batch_sum_s = 0.0
        self.first_batch = [0] * (len(FIRST_BATCH_BOUNDS_S) + 1)
        self.strategies: Counter[str] = Counter()
        self.splits: Counter[str] = Counter()
        self.fallbacks: Counter[str] = Counter()

    def add(self, query: QueryStatistics) -> None:
        self.rows_out += query.rows_out
        self.bytes_out += query.bytes_out
        self.batches_out += query.batches_out
        self.splits_pruned += query.splits_pruned
        self.tasks += query.tasks
        self.blocked_s += query.blocked_s
        self.strategies[query.strategy] += 1
        for scan in query.scans:
            self.splits[scan.unit] += scan.splits
        if query.fallback is not None:
            self.fallbacks[query.fallback] += 1
        if query.continuous is not None:
            self.epochs += query.continuous.epochs
            self.rows_in += query.continuous.total_rows_in
            self.late_rows += query.continuous.late_rows
            self.continuous_blocked_s += query.blocked_s
        if query.first_batch_s is not None:
            self.first_batch[bisect_left(FIRST_BATCH_BOUNDS_S, query.first_batch_s)] += 1
            self.first_batch_sum_s += query.first_batch_s

    def copy(self) -> _Sums:
        """Give independent sums with the same values."""
        other = _Sums()
        for name in self.__slots__:
            value = getattr(self, name)
            setattr(other, name, value.copy() if isinstance(value, list | Counter) else value)
        return other
