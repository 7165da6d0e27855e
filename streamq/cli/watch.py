"""Watches a continuous query: its result, folded from the changes, as a table that is drawn again when it has changed."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from functools import partial

import anyio
import anyio.to_thread
from rich.console import Group, RenderableType
from rich.text import Text

from streamq.cli.folded import Folded
from streamq.cli.screen import Screen
from streamq.cli.table import Excerpt, drawn, render_table
from streamq.cli.terminal import DEFAULT_ROWS, Terminal
from streamq.cli.wording import count, seconds
from streamq.execution.statistics import ContinuousStatistics, QueryStatistics
from streamq.execution.stream import QueryBatchStream
from streamq.flow.scopes import raising_one
from streamq.plan.sizes import human_bytes
from streamq.sql.order import OutputTerm

SCREEN_INTERVAL_S = 0.1
PAGE_INTERVAL_S = 1.0
"""Where nothing can be drawn over, tables follow each other at most this often."""
RATE_WINDOW_S = 2.0
_LINES_AROUND = 7
"""Lines of a terminal that a table's frame and the lines below it take."""
_ANY_WIDTH = 100_000


class Watch:
    """Shows a started query. `max_rows` None is as many rows as there is room for, 0 is all that are kept."""

    def __init__(
        self,
        stream: QueryBatchStream,
        order: Sequence[OutputTerm],
        terminal: Terminal,
        max_rows: int | None,
        write: Callable[[str], Awaitable[None]],
    ) -> None:
        kept = max(DEFAULT_ROWS, max_rows or 0, terminal.height or 0)
        self._stream = stream
        self._folded = Folded(stream.schema, stream.changelog, stream.key, order, tail_rows=kept)
        self._terminal = terminal
        self._max_rows = max_rows
        self._write = write
        self._screen = Screen(write, color=terminal.color) if terminal.in_place else None
        self._rate = Rate()
        self._shown: tuple[tuple[int, int | None], Excerpt] | None = None
        self._pages = 0
        self._epochs_shown = 0

    async def run(self) -> None:
        """Read the query to its end.

        Raises:
            StreamqError: the query failed.
            OSError: the output cannot be written.
        """
        with raising_one():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._draw_on)
                async for batch in self._stream:
                    complete = self._stream.progress.epoch_complete
                    await anyio.to_thread.run_sync(partial(self._folded.add, batch, complete=complete))
                tasks.cancel_scope.cancel()
        await self._draw(await self._stream.statistics(), last=True)

    async def _draw_on(self) -> None:
        while True:
            await anyio.sleep(PAGE_INTERVAL_S if self._screen is None else SCREEN_INTERVAL_S)
            statistics = await self._stream.statistics()
            # A service that has just ended the query says no more of it than the end of the answer, which is still to be read.
            if statistics.continuous is not None:
                await self._draw(statistics)

    async def _draw(self, statistics: QueryStatistics, *, last: bool = False) -> None:
        if self._screen is not None:
            await self._screen.show(partial(self._picture, describe_status(statistics, self._rate)))
        elif self._folded.epochs > self._epochs_shown or (last and not self._pages):
            self._pages, self._epochs_shown = self._pages + 1, self._folded.epochs
            text = await anyio.to_thread.run_sync(self._page, describe_status(statistics, self._rate))
            await self._write(("\n" if self._pages > 1 else "") + text)

    def _page(self, status: str) -> str:
        width = self._terminal.width or _ANY_WIDTH
        return drawn(self._picture(status, width, None), width=width, color=self._terminal.color)

    def _picture(self, status: str, width: int, height: int | None) -> RenderableType:
        room = DEFAULT_ROWS if height is None else max(1, height - _LINES_AROUND)
        if self._max_rows:
            room = self._max_rows if height is None else min(self._max_rows, room)
        excerpt = self._excerpt(None if self._max_rows == 0 and height is None else room)
        return Group(render_table(excerpt, width), Text(status, style="cyan", no_wrap=True, overflow="ellipsis"))

    def _excerpt(self, limit: int | None) -> Excerpt:
        """Give the rows to show, which are looked for again only when there is something new."""
        wanted = self._folded.epochs, limit
        if self._shown is None or self._shown[0] != wanted:
            self._shown = wanted, self._folded.excerpt(limit)
        return self._shown[1]


class Rate:
    """Measures rows a second, over the last moments."""

    def __init__(self, steady_s: Callable[[], float] = time.monotonic) -> None:
        self._steady_s = steady_s
        self._seen: deque[tuple[float, int]] = deque([(steady_s(), 0)])

    def of(self, rows: int) -> float:
        """Give the rows a second, now that there have been so many in all."""
        now = self._steady_s()
        self._seen.append((now, rows))
        while len(self._seen) > 2 and self._seen[1][0] <= now - RATE_WINDOW_S:
            self._seen.popleft()
        since, before = self._seen[0]
        return (rows - before) / (now - since) if now > since else 0.0


def describe_status(statistics: QueryStatistics, rate: Rate) -> str:
    """Say on one line how far a continuous query is."""
    continuous = statistics.continuous
    assert continuous is not None
    rows = continuous.total_rows_in
    parts = [f"epoch {continuous.epochs:,}", f"{count(rows, 'row')} in"]
    if statistics.outcome == "running":
        parts.append(f"{rate.of(rows):,.0f} rows/s")
    parts += [*describe_event_time(continuous), f"keeps {human_bytes(continuous.state_bytes)}"]
    if statistics.outcome != "running":
        parts.append(f"{statistics.outcome} after {seconds(statistics.elapsed_s)}")
    return " · ".join(parts)


def describe_event_time(continuous: ContinuousStatistics) -> list[str]:
    """Say where the watermark is and how many rows were late; nothing where there is no event time."""
    if not continuous.watermarks:
        return []
    late = [f"{continuous.late_rows:,} late"]
    match continuous.watermark:
        case None:
            return ["no watermark yet", *late]
        case datetime(year=9999):
            return ["all windows closed", *late]
        case watermark:
            return [f"watermark {watermark.astimezone(UTC):%Y-%m-%d %H:%M:%S}", *late]
