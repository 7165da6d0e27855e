"""Finds out where output goes, and how much of it fits there."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass

DEFAULT_ROWS = 40
"""Rows of a table that is not shown on a terminal."""
_LINES_AROUND = 9
"""Lines of a terminal that a table's frame, the note below it and the next prompt take."""


@dataclass(frozen=True, slots=True)
class Terminal:
    """What standard output is: `width` and `height` are None where it is no terminal. `in_place`: what is there can be drawn over."""

    width: int | None
    height: int | None
    color: bool
    in_place: bool = False

    def row_limit(self, max_rows: int | None) -> int | None:
        """Give how many rows a table shows: `max_rows`, where 0 is all (None), and None is as there is room.

        >>> Terminal(80, 50, True).row_limit(None), Terminal(None, None, False).row_limit(0)
        (41, None)
        """
        if max_rows is not None:
            return max_rows or None
        return DEFAULT_ROWS if self.height is None else max(self.height - _LINES_AROUND, 5)


def find_terminal(color: bool | None) -> Terminal:
    """Find out what standard output is. `color` None is as the terminal and ``NO_COLOR`` in the environment say."""
    if not sys.stdout.isatty():
        return Terminal(None, None, color=bool(color))
    size = shutil.get_terminal_size()
    dumb = os.environ.get("TERM") == "dumb"
    plain = bool(os.environ.get("NO_COLOR")) or dumb
    return Terminal(size.columns, size.lines, color=not plain if color is None else color, in_place=not dumb)
