"""What streamq tells of itself: of one query, and of a database.

Everything here is a snapshot: frozen data, made when it is asked for. Hot paths count in plain attributes of their own
objects (a channel, a stream, a pool); nothing is pushed anywhere while a query runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from streamq.execution.histogram import NO_EPOCHS, NO_QUERIES, Histogram
from streamq.execution.jobs import PoolStatistics

if TYPE_CHECKING:
    from streamq.plan.explain import StageRun

Outcome = Literal["running", "completed", "failed", "cancelled", "timed_out"]
"""`cancelled` is let go before its end: closed, dropped or left by its reader, or cancelled by someone else."""

OUTCOMES: tuple[Outcome, ...] = ("completed", "failed", "cancelled", "timed_out")
"""How a query can end."""

QueryKind = Literal["snapshot", "continuous"]
"""Whether a query answers once, or goes on with its sources."""

KINDS: tuple[QueryKind, ...] = ("snapshot", "continuous")
"""Every kind of query."""


@dataclass(frozen=True, slots=True)
class Waits:
    """What a query has waited for, in seconds. Whoever asks why it is slow looks for the largest.

    `client_s`: there were rows, and the reader (over HTTP: the client) did not take them. `channel_s`: tasks had rows, and no room for them
    because the reader was behind. `worker_s`: tasks, or the next epoch, waited for workers to compute. `source_s`: a continuous query
    waited for rows to come. Several tasks that wait at once count each, so the sum may exceed the time that has passed.
    """

    client_s: float = 0.0
    channel_s: float = 0.0
    worker_s: float = 0.0
    source_s: float = 0.0

    def __add__(self, other: Waits) -> Waits:
        """Add up, wait by wait."""
        return Waits(
            self.client_s + other.client_s,
            self.channel_s + other.channel_s,
            self.worker_s + other.worker_s,
            self.source_s + other.source_s,
        )


NO_WAITS = Waits()


@dataclass(frozen=True, slots=True)
class ScanStatistics:
    """How one relation of a query was split, and how far its reading is.

    `unit` is what the splits are made of (``row group``, ``range``, ``modulo``, ``shard``, ``file``) and `max_parallelism`
    how many tasks the relation can feed at once. `splits` are to be read, the `pruned` ones are not among them. `rows` are in
    these splits, by metadata. `leases` have been handed out; `splits_done` of `rows_done` have been read to their end.
    """

    relation: str
    unit: str
    max_parallelism: int
    splits: int
    pruned: int
    rows: int
    leases: int = 0
    rows_done: int = 0
    splits_done: int = 0


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
    operators kept after an epoch. `epoch_s` counts the epochs by how long they took to compute.
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
    epoch_s: Histogram = NO_EPOCHS

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
class TakenLate:
    """A batch that the reader of a query has taken after the query's end. `first_batch_s` is there if it was the reader's first one."""

    kind: QueryKind
    rows: int
    bytes: int
    first_batch_s: float | None


@dataclass(frozen=True, slots=True)
class QueryStatistics:
    """One query, now or at its end.

    `started_at` is in seconds since 1970 (UTC); `elapsed_s` runs until the query ended. `first_batch_s` is the time from
    the start until the reader had the first batch, None before. `rows_out`, `bytes_out` (Arrow buffers) and `batches_out`
    were handed to the reader. `strategy` names the partition strategy, `executor` the kind of pool that runs it
    (``process``, ``thread``), `fallback` is a short label of why nothing parallel fitted. `tasks` have been done, of all
    stages together. `channel_batches` of `channel_bytes` wait for the reader; `waited` is what the query has waited for. `error`
    is the text of what the query failed with. `continuous` is there for queries with EMIT, and `view` is the name of the
    materialized view that the query keeps, whose rows `rows_out` then counts.
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
    waited: Waits = NO_WAITS
    stages: tuple[StageRun, ...] = ()
    error: str | None = None
    continuous: ContinuousStatistics | None = None
    view: str | None = None

    @property
    def kind(self) -> QueryKind:
        """Whether it answers once, or goes on with its sources."""
        return "snapshot" if self.continuous is None else "continuous"

    @property
    def blocked_s(self) -> float:
        """How long tasks waited for the reader, all of them together."""
        return self.waited.channel_s

    @property
    def rows_in(self) -> int:
        """Rows and changes that have been read."""
        return self.rows_done if self.continuous is None else self.continuous.total_rows_in

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
        """Leases that have been handed out, over all scans."""
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
class QueryTotals:
    """The queries of one kind, those that are `running` included.

    `durations_s` are the times from start to end of those that have ended, by how they ended. `first_batch_s` counts the times until the
    reader had the first batch. The rest adds up what is in `QueryStatistics`.
    """

    running: int
    rows_in: int
    rows_out: int
    bytes_out: int
    batches_out: int
    first_batch_s: Histogram
    durations_s: Mapping[str, Histogram]
    waited: Waits

    @property
    def outcomes(self) -> Mapping[str, int]:
        """How many have ended, by how."""
        return {outcome: durations.count for outcome, durations in self.durations_s.items()}


