"""A continuous query as a dataflow: frozen data, made of nodes that turn the changes of an epoch into changes of their result.

Every node has as many instances as the query has partitions; an edge says how the rows of one node reach the instances of
the next. Nodes hold DuckDB SQL text over named tables and columns. Column names of an epoch's changes never say a
weight: that is added as the column `WEIGHT` of the tables that SQL reads, where the node's input can retract, and must then be
among the columns that the SQL gives.

`horizon` below is the query's watermark less its lateness: no row that belongs to a window which ends at or before it
will ever come, so what is kept for such a window can go.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from streamq.plan.exchanges import Edge
from streamq.sql.logical import Continuous, JoinKind, Ordering, Scan

WEIGHT = "#weight"
"""The column of rows' weights in the SQL of nodes whose input retracts: BIGINT, never 0, negative for rows that are withdrawn."""
OP = "_op"
"""The column of an upsert or retract changelog that says what a row does: insert, update or delete."""
INPUT = "in"
"""The table that the SQL of a node with one input reads."""
GROUP = "#group"
"""What the columns are called, "#group1", "#group2" …, in which the SQL of a grouped `Recompute` says which key a row is of."""
WINDOWS = "#windows"
"""The column of the input of a `Hop` that tells in how many windows a row is: BIGINT, at least 1."""
Changelog = Literal["append", "upsert", "retract"]


# Nodes. `id` is a stable path in the plan, `schema` has the columns of the result, `retracts` tells that rows can be withdrawn.


@dataclass(frozen=True, slots=True)
class Closing:
    """A column that says when a row's window closes: at `column` + `plus_us` microseconds (0: it is the end itself).

    With `inclusive` (sessions) a row exactly at the end still belongs to the window, which closes once the horizon is past the end.
    """

    column: str
    plus_us: int = 0
    inclusive: bool = False


@dataclass(frozen=True, slots=True)
class Read:
    """Gives what an epoch has of a relation: the columns of `schema`, system columns among them where they are needed."""

    id: str
    scan: Scan
    schema: pa.Schema
    retracts: bool


@dataclass(frozen=True, slots=True)
class Map:
    """Runs SQL over the changes alone: filter, project, unnest, assign windows. The SQL reads `INPUT` row by row."""

    id: str
    input: Edge
    sql: str
    schema: pa.Schema
    retracts: bool
    label: str = "map"
    """What it does, in a word or two, for EXPLAIN."""


@dataclass(frozen=True, slots=True)
class Union:
    """Gives the changes of all inputs, whose columns are equal by position."""

    id: str
    inputs: tuple[Edge, ...]
    schema: pa.Schema
    retracts: bool


@dataclass(frozen=True, slots=True)
class Side:
    """A complete relation that SQL reads as the table `name`."""

    edge: Edge
    name: str


@dataclass(frozen=True, slots=True)
class Sided:
    """Runs SQL row by row over `INPUT`, given complete side relations (subqueries' results).

    While no side changes, only the changes of the input go through the SQL. When one does, all rows are evaluated again and
    the difference is given. Keeps the input's rows, the sides, and what was given. Only the input has weights.
    """

    id: str
    input: Edge
    sides: tuple[Side, ...]
    sql: str
    schema: pa.Schema
    retracts: bool
    label: str = "map with subquery"


AccumulatorFunction = Literal["count_star", "count", "sum", "avg", "min", "max", "var_pop", "var_samp", "stddev_pop", "stddev_samp"]


@dataclass(frozen=True, slots=True)
class Accumulate:
    """One aggregate kept in columns by group: `function` of the input column `argument` (None for count_star)."""

    name: str
    function: AccumulatorFunction
    argument: str | None
    type: pa.DataType


