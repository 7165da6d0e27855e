"""The logical plan: a bound query as frozen data.

What the rest of the engine knows about a query is here. Expressions are DuckDB SQL text over the names that their place
gives: nobody outside this package parses them again. A query is a tree of three nodes:

- `Block`: one SELECT, taken apart far enough to be distributed;
- `Union`: UNION ALL of queries;
- `Whole`: SQL that is run in one piece over complete inputs, with the reason why it was not taken apart.

Leaves are named inputs. The SQL of a node reads leaf ``orders#1`` as the table ``"orders#1"`` (always aliased to the
name that the user gave it, so the user's column references stay as they were written).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

JoinKind = Literal["inner", "left", "right", "full", "semi", "anti", "cross", "asof"]


@dataclass(frozen=True, slots=True)
class Named:
    """An expression and the output name it gets."""

    sql: str
    name: str


@dataclass(frozen=True, slots=True)
class Ordering:
    """One ORDER BY term with everything explicit."""

    sql: str
    descending: bool
    nulls_first: bool


@dataclass(frozen=True, slots=True)
class Bound:
    """`column op literal`, true for every row that the query can use: what statistics can prune by.

    `literal` is DuckDB SQL of a constant, which may be a parameter. `op` is one of = < <= > >= (a BETWEEN is two bounds, an IN is `in`
    with a parenthesised list of constants).
    """

    column: str
    op: Literal["=", "<", "<=", ">", ">=", "in"]
    literal: str


@dataclass(frozen=True, slots=True)
class Scan:
    """A leaf that reads a relation of the catalog.

    `columns` are those that the query can need, in schema order, system columns last; None means all user columns.
    `filter` is SQL over the relation's bare column names which every row that matters satisfies (already contained in
    the block's `where`, so dropping it never changes an answer).
    """

    name: str
    relation: str
    columns: tuple[str, ...] | None
    filter: str | None = None
    bounds: tuple[Bound, ...] = ()


@dataclass(frozen=True, slots=True)
class Derived:
    """A leaf that reads the result of another query."""

    name: str
    query: Query


Leaf = Scan | Derived


@dataclass(frozen=True, slots=True)
class Join:
    """How one leaf of FROM joins all the leaves before it.

    `keys` are the equalities of ON/USING (and of WHERE, for a comma join): `(left, left expression, right expression, common type)`
    where `left` names the leaf that the left expression reads and both expressions are written over bare column names of their
    leaf. The common type is the DuckDB type both sides are cast to before they are hashed.
    `residual` tells that ON has more than these keys.
    `on` is the whole condition over the names that the user gave (``o.id = c.id AND c.active``), None for a cross join;
    `left_keys` and `right_keys` are the sides of `keys` over those names, cast to the common type.
    """

    kind: JoinKind
    right: str
    keys: tuple[tuple[str, str, str, str], ...]
    residual: bool
    on: str | None = None
    left_keys: tuple[str, ...] = ()
    right_keys: tuple[str, ...] = ()
    time_bound: TimeBound | None = None
    as_of_now: bool = False
    """The right side is looked up as it is when a left row comes (FOR SYSTEM_TIME AS OF PROCTIME())."""


@dataclass(frozen=True, slots=True)
class TimeBound:
    """A bound between the event times of two leaves: `lower_us` <= right - left <= `upper_us`, both inclusive.

    `left` and `right` are the time expressions over the names that the user gave.
    The condition is also in ON or WHERE.
    """

    left: str
    right: str
    lower_us: int
    upper_us: int


@dataclass(frozen=True, slots=True)
class Call:
    """One aggregate call of a block, and how its partial results merge.

    `name` is the column by which later parts of the block refer to the finished value; `sql` computes it in one phase over
    the block's inputs. If the call can be computed in two phases, `partial` are aggregate expressions over the
    inputs (their names are unique in the block), and `final` is an aggregate expression over rows that have these
    columns; `partial` is empty where the whole group is needed at once.
    A `final` that needs a group's mean first names it in `means`: each is computed over the group's partial rows as
    ``sum(weight * value) OVER (group) / sum(weight) OVER (group)`` and is a column, constant in its group, that `final` may use.
    """

    name: str
    sql: str
    partial: tuple[Named, ...]
    final: str
    means: tuple[Mean, ...] = ()
    function: str = ""
    """The function's name in lower case where the call is `function(arguments) FILTER (WHERE condition)` and no more; else empty."""
    arguments: tuple[str, ...] = ()
    distinct: bool = False
    condition: str | None = None


@dataclass(frozen=True, slots=True)
class Mean:
    """A weighted mean over a group's partial rows, available to `Call.final` under `name`."""

    name: str
    weight: str
    value: str


