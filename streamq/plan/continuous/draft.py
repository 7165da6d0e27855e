"""A dataflow while it is being made: nodes, and rows that go on with SELECTs until something needs them in a node."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from streamq.plan.continuous.rows import SINGLE, Facts, Placement, Rows, Step
from streamq.plan.dataflow import INPUT, WEIGHT, Hold, LateRows, Map, Node, Read, Side, Sided
from streamq.plan.exchanges import Broadcast, Edge, Exchange, Gather, Hash, Keep, Spread
from streamq.plan.render import named, quote
from streamq.sql.catalog import CatalogView
from streamq.sql.logical import Named

Describe = Callable[[str, Mapping[str, pa.Schema]], pa.Schema]
"""Gives the Arrow schema of a SELECT over tables with these schemas, as DuckDB delivers it. No row is computed."""


@dataclass(slots=True)
class Draft:
    """Collects the nodes of one dataflow. With `final`, rows are given when nothing changes them any more."""

    catalog: CatalogView
    describe: Describe
    partitions: int
    final: bool = False
    nodes: dict[str, Node] = field(default_factory=dict)
    late: list[LateRows] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    endless: dict[str, str] = field(default_factory=dict)
    """Relations that never end and whose later changes can change the result, and what they are."""
    _wide: dict[str, frozenset[str]] = field(default_factory=dict)
    """By node, the columns that DuckDB computed as HUGEINT: Arrow has them as decimals, over which // means something else."""
    _placed: dict[str, Placement] = field(default_factory=dict)

    def because(self, reason: str) -> None:
        """Record, once, why something is done as it is."""
        if reason not in self.reasons:
            self.reasons.append(reason)

    # Nodes

    def add(self, node: Node, facts: Facts | None = None, wide: Iterable[str] = ()) -> Rows:
        """Add a node and go on with its rows."""
        assert node.id not in self.nodes, node.id
        self.nodes[node.id] = node
        facts = facts or Facts()
        self._wide[node.id] = frozenset(wide)
        self._placed[node.id] = facts.placed
        return Rows(node.id, node.schema, node.retracts, facts, carries=(WEIGHT,) if node.retracts else ())

    def wide(self, rows: Rows) -> frozenset[str]:
        """Give the columns of a node's rows that are HUGEINTs for DuckDB."""
        return self._wide[rows.node] & set(rows.names)

    def edge(self, rows: Rows, exchange: Exchange) -> Edge:
        """Bring a node's rows on."""
        assert not rows.steps
        if isinstance(exchange, Keep) and isinstance(self.nodes[rows.node], Read):
            return Edge(rows.node, Spread())
        return Edge(rows.node, exchange)

    def hashed(self, rows: Rows, columns: Sequence[str]) -> Exchange:
        """Bring rows that are equal in `columns` together; where they are already, they stay. No columns: all rows."""
        if not columns:
            return Gather()
        if isinstance(rows.placed, tuple) and rows.placed and set(rows.placed) <= set(columns):
            return Hash(rows.placed, in_place=True)
        return Hash(tuple(columns))

    def kept(self, rows: Rows) -> Exchange:
        """Leave rows in their partitions, for a node that keeps something of them.

        Of rows that can be withdrawn, columns must tell where they are, so that what is kept of them can move to where the
        withdrawals will come in another number of partitions.
        """
        assert not rows.steps
        if not rows.weighted or rows.placed == SINGLE:
            return Keep()
        if isinstance(rows.placed, tuple) and rows.placed:
            return Hash(rows.placed, in_place=True)
        return Hash(tuple(rows.names))

    # Steps

    def step(
        self,
        rows: Rows,
        columns: Sequence[Named],
        *,
        source: str | None = None,
        where: str | None = None,
        name: str | None = None,
        lossless: bool = True,
        label: str = "",
        facts: Facts | None = None,
        sides: Sequence[Side] = (),
    ) -> Rows:
        """Go on with a row-wise SELECT over the rows. `source` is its FROM, where it is not the rows as they are called now."""
        started = self.opened(rows)
        step = Step(name or f"{label or 'rows'} {len(started.steps) + 1}", named(columns), source or quote(self.source(rows)), where)
        stepped = replace(
            rows,
            steps=(*started.steps, step),
            sides=(*rows.sides, *(side for side in sides if side not in rows.sides)),
            lossless=rows.lossless and lossless and where is None,
            label=_joined(rows.label, label),
            once=None if rows.once is None else rows.once.through(columns, where, rows.names),
        )
        return replace(
            stepped,
            schema=self._schema_of(stepped),
            facts=facts if facts is not None else rows.facts.through(columns, rows.names),
        )

    def called(self, rows: Rows, name: str) -> Rows:
        """Go on with the same rows as the table `name`."""
        opened = self.opened(rows)
        if opened.steps:
            return replace(opened, steps=(*opened.steps[:-1], replace(opened.steps[-1], name=name)))
        return replace(rows, steps=(Step(name, (), quote(INPUT)),))

    def source(self, rows: Rows) -> str:
        """Name the table that the next SELECT reads."""
        opened = self.opened(rows)
        return opened.steps[-1].name if opened.steps else INPUT

    def opened(self, rows: Rows) -> Rows:
        """Begin with DuckDB's own types where Arrow changed them."""
        wide = self.wide(rows)
        if rows.steps or not wide:
            return rows
        # All by name: the time that DuckDB takes for SELECT * REPLACE goes with the square of the columns.
        columns = [Named(f"CAST({quote(name)} AS HUGEINT)" if name in wide else quote(name), name) for name in rows.names]
        return replace(rows, steps=(Step("typed", named(columns), quote(INPUT)),))

    # From steps to nodes

    def settled(self, rows: Rows, path: str) -> Rows:
        """Put the steps into a node, if there are any."""
        if not rows.steps:
            return rows
        sql = self.sql_of(rows)
        facts, source = rows.facts, self.nodes[rows.node]
        base = Rows(source.id, source.schema, source.retracts, Facts(placed=self._placed[source.id]))
        node: Node
        if rows.sides:
            exchange = self.kept(base)
            if isinstance(exchange, Hash) and not exchange.in_place:
                facts = replace(facts, placed=None)
            node = Sided(f"{path}/map", self.edge(base, exchange), rows.sides, sql, rows.schema, True, label=rows.label)
        else:
            node = Map(f"{path}/map", self.edge(base, Keep()), sql, rows.schema, rows.retracts, label=rows.label)
        return self.add(node, facts, self.wide_of(sql, self.inputs_of(rows), rows.schema))

    def sql_of(self, rows: Rows) -> str:
        """Write the steps as one SELECT over `INPUT`."""
        *before, last = rows.steps
        if not before:
            return last.sql(rows.carries)
        views = ",\n".join(f"{quote(step.name)} AS (\n{textwrap.indent(step.sql(rows.carries), '  ')}\n)" for step in before)
        return f"WITH {views}\n{last.sql(rows.carries)}"

    def inputs_of(self, rows: Rows) -> dict[str, pa.Schema]:
        """Give the tables that the steps read."""
        base = self.nodes[rows.node]
        return {INPUT: weighted(base.schema, base.retracts)} | {side.name: self.nodes[side.edge.node].schema for side in rows.sides}

    def _schema_of(self, rows: Rows) -> pa.Schema:
        described = self.describe(self.sql_of(rows), self.inputs_of(rows))
        return pa.schema([field for field in described if field.name not in rows.carries])

    def wide_of(self, sql: str, inputs: Mapping[str, pa.Schema], schema: pa.Schema) -> frozenset[str]:
        """Find the columns of a SELECT that are HUGEINTs: integer division keeps them as they are, and makes decimals floats."""
        maybe = [name for name in schema.names if schema.field(name).type == pa.decimal128(38, 0)]
        if not maybe:
            return frozenset()
        divided = ", ".join(f"{quote(name)} // 1 AS {quote(name)}" for name in maybe)
        described = self.describe(f"SELECT {divided} FROM ({sql})", inputs)
        return frozenset(field.name for field in described if pa.types.is_decimal(field.type))

    # Windows that are to be complete

    def held(self, rows: Rows, path: str, column: str, by: Sequence[str] = ()) -> Rows:
        """Let rows wait until the window that `column` tells has closed, unless they did already. `by` is what they are hashed by."""
        rows = self.settled(rows, path)
        if column in rows.facts.complete:
            return rows
        exchange = self.hashed(rows, by) if by else self.kept(rows)
        node = Hold(f"{path}/hold", self.edge(rows, exchange), rows.facts.windows[column].closing(column), rows.schema)
        placed = exchange.columns if isinstance(exchange, Hash) else rows.placed
        origin = rows.facts.windows[column].origin
        complete = frozenset(name for name, window in rows.facts.windows.items() if window.origin == origin)
        return self.add(node, rows.facts, self.wide(rows)).knowing(placed=placed, complete=rows.facts.complete | complete)

    def side(self, rows: Rows, name: str, path: str) -> Side:
        """Give all rows to every partition, as the table `name`."""
        return Side(self.edge(self.settled(rows, path), Broadcast()), name)


def weighted(schema: pa.Schema, retracts: bool) -> pa.Schema:
    """Give the schema in which SQL reads rows."""
    return pa.schema([*schema, pa.field(WEIGHT, pa.int64())]) if retracts else schema


def _joined(label: str, more: str) -> str:
    parts = [part for part in label.split(", ") if part != "map"]
    return ", ".join([*parts, *([more] if more and more not in parts else [])]) or "map"