@dataclass(frozen=True, slots=True)
class Aggregate:
    """Groups by `keys` (input columns; none: one group, which exists without rows too) and keeps `calls` per group.

    The result has the keys, then the calls. `emit` is what an epoch gives: `delta` withdraws the old row of each group that
    changed and gives its new one; `changelog` gives, for a reader of changes by key, one row a changed group with `OP` as last column
    (the row as it was where the group is gone); `close` gives a group's row once, when its window closes.
    If the input retracts, the calls are those that can be subtracted from exactly (counts, and sums and averages of integers and decimals).
    Groups whose window has closed are forgotten, in every mode.
    With `ttl_us`, so are groups that nothing has touched for so long.
    """

    id: str
    input: Edge
    keys: tuple[str, ...]
    calls: tuple[Accumulate, ...]
    emit: Literal["delta", "changelog", "close"]
    closing: Closing | None
    schema: pa.Schema
    retracts: bool
    ttl_us: int | None = None


@dataclass(frozen=True, slots=True)
class Hop:
    """Groups rows by `keys` in hopping windows, and gives each window's groups once, when it closes.

    The input, which does not retract, has a row once: in its first window, whose bounds are the key columns `bounds`, and in `WINDOWS`
    windows in all, each `slide_us` after the one before. Rows of the same keys and windows are kept together, as one pane, until their
    last window has closed. `closing` is that of a window, by one of its bounds. The result has the keys, then the calls.
    """

    id: str
    input: Edge
    keys: tuple[str, ...]
    bounds: tuple[str, ...]
    slide_us: int
    calls: tuple[Accumulate, ...]
    closing: Closing
    schema: pa.Schema
    retracts: bool = False


