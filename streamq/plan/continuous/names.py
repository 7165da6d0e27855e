"""Recognises expressions that are nothing but a column, or a bound of a row's window."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from streamq.plan.render import is_value, quote

_COLUMN = re.compile(r'(?:(?:"(?P<quoted_table>(?:[^"]|"")+)"|(?P<table>\w+))\.)?(?:"(?P<quoted>(?:[^"]|"")+)"|(?P<plain>\w+))\Z')
_WINDOW = re.compile(r"\{'start': (?P<start>.+), 'end': (?P<end>.+)\}\Z", re.DOTALL)


def column_of(sql: str, names: Sequence[str]) -> str | None:
    """Tell which of the columns `names` an expression is, None if it is something else.

    Rows of several relations have columns named ``alias.column``. A qualifier that is itself a column is a struct's name.

    >>> column_of("(a)", ["a"]), column_of('t."b c"', ["b c"]), column_of("o.id", ["o.id", "c.id"]), column_of("a + 1", ["a"])
    ('a', 'b c', 'o.id', None)
    >>> column_of("NULL", ["null"]), column_of('"NULL"', ["null"])
    (None, 'null')
    """
    return columns_of([sql], names)[0]


def columns_of(sqls: Iterable[str], names: Sequence[str]) -> list[str | None]:
    """Tell of each of several expressions which of the columns `names` it is, as `column_of` does.

    >>> columns_of(["(a)", "a + 1"], ["a"])
    ['a', None]
    """
    lower = {known.lower(): known for known in names}
    return [_column_of(sql, lower) for sql in sqls]


def _column_of(sql: str, lower: Mapping[str, str]) -> str | None:
    found = _COLUMN.match(_unwrapped(sql))
    if found is None or (found["plain"] and is_value(found["plain"])):
        return None
    table = found["table"] or (found["quoted_table"] or "").replace('""', '"')
    name = found["plain"] or found["quoted"].replace('""', '"')
    if table:
        both = lower.get(f"{table}.{name}".lower())
        if both is not None or table.lower() in lower:
            return both
    return lower.get(name.lower())


def end_of(sql: str, start: str, length_us: int) -> bool:
    """Tell whether an expression is the end of the window that starts at the column `start`.

    >>> end_of("(s) + TO_MICROSECONDS(60)", "s", 60), end_of("s + TO_MICROSECONDS(61)", "s", 60)
    (True, False)
    """
    return _squeezed(sql) in {_squeezed(f"{form} + TO_MICROSECONDS({length_us})") for form in _forms(start)}


def window_parts(sql: str) -> tuple[str, str] | None:
    """Give the start and end of which a window's struct is made, None if an expression is no such struct.

    >>> window_parts("{'start': s, 'end': s + 1}")
    ('s', 's + 1')
    """
    found = _WINDOW.match(sql)
    return None if found is None else (found["start"], found["end"])


def _forms(name: str) -> list[str]:
    return [name, quote(name), f"({name})", f"({quote(name)})"]


def _unwrapped(sql: str) -> str:
    while sql.startswith("(") and sql.endswith(")"):
        sql = sql[1:-1]
    return sql


def _squeezed(sql: str) -> str:
    return _unwrapped(sql).replace(" ", "").lower()
