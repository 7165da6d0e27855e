"""Draws text on a terminal in place: what comes next takes the place of what was there."""

from __future__ import annotations

import shutil
from collections.abc import Awaitable, Callable

import anyio.to_thread
from rich.cells import cell_len
from rich.console import RenderableType
from rich.text import Text

from streamq.cli.table import drawn

_CLEAR_LINE, _CLEAR_BELOW = "\x1b[K", "\x1b[J"
Size = tuple[int, int]
"""Columns and lines of a terminal."""


class Screen:
    """The lines of a terminal from the cursor on. What was drawn last stays there.

    `write` writes text to the terminal.
    """

    def __init__(
        self, write: Callable[[str], Awaitable[None]], *, color: bool, size: Callable[[], Size] = shutil.get_terminal_size
    ) -> None:
        self._write = write
        self._color = color
        self._size = size
        self._lines: list[str] = []

    async def show(self, draw: Callable[[int, int], RenderableType]) -> None:
        """Draw a picture over the last one. `draw` is given the room there is: what has been scrolled away cannot be drawn over."""
        width, height = self._size()
        # Off the event loop: choosing the rows to show of a large result takes time.
        text = await anyio.to_thread.run_sync(lambda: drawn(draw(width, height - 1), width=width, color=self._color))
        lines = text.splitlines()[: height - 1]
        over = over_lines(self._lines, width)
        self._lines = [Text.from_ansi(line).plain for line in lines]
        up = f"\x1b[{over}F" if over else ""
        await self._write(up + "".join(f"{line}{_CLEAR_LINE}\n" for line in lines) + _CLEAR_BELOW)


def over_lines(lines: list[str], width: int) -> int:
    """Tell how many lines of a terminal this `width` a text takes, which may have been drawn when the terminal was wider.

    >>> over_lines(["abc", "abcdefg", ""], 5)
    4
    """
    return sum(max(1, -(-cell_len(line) // width)) for line in lines)
