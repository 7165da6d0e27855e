"""A small interpreter of dataflows for tests: every node's whole result, in every partition, by plain DuckDB over its whole inputs.

It keeps no state and knows no epochs: what a dataflow has given after all rows is what it gives for all rows at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import assert_never

import duckdb
import pyarrow as pa

from streamq.plan.dataflow import (
    GROUP,
    INPUT,
    OP,
    WEIGHT,
    WINDOWS,
    Aggregate,
    Dataflow,
    Distinct,
    First,
    Hold,
    Hop,
    Join,
    Lookup,
    Map,
    Node,
    Read,
    Recompute,
    Sessions,
    Sided,
    TopN,
    Union,
    edges,
)
from streamq.plan.exchanges import Broadcast, Edge, Gather, Hash, Keep, Spread
from streamq.plan.render import direction, quote

Parts = list[pa.Table]


class Reference:
    """Runs dataflows over tables, with DuckDB."""

    def __init__(self) -> None:
        self.connection = duckdb.connect(config={"threads": 1})
        self.connection.execute("SET python_enable_replacements = false; SET TimeZone = 'UTC'")
        self._given: dict[str, pa.Table] = {}
        self._described: dict[tuple[str, tuple[tuple[str, pa.Schema], ...]], pa.Schema] = {}

    def describe(self, sql: str, inputs: Mapping[str, pa.Schema]) -> pa.Schema:
        """Give the schema of a SELECT over empty tables."""
        asked = sql, tuple(inputs.items())
        if asked not in self._described:
            self._described[asked] = self.run(sql, {name: schema.empty_table() for name, schema in inputs.items()}).schema
        return self._described[asked]

    def run(self, sql: str, tables: Mapping[str, pa.Table]) -> pa.Table:
        """Run a SELECT over tables."""
        for name in self._given.keys() - tables.keys():
            self.connection.unregister(name)
            del self._given[name]
        for name, table in tables.items():
            if self._given.get(name) is not table:
                self.connection.register(name, table)
                self._given[name] = table
        return self.connection.sql(sql).to_arrow_table()

    def result(self, dataflow: Dataflow, relations: Mapping[str, pa.Table], partitions: int) -> pa.Table:
        """Give what folding all changes of a dataflow gives."""
        done: dict[str, tuple[Node, Parts]] = {}
        for node in dataflow.nodes:
            parts = self._node(node, done, relations, partitions)
            for part in parts:
                assert part.schema.names == node.schema.names, (node.id, part.schema, node.schema)
                assert part.schema.types == node.schema.types, (node.id, part.schema, node.schema)
            done[node.id] = node, parts
        node, parts = done[dataflow.output]
        rows = pa.concat_tables(parts)
        return rows.drop_columns([OP]) if OP in rows.column_names and dataflow.ready else rows

    def _node(self, node: Node, done: Mapping[str, tuple[Node, Parts]], relations: Mapping[str, pa.Table], partitions: int) -> Parts:
        if isinstance(node, Read):
            table = relations[node.scan.relation].select(node.schema.names).cast(node.schema)
            ends = [n * len(table) // partitions for n in range(partitions + 1)]
            return [table.slice(first, last - first) for first, last in pairwise(ends)]
        inputs = [self._brought(edge, *done[edge.node], partitions) for edge in edges(node)]
        retracts = [done[edge.node][0].retracts for edge in edges(node)]
        first = not inputs or any(isinstance(edge.exchange, Gather) for edge in edges(node))
        parts = []
        for number in range(partitions):
            given = [part[number] for part in inputs]
            if number and first and isinstance(node, Recompute | Aggregate):
                assert not any(len(table) for table in given)
                parts.append(node.schema.empty_table())
            else:
                parts.append(self._instance(node, given, retracts))
        return parts

    def _brought(self, edge: Edge, node: Node, parts: Parts, partitions: int) -> Parts:
        """Exchange rows. What is said to be in place must be."""
        whole = pa.concat_tables(parts)
        match edge.exchange:
            case Keep():
                assert not isinstance(node, Read), "what is read has to be spread"
                return parts
            case Spread():
                assert isinstance(node, Read)
                return parts
            case Gather():
                return [whole, *(whole.slice(0, 0) for _ in range(partitions - 1))]
            case Broadcast():
                return [whole] * partitions
            case Hash(columns, True):
                seen: dict[object, int] = {}
                for number, part in enumerate(parts):
                    for key in _keys(part, columns):
                        assert seen.setdefault(key, number) == number, (node.id, columns, "is not in place")
                return parts
            case Hash(columns):
                owners = [hash(key) % partitions for key in _keys(whole, columns)]
                return [whole.filter(pa.array([owner == n for owner in owners], pa.bool_())) for n in range(partitions)]
            case _:
                assert_never(edge.exchange)

    def _instance(self, node: Node, inputs: Sequence[pa.Table], retracts: Sequence[bool]) -> pa.Table:
        match node:
            case Map():
                return self._weighted(node.sql, inputs[0], retracts[0], {})
            case Sided():
                sides = {side.name: table for side, table in zip(node.sides, inputs[1:], strict=True)}
                return self._weighted(node.sql, inputs[0], retracts[0], sides)
            case Union():
                return pa.concat_tables([table.rename_columns(node.schema.names) for table in inputs])
            case Aggregate():
                return self._aggregate(node, inputs[0])
            case Hop():
                return self._hop(node, inputs[0])
            case Recompute():
                return self._recompute(node, inputs)
            case Distinct():
                return self.run(f"SELECT DISTINCT * FROM {quote(INPUT)}", {INPUT: inputs[0]})
            case Join() | Lookup():
                return self._join(node, *inputs)
            case TopN():
                terms = ", ".join(f"{term.sql} {direction(term)}" for term in node.order)
                return self.run(f"FROM {quote(INPUT)} ORDER BY {terms} LIMIT {node.limit} OFFSET {node.offset}", {INPUT: inputs[0]})
            case First():
                return inputs[0].slice(node.offset, node.limit)
            case Sessions():
                return self._sessions(node, inputs[0])
            case Hold():
                return inputs[0]
            case Read():
                raise AssertionError
            case _:
                assert_never(node)

    def _weighted(self, sql: str, table: pa.Table, retracts: bool, sides: Mapping[str, pa.Table]) -> pa.Table:
        if retracts:
            table = table.append_column(WEIGHT, pa.array([1] * len(table), pa.int64()))
        given = self.run(sql, {INPUT: table, **sides})
        assert (WEIGHT in given.column_names) == retracts
        return given.drop_columns([WEIGHT]) if retracts else given

    def _aggregate(self, node: Aggregate, table: pa.Table) -> pa.Table:
        calls = [f"{_call(call.function, call.argument)} AS {quote(call.name)}" for call in node.calls]
        op = [f"'insert' AS {quote(OP)}"] if node.emit == "changelog" else []
        group = f" GROUP BY {', '.join(map(quote, node.keys))}" if node.keys else ""
        return self.run(f"SELECT {', '.join([*map(quote, node.keys), *calls, *op])} FROM {quote(INPUT)}{group}", {INPUT: table})

    def _hop(self, node: Hop, table: pa.Table) -> pa.Table:
        """Repeat every row for its windows, then group."""
        moved = [f"{quote(bound)} + to_microseconds(hop * {node.slide_us}) AS {quote(bound)}" for bound in node.bounds]
        repeated = f"SELECT * REPLACE ({', '.join(moved)}) FROM {quote(INPUT)}, range({quote(WINDOWS)}) AS hops(hop)"
        calls = [f"{_call(call.function, call.argument)} AS {quote(call.name)}" for call in node.calls]
        keys = [quote(key) for key in node.keys]
        return self.run(f"SELECT {', '.join([*keys, *calls])} FROM ({repeated}) GROUP BY {', '.join(keys)}", {INPUT: table})

    def _recompute(self, node: Recompute, inputs: Sequence[pa.Table]) -> pa.Table:
        """Run the SQL for every key on its own."""
        if not node.keys[0]:
            return self._sql(node, inputs)
        keys = [_keys(table, names) for table, names in zip(inputs, node.keys, strict=True)]
        loose = [(n, row) for n, part in enumerate(keys) for row, key in enumerate(part) if not node.null_matches and None in key]
        alone = {place: ("alone", *place) for place in loose}
        marks = [[alone.get((n, row), key) for row, key in enumerate(part)] for n, part in enumerate(keys)]
        found = [node.schema.empty_table()]
        for mark in dict.fromkeys(mark for part in marks for mark in part):
            chosen = [
                table.filter(pa.array([mark == other for other in part], pa.bool_())) for table, part in zip(inputs, marks, strict=True)
            ]
            found.append(self._sql(node, chosen))
        return pa.concat_tables(found)

    def _sql(self, node: Recompute, inputs: Sequence[pa.Table]) -> pa.Table:
        given = self.run(node.sql, dict(zip(node.names, inputs, strict=True)))
        groups = [f"{GROUP}{number}" for number in range(1, len(node.keys[0]) + 1)] if node.grouped else []
        assert given.column_names == [*node.schema.names, *groups]
        return given.drop_columns(groups) if groups else given

    def _join(self, node: Join | Lookup, left: pa.Table, right: pa.Table) -> pa.Table:
        left_keys, right_keys = _keys(left, node.left_keys), _keys(right, node.right_keys)
        pairs = [(a, b) for a, x in enumerate(left_keys) for b, y in enumerate(right_keys) if x == y and None not in x]
        if node.residual is not None and pairs:
            columns = [*left.take([a for a, _ in pairs]).columns, *right.take([b for _, b in pairs]).columns]
            names = [*left.column_names, *right.column_names, "#pair"]
            candidates = pa.table([*columns, pa.array(range(len(pairs)), pa.int64())], names=names)
            matching = set(self.run(node.residual, {INPUT: candidates}).column(0).to_pylist())
            pairs = [pair for number, pair in enumerate(pairs) if number in matching]
        left_matched, right_matched = {a for a, _ in pairs}, {b for _, b in pairs}
        left_alone = [a for a in range(len(left)) if a not in left_matched]
        if node.kind in ("semi", "anti"):
            return left.take(pa.array(sorted(left_matched) if node.kind == "semi" else left_alone, pa.int64()))
        taken: list[tuple[int | None, int | None]] = list(pairs)
        if node.kind in ("left", "full"):
            taken += [(a, None) for a in left_alone]
        if node.kind in ("right", "full"):
            taken += [(None, b) for b in range(len(right)) if b not in right_matched]
        columns = [
            *left.take(pa.array([a for a, _ in taken], pa.int64())).columns,
            *right.take(pa.array([b for _, b in taken], pa.int64())).columns,
        ]
        return pa.table(columns, schema=node.schema)

    def _sessions(self, node: Sessions, table: pa.Table) -> pa.Table:
        keys = ", ".join(map(quote, node.keys))
        over = f"OVER ({f'PARTITION BY {keys} ' if keys else ''}ORDER BY {quote(node.time)}"
        group = f"OVER (PARTITION BY {f'{keys}, ' if keys else ''}session)"
        sql = f"""
            WITH marked AS (SELECT *, CASE WHEN epoch_us({quote(node.time)}) - lag(epoch_us({quote(node.time)})) {over}) <= {node.gap_us}
                THEN 0 ELSE 1 END AS opens FROM {quote(INPUT)}),
            numbered AS (SELECT *, sum(opens) {over}) AS session FROM marked)
            SELECT {", ".join(map(quote, table.column_names))}, min({quote(node.time)}) {group} + to_microseconds(0) AS {quote(node.start)},
                max({quote(node.time)}) {group} + to_microseconds({node.gap_us}) AS {quote(node.end)} FROM numbered"""
        return self.run(sql, {INPUT: table})


def _call(function: str, argument: str | None) -> str:
    return "count(*)" if argument is None else f"{function}({quote(argument)})"


def _keys(table: pa.Table, columns: Sequence[str]) -> list[tuple[object, ...]]:
    """Give every row's key as values that can be compared."""
    values = [[_hashable(value) for value in table.column(name).to_pylist()] for name in columns]
    return list(zip(*values, strict=True)) if columns else [()] * len(table)


def _hashable(value: object) -> object:
    if isinstance(value, list):
        return tuple(map(_hashable, value))
    if isinstance(value, dict):
        return tuple((name, _hashable(part)) for name, part in value.items())
    return "NaN" if value != value else value
