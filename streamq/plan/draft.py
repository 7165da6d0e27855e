"""A physical plan while it is being made: stages that are finished, and rows that are still open.

`Rows` are where a stage has come to: what its tasks read and the named queries they have run so far. A step adds a
query; a cut finishes the stage, keeps its rows, and goes on with them in the next one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Unpack

from streamq.plan.fragments import (
    PARTITION_COLUMN,
    Choice,
    Driver,
    Fragment,
    Input,
    Keep,
    Once,
    Output,
    Partitions,
    Stage,
    StageInput,
    Strategy,
)
from streamq.plan.relations import RelationSnapshot
from streamq.plan.render import Clauses, partition_number, quote, select, union_all


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows inside the tasks of a stage that is not finished: those of `source`, an input or a view.

    `single` tells that there is one task, which has all rows. `grouped` names columns such that rows that are equal in them are in
    the same task; None where nothing of the kind is known.
    """

    driver: Driver
    inputs: tuple[Input, ...]
    views: tuple[tuple[str, str], ...]
    source: str
    single: bool
    label: str = "scan"
    grouped: frozenset[str] | None = None

    @property
    def from_sql(self) -> str:
        return quote(self.source)

    def view(self, name: str, sql: str) -> Rows:
        """Go on with the rows of a query over the inputs and views so far."""
        return replace(self, views=(*self.views, (name, sql)), source=name)

    def renamed(self, name: str) -> Rows:
        """Go on with the same rows under another name."""
        if self.views and self.views[-1][0] == self.source:
            return replace(self, views=(*self.views[:-1], (name, self.views[-1][1])), source=name)
        return self.view(name, select(("*",), self.from_sql))

    def together(self, columns: frozenset[str]) -> bool:
        """Tell whether rows that are equal in `columns` are in the same task."""
        return self.single or (self.grouped is not None and self.grouped <= columns)


Spread = tuple[Rows, ...]
"""The rows of one result, in the open stages that give them; more than one for a UNION ALL."""


def is_single(spread: Spread) -> bool:
    """Tell whether one task has all rows."""
    return len(spread) == 1 and spread[0].single


def together(spread: Spread, columns: frozenset[str]) -> bool:
    """Tell whether rows that are equal in `columns` are in the same task."""
    return len(spread) == 1 and spread[0].together(columns)


def labelled(rows: Spread, what: str) -> Spread:
    """Say what is done to the rows, unless that is said already."""
    return tuple(replace(part, label=what if what in part.label else f"{part.label}, {what}") for part in rows)


@dataclass(slots=True)
class Draft:
    """Collects the stages and choices of one plan. `partitions` is how many tasks an exchange feeds.

    `final_partitions` is how many merge partial groups. `one_task` tells to do everything in one task.
    `kept` has the stages that keep the whole result of a derived leaf, by the leaf's name.
    """

    snapshots: Mapping[str, RelationSnapshot]
    partitions: int
    broadcast_bytes: int
    final_partitions: int = 1
    one_task: bool = False
    stages: list[Stage] = field(default_factory=list)
    kept: dict[str, tuple[int, ...]] = field(default_factory=dict)
    choices: list[Choice] = field(default_factory=list)
    _names: int = 0

    def choose(self, strategy: Strategy, reason: str, fallback: str | None = None) -> None:
        """Record a decision, once."""
        choice = Choice(strategy, reason, fallback)
        if choice not in self.choices:
            self.choices.append(choice)

    def new_name(self, what: str) -> str:
        """Make a name that no other view or input of the plan has; leaves have a # in theirs."""
        self._names += 1
        return f"{what} {self._names}"

    def step(self, spread: Spread, what: str, columns: Sequence[str] = ("*",), **clauses: Unpack[Clauses]) -> Spread:
        """Run a SELECT over the rows, inside their tasks. `clauses` are those of `render.select`."""
        return tuple(self._step(rows, what, columns, clauses) for rows in spread)

    def _step(self, rows: Rows, what: str, columns: Sequence[str], clauses: Clauses) -> Rows:
        return rows.view(self.new_name(what), select(columns, rows.from_sql, **clauses))

    def finish(self, rows: Rows, output: Output, label: str, columns: Sequence[str] = ("*",), **clauses: Unpack[Clauses]) -> int:
        """Make the stage of the rows and give its number."""
        fragment = Fragment(select(columns, rows.from_sql, **clauses), rows.inputs, rows.views)
        # A SELECT * over the last view says nothing: the view's own text becomes the fragment's.
        if tuple(columns) == ("*",) and not clauses and rows.views and rows.views[-1][0] == rows.source:
            fragment = Fragment(rows.views[-1][1], rows.inputs, rows.views[:-1])
        self.stages.append(Stage(len(self.stages), label, fragment, rows.driver, output))
        return len(self.stages) - 1

    def cut(self, spread: Spread, label: str, then: str) -> Spread:
        """Keep the rows and go on with all of them in one task."""
        kept = tuple(StageInput(self.new_name("kept"), self.finish(rows, Keep(), f"{rows.label}, {label}")) for rows in spread)
        return (self._collected(kept, Once(), then, frozenset()),)

    def exchange(
        self, spread: Spread, keys: Sequence[str], grouped: frozenset[str], label: str, then: str, *, count: int | None = None
    ) -> Spread:
        """Keep the rows by the hash of `keys`, expressions over them, and go on with each of `count` partitions in a task."""
        count = self.partitions if count is None else count
        if count == 1:
            return self.cut(spread, label, then)
        kept = tuple(
            StageInput(self.new_name("kept"), self.keep_partitions(rows, keys, count, f"{rows.label}, {label}"), partitioned=True)
            for rows in spread
        )
        return (self._collected(kept, Partitions(count), then, grouped),)

    def unite(self, spread: Spread) -> Rows:
        """Go on with rows that one task has anyway as those of one view. For drafts of `one_task`."""
        inputs = tuple(given for rows in spread for given in rows.inputs)
        views = tuple(view for rows in spread for view in rows.views)
        name = self.new_name("union")
        return Rows(Once(), inputs, (*views, (name, union_all(rows.source for rows in spread))), name, single=True, label="union")

    def keep_partitions(self, rows: Rows, keys: Sequence[str], count: int, label: str) -> int:
        """Make the stage that keeps rows by the hash of `keys`."""
        if count == 1:
            return self.finish(rows, Keep(), label)
        return self.finish(rows, Keep(count), label, ("*", f"{partition_number(keys, count)} AS {quote(PARTITION_COLUMN)}"))

    def _collected(self, kept: tuple[StageInput, ...], driver: Driver, label: str, grouped: frozenset[str]) -> Rows:
        single = isinstance(driver, Once)
        if len(kept) == 1:
            return Rows(driver, kept, (), kept[0].name, single, label, grouped)
        name = self.new_name("union")
        return Rows(driver, kept, ((name, union_all(part.name for part in kept)),), name, single, label, grouped)
