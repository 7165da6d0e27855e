"""Texts that are nested more deeply than the functions can go that walk what they say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from streamq.errors import SqlSyntaxError


@contextmanager
def bounded_depth(sql: str | None) -> Iterator[None]:
    """Make it an error of the text `sql` if what is done with it, in plain functions, goes too deep.

    Raises:
        SqlSyntaxError: it does.
    """
    try:
        yield
    except RecursionError:
        raise SqlSyntaxError("the text is nested too deeply", sql=sql, hint="split the query into CTEs or views") from None
