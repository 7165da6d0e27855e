"""Where something is in a text: offsets become lines and columns as editors and `SqlError` count them."""

from __future__ import annotations


def place(text: str, offset: int) -> tuple[int, int]:
    """Give line and column, both from 1, of the character at `offset`; one past the end is the place after the last one.

    >>> place("select a,\\n  nope", 12)
    (2, 3)
    """
    lines = (text[:offset] + "^").splitlines()
    return len(lines), len(lines[-1])
