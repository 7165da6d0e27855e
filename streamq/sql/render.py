"""A whole logical plan as one DuckDB SELECT: what the plan means, for verification and tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import assert_never

from streamq.sql.logical import Block, Derived, Leaf, Named, Ordering, Query, Scan, SessionRows, Union, Whole
from streamq.sql.sessions import sessions_sql
from streamq.sql.text import name_sql

TableName = Callable[[Scan], str]
"""Gives the SQL of the table that holds a scan's relation."""


def plain_table(scan: Scan) -> str:
    """Name the relation's table as the catalog names the relation."""
    return name_sql(scan.relation)


def render_whole(query: Query, table: TableName = plain_table) -> str:
    """Write one SELECT that means the same as the plan."""
    match query:
        case Block():
            return _render_block(query, table)
        case Union():
            return _name_result(" UNION ALL ".join(f"({render_whole(branch, table)})" for branch in query.branches), query.schema.names)
        case Whole():
            return f"WITH {_leaves(query.leaves, table)} SELECT * FROM ({query.sql})" if query.leaves else query.sql
        case _:
            assert_never(query)


def _render_block(block: Block, table: TableName) -> str:
    steps = [_session_leaf(block.leaves[0], block.sessions, table)] if block.sessions is not None else []
    steps += [_leaf(leaf, table) for leaf in (*block.leaves[len(steps) :], *block.input_subqueries, *block.output_subqueries)]
    where = f" WHERE {block.where}" if block.where is not None else ""
    steps.append(f'"block inputs" AS (SELECT {_named(block.inputs)} FROM {block.from_sql}{where})')
    rows = '"block inputs"'
    if block.keys is not None:
        groups = f" GROUP BY {', '.join(key.sql for key in block.keys)}" if block.keys else ""
        calls = tuple(Named(call.sql, call.name) for call in block.calls)
        columns = _named((*block.keys, *calls)) if block.keys or calls else "count(*)"
        steps.append(f'"block groups" AS (SELECT {columns} FROM {rows}{groups})')
        rows = '"block groups"'
        if block.having is not None:
            steps.append(f'"block having" AS (SELECT * FROM {rows} WHERE {block.having})')
            rows = '"block having"'
    qualify = f" QUALIFY {block.qualify}" if block.qualify is not None else ""
    distinct = "DISTINCT " if block.distinct else ""
    steps.append(f'"block items" AS (SELECT {distinct}{_named(block.items)} FROM {rows}{qualify})')
    shown = block.items[: len(block.items) - block.hidden]
    names = ", ".join(f"{name_sql(item.name)} AS {name_sql(name)}" for item, name in zip(shown, block.schema.names, strict=True))
    return f'WITH {", ".join(steps)} SELECT {names} FROM "block items"{order_sql(block.order)}{_limit(block)}'


def render_inputs(leaves: Iterable[Leaf], subqueries: Iterable[Leaf], from_sql: str, inputs: tuple[Named, ...], table: TableName) -> str:
    """Write the SELECT of a block's inputs without its WHERE, which has no say in their types."""
    steps = ", ".join(_leaf(leaf, table) for leaf in (*leaves, *subqueries))
    return f"WITH {steps} SELECT {_named(inputs)} FROM {from_sql}"


def order_sql(order: tuple[Ordering, ...]) -> str:
    """Write ORDER BY, or nothing."""
    terms = (f'"block items".{term.sql}' for term in order)
    return f" ORDER BY {', '.join(map(_direction, terms, order))}" if order else ""


def _direction(sql: str, term: Ordering) -> str:
    return f"{sql} {'DESC' if term.descending else 'ASC'} NULLS {'FIRST' if term.nulls_first else 'LAST'}"


def _limit(block: Block) -> str:
    limit = f" LIMIT {block.limit}" if block.limit is not None else ""
    return limit + (f" OFFSET {block.offset}" if block.offset else "")


def _named(columns: tuple[Named, ...]) -> str:
    return ", ".join(f"{column.sql} AS {name_sql(column.name)}" for column in columns)


def _leaves(leaves: tuple[Leaf, ...], table: TableName) -> str:
    return ", ".join(_leaf(leaf, table) for leaf in leaves)


def _leaf(leaf: Leaf, table: TableName) -> str:
    match leaf:
        case Scan():
            columns = "*" if leaf.columns is None else ", ".join(map(name_sql, leaf.columns))
            where = f" WHERE {leaf.filter}" if leaf.filter is not None else ""
            return f"{name_sql(leaf.name)} AS (SELECT {columns} FROM {table(leaf)}{where})"
        case Derived():
            return f"{name_sql(leaf.name)} AS ({render_whole(leaf.query, table)})"
        case _:
            assert_never(leaf)


def _session_leaf(leaf: Leaf, sessions: SessionRows, table: TableName) -> str:
    return f"{name_sql(leaf.name)} AS ({sessions_sql(f'WITH {_leaf(leaf, table)} FROM {name_sql(leaf.name)}', sessions)})"


def _name_result(sql: str, names: list[str]) -> str:
    given = ", ".join(f"c{number}" for number in range(len(names)))
    shown = ", ".join(f"c{number} AS {name_sql(name)}" for number, name in enumerate(names))
    return f"SELECT {shown} FROM ({sql}) AS branches({given})"
