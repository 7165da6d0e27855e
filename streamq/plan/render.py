"""Writes the SELECTs of fragments from their parts.

Text goes one way: expressions that the logical plan has are put into new SELECTs, in parentheses where they meet others.
No SQL is ever searched, split or replaced here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypedDict

from streamq.sql.logical import Named, Ordering

LINE = 90
"""Lists of columns that are longer get a line each."""


def quote(name: str) -> str:
    """Write a name as an identifier.

    >>> print(quote("orders#1"), quote('a "b" c'))
    "orders#1" "a ""b"" c"
    """
    return '"' + name.replace('"', '""') + '"'


def plain(name: str) -> str:
    """Write a column's name for people: without what sets columns apart that binding has added.

    >>> plain("customer_id"), plain("session#customer_id")
    ('customer_id', 'customer_id')
    """
    return name.rpartition("#")[2]


def is_name(sql: str, name: str) -> bool:
    """Tell whether an expression is nothing but a name.

    >>> is_name("a", "a"), is_name('"a"', "a"), is_name("a + 1", "a"), is_name("1", "1"), is_name('"1"', "1")
    (True, True, False, False, True)
    """
    return sql == quote(name) or (sql == name and not is_value(sql))


def is_value(word: str) -> bool:
    """Tell whether a word without quotes is a value, and no name even where something is called so.

    >>> [is_value(word) for word in ("a", "1", "NULL", "timestamp")]
    [False, True, True, False]
    """
    return word[0].isdecimal() or word.lower() in ("null", "true", "false")


def named(columns: Iterable[Named]) -> tuple[str, ...]:
    """Write expressions with the names they get."""
    return tuple(f"{column.sql} AS {quote(column.name)}" for column in columns)


def direction(term: Ordering) -> str:
    """Write a term's direction as `create_sort_key` and ORDER BY want it."""
    return f"{'DESC' if term.descending else 'ASC'} NULLS {'FIRST' if term.nulls_first else 'LAST'}"


def string(text: str) -> str:
    """Write a text constant."""
    return "'" + text.replace("'", "''") + "'"


class Clauses(TypedDict, total=False):
    """What a SELECT may have besides its columns and FROM; see `select`."""

    distinct: bool
    where: str | None
    group_by: int
    qualify: str | None
    order_by: Sequence[str]
    limit: int | None
    offset: int


def select(
    columns: Sequence[str] = ("*",),
    source: str | None = None,
    *,
    distinct: bool = False,
    where: str | None = None,
    group_by: int = 0,
    qualify: str | None = None,
    order_by: Sequence[str] = (),
    limit: int | None = None,
    offset: int = 0,
) -> str:
    """Write a SELECT, a clause a line. `source` is the text after FROM; `group_by` counts the leading columns that are keys.

    Keys are named by position, so that neither an alias nor a constant among them can be read as something else.

    >>> print(select(["a AS k", "sum(b) AS s"], '"t"', where="b > 1", group_by=1))
    SELECT a AS k, sum(b) AS s
    FROM "t"
    WHERE b > 1
    GROUP BY 1
    """
    comma = ", " if sum(map(len, columns)) <= LINE else ",\n       "
    lines = [f"SELECT {'DISTINCT ' if distinct else ''}{comma.join(columns)}"]
    if source is not None:
        lines.append(f"FROM {source}")
    if where is not None:
        lines.append(f"WHERE {where}")
    if group_by:
        lines.append(f"GROUP BY {', '.join(str(position) for position in range(1, group_by + 1))}")
    if qualify is not None:
        lines.append(f"QUALIFY {qualify}")
    if order_by:
        lines.append(f"ORDER BY {', '.join(order_by)}")
    if limit is not None:
        lines.append(f"LIMIT {limit}")
    if offset:
        lines.append(f"OFFSET {offset}")
    return "\n".join(lines)


def union_all(names: Iterable[str]) -> str:
    """Write the bag union of relations whose columns have one order.

    >>> print(union_all(["a", "b"]))
    FROM "a"
    UNION ALL
    FROM "b"
    """
    return "\nUNION ALL\n".join(f"FROM {quote(name)}" for name in names)


def partition_number(expressions: Sequence[str], count: int) -> str:
    """Write the partition, in 0 ≤ p < `count`, of a row: equal values meet in one, NULLs too.

    >>> partition_number(["CAST(k AS BIGINT)"], 4)
    'CAST(hash(CAST(k AS BIGINT)) % 4 AS INTEGER)'
    """
    return f"CAST(hash({', '.join(expressions)}) % {count} AS INTEGER)"