@dataclass(frozen=True, slots=True)
class Block:
    """One SELECT.

    The pipeline, in order:

    1. `from_sql` over `leaves`, then `where`; both are over the names the user gave (``o.amount``);
    2. `inputs`: the values that anything later needs, each under a bare name that is unique in the block. Everything
       below is over these names only, so a block can be cut here: rows with these columns can be kept or exchanged;
    3. if `keys` is not None, an aggregation by `keys` (over inputs) computing `calls` (over inputs), then `having`. Everything
       below is then over the names of `keys` and `calls` only. `keys == ()` is a global aggregate: one row, even of no rows;
    4. `items`, the output columns, in which window functions may occur; `qualify`; `distinct`;
    5. `order`, over the names of `items`, or, where it needs something else, over hidden items;
    6. `limit` and `offset`.

    Names of `inputs`, `calls` and `items` are unique whatever their case. `schema` names the result's columns, by position; at the
    top of a query these names may repeat. A term of `order` is always the (quoted) name of an item.

    `hidden` counts the trailing `items` that only `order` needs and that are not part of the result. `partition_by` has, for every
    window function in `items` and `qualify`, its PARTITION BY expressions over the same names as `items`.
    `input_subqueries` are leaves read inside expressions of `where`, `from_sql` or `inputs`, `output_subqueries` inside later ones; each is
    needed whole wherever the expression is evaluated.
    `unnests` tells that FROM expands lists.
    `ranks` are the items that are nothing but a rank, where all window functions of the block are ranks in one order. `first_ranks` is a
    condition over the same names as `items`, with such a window function: of any part of the rows, those that fail it have no part in
    what is read of the result.
    """

    leaves: tuple[Leaf, ...]
    joins: tuple[Join, ...]
    from_sql: str
    where: str | None
    inputs: tuple[Named, ...]
    keys: tuple[Named, ...] | None
    calls: tuple[Call, ...]
    having: str | None
    items: tuple[Named, ...]
    hidden: int
    partition_by: tuple[tuple[str, ...], ...]
    qualify: str | None
    distinct: bool
    order: tuple[Ordering, ...]
    limit: int | None
    offset: int
    schema: pa.Schema
    input_subqueries: tuple[Leaf, ...] = ()
    output_subqueries: tuple[Leaf, ...] = ()
    unnests: bool = False
    ranks: tuple[str, ...] = ()
    first_ranks: str | None = None
    aliases: tuple[str, ...] = ()
    """The names under which `from_sql` has the leaves, by position: ``o`` in ``"orders#1" AS o``."""
    laterals: str = ""
    """What `from_sql` has behind its leaves, as text: UNNESTs and table functions over their columns."""
    entangled: str | None = None
    """Why the leaves cannot be joined one by one, with their rows carried as structs by alias, before `laterals` and the rest."""
    windows: tuple[WindowColumn, ...] = ()
    """The inputs that are bounds of the row's time window."""
    implied_keys: tuple[str, ...] = ()
    """Keys that follow from the other keys (the end of a window that is a key as a struct): a result without them still has its key."""
    sessions: SessionRows | None = None
    """The one leaf's rows get their sessions before anything else happens to them."""
    late: str | None = None
    """In a continuous query: which rows of the one leaf (a scan) are late, over its bare columns and `_watermark`. `where` drops them."""
    panes: Panes | None = None
    """How rows that FROM repeats for each of their hopping windows can be read once."""
    bare_windows: bool = False
    """`where` and `inputs` use the window columns of the one leaf only as they are: as inputs that are nothing but one of them."""


@dataclass(frozen=True, slots=True)
class WindowColumn:
    """An input that tells when the row's time window closes: at its value + `plus_us` microseconds (0: it is the end)."""

    name: str
    plus_us: int
    kind: Literal["tumble", "hop", "session"]


@dataclass(frozen=True, slots=True)
class Panes:
    """How a block with hopping windows reads a row once, instead of once for each of its windows.

    All is as in the block, but for `from_sql`, `where` and `inputs`: bounds of windows are those of the first one of a row's windows
    that it is not late for, and the value `count` tells how many there are, each `slide_us` after the one before.
    """

    from_sql: str
    where: str
    inputs: tuple[Named, ...]
    count: str
    slide_us: int


@dataclass(frozen=True, slots=True)
class SessionRows:
    """Session windows over the rows of a leaf.

    Rows of `keys` whose `time` (expressions over the leaf's bare columns) are within `gap_us` of each other are one session;
    `start` and `end` are the columns that the leaf gets. A query that is not continuous has this as SQL in the leaf.
    """

    keys: tuple[str, ...]
    time: str
    gap_us: int
    start: str
    end: str


@dataclass(frozen=True, slots=True)
class Union:
    """UNION ALL: the bag union of queries with the same schema."""

    branches: tuple[Query, ...]
    schema: pa.Schema


@dataclass(frozen=True, slots=True)
class Whole:
    """SQL that runs in one piece over complete `leaves`, and why."""

    sql: str
    leaves: tuple[Leaf, ...]
    reason: str
    schema: pa.Schema
    ordered: bool
    """The result's order is part of the answer."""
    by_row: bool = False
    """Which copies of a row are in the result depends on that row's copies in the leaves alone (INTERSECT, EXCEPT)."""


Query = Block | Union | Whole


@dataclass(frozen=True, slots=True)
class BoundQuery:
    """A SELECT with everything that running it needs.

    `parameters` are the bound values by the names (`$p1` …) that expressions use. `relations` are the catalog's names
    that any leaf reads. `emit` is None for a snapshot query.
    """

    sql: str
    plan: Query
    schema: pa.Schema
    parameters: tuple[tuple[str, object], ...]
    relations: frozenset[str]
    volatile: bool
    options: tuple[tuple[str, object], ...] = ()
    continuous: Continuous | None = None
    by_value: frozenset[str] | None = None
    """The parameters for whose values the plan was made: of all others it depends on the types alone. None where it was made for this
    moment, because it reads the clock."""


@dataclass(frozen=True, slots=True)
class Continuous:
    """How a continuous query emits, and the options that only it has.

    `lateness_us` is in microseconds. `start` is where it begins: at the earliest kept row, at the next one, or at a
    `_timestamp` in microseconds since 1970 (UTC). Where the plan's expressions read the clock, they read the parameter `$now`, a
    TIMESTAMPTZ that is the epoch's.
    """

    emit: Literal["changes", "final"]
    every_s: float | None = None
    late_rows_into: str | None = None
    lateness_us: int = 0
    idle_timeout_s: float = 30.0
    start: Literal["earliest", "latest"] | int = "earliest"
    state_ttl_s: float | None = None
    max_state_bytes: int | None = None
    epoch_rows: int | None = None
    """The most rows of an epoch that the query's own text asks for; None leaves it to the caller."""
    reads_clock: bool = False
