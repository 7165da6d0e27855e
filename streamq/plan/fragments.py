"""The physical plan: stages of fragments, as frozen data that any executor can run.

A stage runs one fragment as several tasks. What the tasks are is the stage's *driver*; where their rows go is its
*output*. A fragment is SQL text over named inputs; no file descriptor, process id or socket is in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, assert_never

import pyarrow as pa

from streamq.sql.logical import Bound

PARTITION_COLUMN = "__partition"
"""The column, computed by an exchanging fragment, that tells the partition a row goes to. Not part of what is kept."""
SORT_KEY_COLUMN = "__sort_key"
"""The column, computed by a sorting fragment, whose byte order is the query's order. Not part of the result."""


@dataclass(frozen=True, slots=True)
class ScanInput:
    """Rows of a relation: those of the task's lease if the stage's driver names this input, else all of them.

    `columns` are read, in this order; None is all user columns. `filter` is SQL over them that may be pushed into the read.
    """

    name: str
    relation: str
    columns: tuple[str, ...] | None
    filter: str | None = None
    bounds: tuple[Bound, ...] = ()


@dataclass(frozen=True, slots=True)
class StageInput:
    """The kept rows of an earlier stage: the task's own partition if `partitioned`, else all of them."""

    name: str
    stage: int
    partitioned: bool = False


Input = ScanInput | StageInput


@dataclass(frozen=True, slots=True)
class Fragment:
    """DuckDB SQL over named inputs.

    `views` are named queries, each over the inputs and the views before it; `sql` is a SELECT over all of them.
    """

    sql: str
    inputs: tuple[Input, ...]
    views: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Leases:
    """A task per lease of the relation that `input` scans."""

    input: str


@dataclass(frozen=True, slots=True)
class CoPartitions:
    """A task per partition number: task *i* reads unit *i* of every relation in `inputs`, which are partitioned alike."""

    inputs: tuple[str, ...]
    count: int


@dataclass(frozen=True, slots=True)
class Partitions:
    """A task per partition: task *i* reads partition *i* of every partitioned stage input."""

    count: int


@dataclass(frozen=True, slots=True)
class Once:
    """One task."""


Driver = Leases | CoPartitions | Partitions | Once


@dataclass(frozen=True, slots=True)
class Emit:
    """Rows go to the reader, as they come."""


@dataclass(frozen=True, slots=True)
class Keep:
    """Rows are kept in files for later stages, in `partitions` parts (by PARTITION_COLUMN where there is more than one)."""

    partitions: int = 1


@dataclass(frozen=True, slots=True)
class SortedRuns:
    """Each task's rows are kept as one run that is sorted by SORT_KEY_COLUMN; the merge reads all runs in order."""


Output = Emit | Keep | SortedRuns


@dataclass(frozen=True, slots=True)
class Stage:
    """`label` says in a few words what the stage does, for EXPLAIN and statistics: ``partial aggregate``, ``scan``."""

    id: int
    label: str
    fragment: Fragment
    driver: Driver
    output: Output


@dataclass(frozen=True, slots=True)
class Passthrough:
    """Rows are independent of each other: any routing is right. `single` keeps their order."""

    routing: Literal["round_robin", "single"]


@dataclass(frozen=True, slots=True)
class FullyPartitionable:
    """Rows with equal `keys` are processed together, the groups independently of each other."""

    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TwoPhaseAggregation:
    """Partial results per lease, merged at the end."""


@dataclass(frozen=True, slots=True)
class BroadcastJoin:
    """Every task gets the whole of `table`."""

    table: str


@dataclass(frozen=True, slots=True)
class RepartitionRequired:
    """Rows are exchanged so that equal keys meet; `from_` and `to` name what the rows were and are partitioned by."""

    from_: str
    to: str


Strategy = Passthrough | FullyPartitionable | TwoPhaseAggregation | BroadcastJoin | RepartitionRequired


def describe_strategy(strategy: Strategy) -> str:
    """Name a strategy with its parameters.

    >>> describe_strategy(FullyPartitionable(("k",)))
    'FullyPartitionable(k)'
    """
    match strategy:
        case Passthrough(routing):
            return f"Passthrough({routing})"
        case FullyPartitionable(keys):
            return f"FullyPartitionable({', '.join(keys)})"
        case TwoPhaseAggregation():
            return "TwoPhaseAggregation"
        case BroadcastJoin(table):
            return f"BroadcastJoin({table})"
        case RepartitionRequired(from_, to):
            return f"RepartitionRequired({from_} → {to})"
        case _:
            assert_never(strategy)


@dataclass(frozen=True, slots=True)
class Choice:
    """A strategy that was chosen, and why. `fallback` is a short label (``no_equi_key``) if nothing parallel fitted."""

    strategy: Strategy
    reason: str
    fallback: str | None = None


@dataclass(frozen=True, slots=True)
class PhysicalPlan:
    """What runs, in order of dependency.

    Every stage that emits has the result's columns (and, behind them, SORT_KEY_COLUMN where it keeps sorted runs).
    `limit` and `offset` are applied to the merged rows; None is no limit.
    """

    stages: tuple[Stage, ...]
    choices: tuple[Choice, ...]
    limit: int | None
    offset: int
    schema: pa.Schema

    @property
    def strategy(self) -> Strategy:
        """The choice that says most about the query: the first that is not a pass-through."""
        for choice in self.choices:
            if not isinstance(choice.strategy, Passthrough):
                return choice.strategy
        return self.choices[0].strategy
