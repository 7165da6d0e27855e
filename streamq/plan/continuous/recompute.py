"""The general exact way: SQL over all rows of the keys that an epoch touches, or over all rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from streamq.plan.continuous.draft import Draft
from streamq.plan.continuous.rows import SINGLE, Facts, Rows
from streamq.plan.dataflow import GROUP, Closing, Recompute
from streamq.plan.exchanges import Gather, Hash
from streamq.plan.render import quote, select
from streamq.sql.logical import Named

Table = tuple[str, Rows]
"""Rows, and the name of the table as which SQL reads them."""


def recompute(
    draft: Draft,
    path: str,
    tables: Sequence[Table],
    sql: str,
    *,
    keys: Sequence[Sequence[str]] | None = None,
    by: Sequence[Sequence[str]] | None = None,
    facts: Facts | None = None,
    null_matches: bool = True,
    once: bool = False,
    closing: Closing | None = None,
    grouped: bool = False,
    label: str = "recompute",
) -> Rows:
    """Run SQL over complete rows. `keys` are the key columns of every table, None to gather all rows; `by` those they are hashed by.

    With `once`, all rows of a key come in one epoch. `grouped` tells that the SQL gives the key behind the other columns.
    """
    settled = [
        draft.settled(rows, f"{path}/{number}" if len(tables) > 1 else f"{path}/input") for number, (_, rows) in enumerate(tables, 1)
    ]
    names, sql = _typed(draft, [name for name, _ in tables], settled, sql)
    by = by or keys
    exchanges = [Gather() if by is None or not by[n] else _exchange(draft, rows, by[n], len(tables)) for n, rows in enumerate(settled)]
    inputs = {name: rows.schema for name, rows in zip(names, settled, strict=True)}
    schema = pa.schema([field for field in draft.describe(sql, inputs) if not (grouped and field.name.startswith(GROUP))])
    node = Recompute(
        id=path,
        inputs=tuple(draft.edge(rows, exchange) for rows, exchange in zip(settled, exchanges, strict=True)),
        names=names,
        keys=tuple(tuple(part) for part in keys) if keys is not None else tuple(() for _ in tables) or ((),),
        sql=sql,
        schema=schema,
        retracts=not once,
        once=once,
        null_matches=null_matches,
        closing=closing,
        label=label,
        grouped=grouped,
    )
    facts = facts or Facts()
    if not exchanges or isinstance(exchanges[0], Gather):
        facts = replace(facts, placed=SINGLE)
    return draft.add(node, facts, draft.wide_of(sql, inputs, schema))


def group_columns(keys: Sequence[str]) -> list[Named]:
    """Name the columns by which grouped SQL says the key of a row."""
    return [Named(quote(key), f"{GROUP}{number}") for number, key in enumerate(keys, 1)]


def _exchange(draft: Draft, rows: Rows, columns: Sequence[str], tables: int) -> Gather | Hash:
    """Hash rows by columns. Several tables meet only where all of them are hashed by the same."""
    if tables == 1:
        exchange = draft.hashed(rows, columns)
        assert isinstance(exchange, Gather | Hash)
        return exchange
    return Hash(tuple(columns), in_place=rows.placed == tuple(columns))


def _typed(draft: Draft, names: Sequence[str], tables: Sequence[Rows], sql: str) -> tuple[tuple[str, ...], str]:
    """Give columns that Arrow changed DuckDB's own type again, before the SQL reads them."""
    views: list[str] = []
    given = list(names)
    for number, rows in enumerate(tables):
        wide = [name for name in rows.names if name in draft.wide(rows)]
        if wide:
            given[number] = f"{names[number]} as arrow"
            casts = ", ".join(f"CAST({quote(name)} AS HUGEINT) AS {quote(name)}" for name in wide)
            views.append(f"{quote(names[number])} AS ({select((f'* REPLACE ({casts})',), quote(given[number]))})")
    if not views:
        return tuple(given), sql
    return tuple(given), f"WITH {', '.join(views)}\nSELECT * FROM (\n{sql}\n)"