@dataclass(frozen=True, slots=True)
class ContinuousTotals:
    """What only continuous queries have.

    Those that are `running` now keep `state_rows` of `state_bytes`, by kind of operator, and the one that is furthest behind the clock is
    so by `watermark_lag_s` (None if none of them waits for event time). The others count since `connect()`: `epochs` computed, by how long
    they took `epoch_s`, `rows_in` read, the `late_rows` among them, and `blocked_s`, how long they waited for their readers.
    """

    running: int = 0
    epochs: int = 0
    rows_in: int = 0
    late_rows: int = 0
    blocked_s: float = 0.0
    state_bytes: Mapping[str, int] = field(default_factory=dict)
    watermark_lag_s: float | None = None
    state_rows: Mapping[str, int] = field(default_factory=dict)
    epoch_s: Histogram = NO_EPOCHS


@dataclass(frozen=True, slots=True)
class InsertStatistics:
    """What was written into sources and tables: `inserts` of `rows`, which as Arrow buffers have `bytes`. They waited `waited_s`, all
    together, until queries had read what a retention then dropped to make room."""

    inserts: int = 0
    rows: int = 0
    bytes: int = 0
    waited_s: float = 0.0


NO_INSERTS = InsertStatistics()


@dataclass(frozen=True, slots=True)
class ResourceStatistics:
    """What all queries share, and wait for when it is used up: `used` of `limit` now.

    `name` is ``planning threads``, ``epoch threads``, or of each kind of pool the ``… jobs`` that are read while they run, and the
    ``… file jobs`` that are not.
    """

    name: str
    used: int
    limit: int


@dataclass(frozen=True, slots=True)
class DatabaseStatistics:
    """A database, now. Totals count since `connect()` and include what the running queries have done so far.

    `kinds` has the queries of each kind; what all together have done is their sum. `dropped_streams` were
    neither read to their end nor closed: the garbage collector found them. `strategies` counts queries by partition
    strategy, `splits` counts splits to be read by what they are made of, of which `splits_done` have been and running queries still have
    `splits_left`, `fallbacks` counts queries by why nothing parallel fitted. `channel_batches` of `channel_bytes` wait for readers now, of
    `channel_limit_bytes` that may; queries are to get by with `memory_limit_bytes` for everything. `continuous` is what
    only queries with EMIT have.
    """

    kinds: Mapping[str, QueryTotals]
    dropped_streams: int
    strategies: Mapping[str, int]
    splits: Mapping[str, int]
    splits_pruned: int
    fallbacks: Mapping[str, int]
    tasks: int
    channel_batches: int
    channel_bytes: int
    pools: tuple[PoolStatistics, ...] = ()
    relations: tuple[RelationStatistics, ...] = ()
    continuous: ContinuousTotals = ContinuousTotals()
    splits_done: Mapping[str, int] = field(default_factory=dict)
    splits_left: int = 0
    channel_limit_bytes: int = 0
    memory_limit_bytes: int = 0
    inserts: InsertStatistics = NO_INSERTS
    resources: tuple[ResourceStatistics, ...] = ()

    @property
    def running(self) -> int:
        """How many queries are now in `db.queries()`."""
        return sum(kind.running for kind in self.kinds.values())

    @property
    def outcomes(self) -> Mapping[str, int]:
        """How many queries have ended, by how."""
        return {outcome: sum(kind.outcomes[outcome] for kind in self.kinds.values()) for outcome in OUTCOMES}

    @property
    def rows_out(self) -> int:
        """Rows that readers were given."""
        return sum(kind.rows_out for kind in self.kinds.values())

    @property
    def bytes_out(self) -> int:
        """What these take in Arrow buffers."""
        return sum(kind.bytes_out for kind in self.kinds.values())

    @property
    def batches_out(self) -> int:
        """The batches in which they came."""
        return sum(kind.batches_out for kind in self.kinds.values())

    @property
    def first_batch_s(self) -> Histogram:
        """The times until readers had a first batch."""
        return sum((kind.first_batch_s for kind in self.kinds.values()), start=NO_QUERIES)

    @property
    def blocked_s(self) -> float:
        """How long producers waited for readers."""
        return sum(kind.waited.channel_s for kind in self.kinds.values())