@dataclass(frozen=True, slots=True)
class Recompute:
    """Runs SQL over all rows of the keys that an epoch touches, and gives the difference to what it gave before.

    Input number n is the table `names[n]`; `keys[n]` are its key columns, equal in number and type over all inputs. No keys: every
    change recomputes everything. NULL is a key like any other, except that with `null_matches` False (joins) rows with
    a NULL in their key are only ever seen by themselves.
    The SQL reads a row as often as it is there, and no weights. If `grouped`, it gives the key of each row behind the columns of
    `schema`, as columns `GROUP` + 1, 2, … in the order of `keys` (of a row that only the right input has: the right input's key), and
    what was given for a key is kept. Otherwise it is computed again from the rows of before, twice the work, which must give the same
    to the last bit: for results without floating point numbers that depend on more than one row.
    With `once`, all rows of a key come in one epoch and never again: nothing is kept. Rows of a window that has closed are forgotten
    (`closing` names a column of input 0 that is constant in a key).
    `ttl_us` says by input after how long without a change a key's rows are forgotten; () and None: never.
    """

    id: str
    inputs: tuple[Edge, ...]
    names: tuple[str, ...]
    keys: tuple[tuple[str, ...], ...]
    sql: str
    schema: pa.Schema
    retracts: bool
    once: bool = False
    null_matches: bool = True
    closing: Closing | None = None
    label: str = "recompute"
    grouped: bool = False
    ttl_us: tuple[int | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Distinct:
    """Gives each different row once (NULL equals NULL). Rows of a window that has closed are forgotten. With `ttl_us`,
    so are rows that have not come again for so long."""

    id: str
    input: Edge
    schema: pa.Schema
    retracts: bool
    closing: Closing | None = None
    ttl_us: int | None = None


@dataclass(frozen=True, slots=True)
class Interval:
    """A time bound between the rows of a join: `lower_us` <= right time - left time <= `upper_us`, both inclusive."""

    left: str
    right: str
    lower_us: int
    upper_us: int


@dataclass(frozen=True, slots=True)
class Join:
    """Joins by equal keys (`left_keys[i]` = `right_keys[i]`, columns of one type; NULL equals nothing; none: a cross join).

    The result has the left columns, then the right ones (semi and anti: the left ones only). `residual` is SQL that reads candidate
    pairs as the table `INPUT`, with all these columns and a BIGINT column "#pair", and gives the "#pair" of those that match.
    With an `interval`, rows that the horizon has passed are forgotten; with `final`, a NULL-extended (or anti) row of the outer side
    is given once, when no match can come any more, and matches at once.
    `ttl_us` says by side after how long without a change, on either side, a key's rows are forgotten; () and None: never.
    """

    id: str
    left: Edge
    right: Edge
    kind: JoinKind
    left_keys: tuple[str, ...]
    right_keys: tuple[str, ...]
    residual: str | None
    schema: pa.Schema
    retracts: bool
    interval: Interval | None = None
    final: bool = False
    ttl_us: tuple[int | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Lookup:
    """Looks every row of an append-only input up in the right side as it is in this epoch; later changes of that change nothing.

    `kind` is inner, left, semi or anti; keys and `residual` are as for `Join`.
    """

    id: str
    left: Edge
    right: Edge
    kind: JoinKind
    left_keys: tuple[str, ...]
    right_keys: tuple[str, ...]
    residual: str | None
    schema: pa.Schema
    retracts: bool


@dataclass(frozen=True, slots=True)
class TopN:
    """Keeps rows `offset` to `offset + limit` in the given order, which leaves no ties between different rows.

    Over an input that only adds, rows beyond these are not kept.
    """

    id: str
    input: Edge
    order: tuple[Ordering, ...]
    limit: int
    offset: int
    schema: pa.Schema
    retracts: bool


@dataclass(frozen=True, slots=True)
class First:
    """Lets rows `offset` to `offset + limit` of an input that only adds pass, in order of arrival, then ends the query."""

    id: str
    input: Edge
    limit: int
    offset: int
    schema: pa.Schema
    retracts: bool


@dataclass(frozen=True, slots=True)
class Sessions:
    """Puts rows of equal `keys` that follow each other within the gap into one session.

    The result has the input's columns, then `start` and `end` (last row's time + gap). Rows whose session grows or merges with another
    are withdrawn and given again. With `final`, rows are given once, when their session closes.
    Where its time is no event time it does not close (`closes`): what is kept is kept until the end.
    """

    id: str
    input: Edge
    keys: tuple[str, ...]
    time: str
    gap_us: int
    start: str
    end: str
    final: bool
    schema: pa.Schema
    retracts: bool
    closes: bool = True


@dataclass(frozen=True, slots=True)
class Hold:
    """Gives rows once their window has closed, or, without a window, the net rows when the sources have ended. Append-only."""

    id: str
    input: Edge
    closing: Closing | None
    schema: pa.Schema
    retracts: bool = False


Node = Read | Map | Union | Sided | Aggregate | Hop | Recompute | Distinct | Join | Lookup | TopN | First | Sessions | Hold


@dataclass(frozen=True, slots=True)
class LateRows:
    """Which rows of a relation are late for a window or a time bound: SQL over the columns of the read node `node`.

    Only rows whose event time, the column `time`, is before the watermark that stood before them can be.
    """

    node: str
    sql: str
    time: str


@dataclass(frozen=True, slots=True)
class Dataflow:
    """A continuous query, ready to run.

    `nodes` are in an order in which every node follows its inputs. `output` is the last one; its columns are those of
    `schema`, by position, and `OP` behind them where its `changelog` is not append and the last node gives it itself (`ready`).
    `key` names columns of `schema`, `()` for one row, None where none is known. `reasons` say, for EXPLAIN, why things are
    done as they are.
    """

    nodes: tuple[Node, ...]
    output: str
    schema: pa.Schema
    key: tuple[str, ...] | None
    changelog: Changelog
    ready: bool
    continuous: Continuous
    late: tuple[LateRows, ...] = ()
    parameters: tuple[tuple[str, object], ...] = ()
    reasons: tuple[str, ...] = ()


def edges(node: Node) -> tuple[Edge, ...]:
    """Give the edges into a node, in the order in which its operator takes their changes."""
    match node:
        case Read():
            return ()
        case Union() | Recompute():
            return node.inputs
        case Sided():
            return (node.input, *(side.edge for side in node.sides))
        case Join() | Lookup():
            return (node.left, node.right)
        case _:
            return (node.input,)
