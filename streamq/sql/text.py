"""SQL text from syntax trees: the one place where this package's rewritten trees become DuckDB SQL."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import count
from typing import cast

from sqlglot import exp

from streamq.sql.dialect import generate

_RESERVED = frozenset(
    """
    all analyse analyze and anti any array as asc asof asymmetric at authorization between bigint binary bit boolean both by case
    cast char character check coalesce collate collation column columns concurrently constraint create cross dec decimal default
    deferrable desc describe distinct do else end except exists extract false fetch float for foreign freeze from full generated
    glob grant group grouping grouping_id having ilike in initially inner inout int integer intersect interval into is isnull join
    lambda lateral leading left like limit map national natural nchar none not notnull null nullif numeric offset on only or order
    out outer overlaps overlay pivot pivot_longer pivot_wider placing position positional precision primary qualify real
    references returning right row select semi setof show similar smallint some struct substring summarize symmetric table
    tablesample then time timestamp to trailing treat trim true try_cast unique unpivot union unnest user using values varchar
    variadic verbose when where window with xmlattributes
    """.split()  # noqa: SIM905
)


def identifier(name: str) -> exp.Identifier:
    """Make an identifier that is quoted where DuckDB needs it.

    >>> identifier("amount").sql(), identifier("order").sql(), identifier("orders#1").sql()
    ('amount', '"order"', '"orders#1"')
    """
    return exp.Identifier(this=name, quoted=_needs_quotes(name))


def name_sql(name: str) -> str:
    """Write a name, quoted where DuckDB needs it.

    >>> name_sql("amount"), name_sql("order"), name_sql("two words")
    ('amount', '"order"', '"two words"')
    """
    return '"' + name.replace('"', '""') + '"' if _needs_quotes(name) else name


def _needs_quotes(name: str) -> bool:
    return not (name.isascii() and name.isidentifier()) or name.lower() in _RESERVED


def column(name: str, table: str | None = None) -> exp.Column:
    """Make a column reference."""
    return exp.Column(this=identifier(name), table=identifier(table) if table is not None else None)


def sql_of(node: exp.Expr) -> str:
    """Write a tree as DuckDB SQL on one line."""
    # sqlglot's types tell nodes of two bases apart; every node of a parsed tree has both.
    return generate(cast(exp.Expression, node))


def unique_names(names: list[str]) -> list[str]:
    """Number the names that repeat, whatever their case.

    >>> unique_names(["a", "b", "A", "a_1"])
    ['a', 'b', 'A_2', 'a_1']
    """
    taken = {name.lower() for name in names}
    seen: set[str] = set()
    # From where on numbers may be free: those before are taken, and stay so.
    numbers: dict[str, Iterator[int]] = defaultdict(lambda: count(1))
    unique = []
    for name in names:
        if name.lower() in seen:
            name = next(f"{name}_{n}" for n in numbers[name.lower()] if f"{name}_{n}".lower() not in taken)
        seen.add(name.lower())
        taken.add(name.lower())
        unique.append(name)
    return unique
