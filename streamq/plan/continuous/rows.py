"""The rows of an intermediate result while a dataflow is being made: where they are, and what is known of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from streamq.plan.continuous.names import column_of, columns_of, end_of, window_parts
from streamq.plan.dataflow import WINDOWS, Closing, Side
from streamq.plan.render import quote, select
from streamq.sql.logical import Named

Key = tuple[frozenset[str], ...]
"""The parts of a key; each names the columns of which any one can stand for it."""
SINGLE = "single"
"""All rows are in partition 0."""
Placement = tuple[str, ...] | str | None
"""The columns by whose hash rows lie in partitions, `SINGLE`, or None where they lie anywhere."""


@dataclass(frozen=True, slots=True)
class Window:
    """What a column says of its row's window: it closes at the column + `plus_us` + `delay_us`, and `plus_us` is its length from there.

    `delay_us` is how far the rows may be behind the watermark. Columns of one `origin` tell of the same window.
    """

    origin: str
    plus_us: int
    delay_us: int = 0
    inclusive: bool = False

    def closing(self, column: str) -> Closing:
        return Closing(column, self.plus_us + self.delay_us, self.inclusive)


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of rows, by the names of their columns.

    `windows` are columns that tell when no more changes of their rows can come. Rows that are equal in a column of `complete` all
    come in one epoch, and are never withdrawn. `timely_us` is how far event times may be behind the watermark, None where they
    may be of any age.
    """

    key: Key | None = None
    placed: Placement = None
    windows: Mapping[str, Window] = field(default_factory=dict)
    complete: frozenset[str] = frozenset()
    timely_us: int | None = None

    def through(self, columns: Sequence[Named], names: Sequence[str]) -> Facts:
        """Say what is known after a projection of columns called `names`."""
        to: dict[str, list[str]] = {}
        windows: dict[str, Window] = {}
        stands: dict[str, set[str]] = {}
        for column, own in zip(columns, columns_of((column.sql for column in columns), names), strict=True):
            if own is not None:
                to.setdefault(own, []).append(column.name)
                stands.setdefault(own, set()).add(column.name)
                if own in self.windows:
                    windows[column.name] = self.windows[own]
                continue
            for part in window_parts(column.sql) or ():
                if (bound := column_of(part, names)) is not None:
                    stands.setdefault(bound, set()).add(column.name)
            for start, window in self.windows.items():
                if window.plus_us and end_of(column.sql, start, window.plus_us):
                    stands.setdefault(start, set()).add(column.name)
                    windows[column.name] = replace(window, plus_us=0)
        key = None if self.key is None else tuple(frozenset().union(*(stands.get(name, ()) for name in part)) for part in self.key)
        placed = self.placed
        if isinstance(placed, tuple):
            placed = tuple(to[name][0] for name in placed) if all(name in to for name in placed) else None
        complete = {name for own in self.complete for name in (*to.get(own, ()), *(s for s in stands.get(own, ()) if s in windows))}
        return Facts(key if key is None or all(key) else None, placed, windows, frozenset(complete), self.timely_us)


@dataclass(frozen=True, slots=True)
class Step:
    """A row-wise SELECT that is called `name`: `columns` (and what rows carry besides) of `source`, the text after FROM.

    Without columns it gives what it reads, under another name.
    """

    name: str
    columns: tuple[str, ...]
    source: str
    where: str | None = None

    def sql(self, carried: Sequence[str]) -> str:
        """Write the SELECT. `carried` are columns that go on with the rows."""
        return select([*self.columns, *map(quote, carried)] if self.columns else ("*",), self.source, where=self.where)


@dataclass(frozen=True, slots=True)
class Once:
    """How rows that are repeated for each of their hopping windows would be there once.

    The step at `place` would be `step`, whose last column, `WINDOWS`, counts the row's windows; `windows` are the columns that are
    their bounds. Nothing else of the rows depends on the window.
    """

    place: int
    step: Step
    windows: frozenset[str]
    slide_us: int

    def through(self, columns: Sequence[Named], where: str | None, names: Sequence[str]) -> Once | None:
        """Say the same after a projection of columns called `names`, None if it uses a window's bounds for something else."""
        owns = list(zip(columns, columns_of((column.sql for column in columns), names), strict=True))
        texts = [column.sql for column, own in owns if own is None] + ([where] if where is not None else [])
        if self.used_in(texts):
            return None
        return replace(self, windows=frozenset(column.name for column, own in owns if own in self.windows))

    def used_in(self, texts: Sequence[str]) -> bool:
        """Tell whether a window's bounds may be named in expressions."""
        return any(name.lower() in text.lower() for text in texts for name in self.windows)


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows that a node gives, after SELECTs that are in no node yet.

    `node` gives the rows, `weighted` if it can withdraw them; each of `steps` reads those before it, the first one `INPUT`.
    `carries` names columns besides those of the schema that go on with the rows: their weight, or what a change does. `sides` are
    the relations that steps read besides. `lossless` tells that the steps make one row of each. `once` is known of rows in hopping windows.
    """

    node: str
    schema: pa.Schema
    weighted: bool
    facts: Facts = field(default_factory=Facts)
    steps: tuple[Step, ...] = ()
    sides: tuple[Side, ...] = ()
    lossless: bool = True
    label: str = "map"
    carries: tuple[str, ...] = ()
    once: Once | None = None

    @property
    def retracts(self) -> bool:
        """Rows can be withdrawn: by the node, or since what the steps read besides changes."""
        return self.weighted or bool(self.sides)

    @property
    def names(self) -> list[str]:
        return list(self.schema.names)

    @property
    def placed(self) -> Placement:
        return self.facts.placed

    def read_once(self) -> Rows:
        """Go on with a row once, not once for each of its windows, whose number is the last column, `WINDOWS`."""
        assert self.once is not None
        assert not self.carries
        place, steps = self.once.place, list(self.steps)
        steps[place] = replace(self.once.step, name=steps[place].name)
        for number in range(place + 1, len(steps)):
            if steps[number].columns:
                steps[number] = replace(steps[number], columns=(*steps[number].columns, quote(WINDOWS)))
        schema = self.schema.append(pa.field(WINDOWS, pa.int64()))
        label = ", ".join("windows" if part == "unnest" else part for part in self.label.split(", "))
        return replace(self, steps=tuple(steps), schema=schema, label=label, once=None)

    def knowing(self, **facts: object) -> Rows:
        """Go on with the same rows, of which something else is known."""
        return replace(self, facts=replace(self.facts, **facts))  # type: ignore[arg-type]  # the names are those of `Facts`

    def closing(self, among: Sequence[str] | None = None) -> tuple[str, Closing] | None:
        """Find a column (one of `among`, if given) that tells when its rows' window closes; one whose rows are complete first."""
        names = [name for name in self.windows_in_order if among is None or name in among]
        if not names:
            return None
        name = next((name for name in names if name in self.facts.complete), names[0])
        return name, self.facts.windows[name].closing(name)

    @property
    def windows_in_order(self) -> list[str]:
        return [name for name in self.names if name in self.facts.windows]


def as_named(names: Sequence[str]) -> tuple[Named, ...]:
    """Name columns as they are."""
    return tuple(Named(quote(name), name) for name in names)
