"""How the demonstration looks: a section for each query, as wide as the terminal has room."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence

import anyio.to_thread
from rich.box import ROUNDED
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.rule import Rule
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from streamq.cli.demo_steps import Step
from streamq.cli.screen import Screen
from streamq.cli.sink import STDOUT_FD, FdSink
from streamq.cli.table import Excerpt, drawn, render_table
from streamq.cli.terminal import Terminal
from streamq.cli.wording import count, seconds
from streamq.plan.explain import StageRun

WIDTH = 100
"""Wide enough for every table of the demonstration; in a narrower terminal, tables show fewer columns."""
INDENT = 2
BAR = 36
"""Characters of a bar that stands for as much as the largest."""


class Page:
    """Writes sections to standard output.

    Raises (from every method):
        BrokenPipeError: nobody reads standard output any more.
    """

    def __init__(self, terminal: Terminal) -> None:
        self._width = min(terminal.width or WIDTH, WIDTH)
        self._color = terminal.color
        self._sink = FdSink(STDOUT_FD)
        self._sections = 0
        self._screen = Screen(self._write, color=terminal.color) if terminal.in_place else None

    async def show_header(self, *lines: str) -> None:
        """Begin the page."""
        await self._show(Panel(Group(*lines), title=Text("streamq", style="bold"), title_align="left", box=ROUNDED, style="cyan"))

    async def show_footer(self, *lines: str) -> None:
        """End the page."""
        await self._show("", Rule(style="cyan"), *(Text(line, style="bold") for line in lines))

    async def show_step(
        self, step: Step, excerpt: Excerpt | None, facts: Iterable[tuple[str, str]], *, shares: StageRun | None = None
    ) -> None:
        """Show a query with its answer, what ran, and if asked for what each worker had of it."""
        answer = () if excerpt is None else (render_table(excerpt, self._width - INDENT), "")
        bars = () if shares is None else (_bars(shares),)
        await self._show_section(step, *answer, _facts(facts), *bars)

    async def show_text(self, step: Step, text: str) -> None:
        """Show a query with a text about it."""
        await self._show_section(step, Text("\n".join(wrap_lines(text.rstrip("\n"), self._width - INDENT))))

    @property
    def in_place(self) -> bool:
        """Whether a picture can be drawn over the last one."""
        return self._screen is not None

    async def show_live_intro(self, title: str, remark: str, sources: Iterable[str], queries: Iterable[Step]) -> None:
        """Begin the live part: the sources, and the queries that follow them."""
        parts: list[RenderableType] = []
        for step in queries:
            parts += ["", Text(f"{step.title}. {step.remark}", style="italic"), "", _sql(step.sql)]
        await self._show_body(title, Text(remark, style="italic"), "", _sql(";\n".join(sources)), *parts)
        if self._screen is not None:
            await self._show("")

    async def show_picture(self, draw: Callable[[int], RenderableType]) -> None:
        """Draw a picture as wide as there is room: over the last one if that can be, else below it."""
        margin = (0, 0, 0, INDENT)
        if self._screen is None:
            await self._show("", Padding(draw(self._width - INDENT), margin))
        else:
            await self._screen.show(lambda width, _: Padding(draw(min(width, WIDTH) - INDENT), margin))

    async def show_facts(self, facts: Iterable[tuple[str, str]]) -> None:
        """Show facts about what was drawn last."""
        await self._show("", Padding(_facts(facts), (0, 0, 0, INDENT)))

    async def _show_section(self, step: Step, *parts: RenderableType) -> None:
        await self._show_body(step.title, Text(step.remark, style="italic"), "", _sql(step.sql), "", *parts)

    async def _show_body(self, title: str, *parts: RenderableType) -> None:
        self._sections += 1
        rule = Rule(Text(f"{self._sections} · {title}", style="bold"), align="left", style="cyan")
        await self._show("", rule, Padding(Group(*parts), (0, 0, 0, INDENT)))

    async def _show(self, *parts: RenderableType) -> None:
        await self._write(drawn(Group(*parts), width=self._width, color=self._color))

    async def _write(self, text: str) -> None:
        await anyio.to_thread.run_sync(self._sink.write, text.encode(), abandon_on_cancel=True)


def _sql(text: str) -> Syntax:
    return Syntax(text, "sql", theme="ansi_dark", background_color="default", word_wrap=True)


def wrap_lines(text: str, width: int) -> list[str]:
    """Break the lines of a text that are too long; what follows is indented deeper than the line's own text, and its margin kept.

    >>> wrap_lines("  | SELECT one,\\n  |   two, three, four", 18)
    ['  | SELECT one,', '  |   two, three,', '  |     four']
    """
    return [part for line in text.splitlines() for part in (_wrap(line, width) or [""])]


def _wrap(line: str, width: int) -> list[str]:
    margin = line[: len(line) - len(line.lstrip(" |"))]
    return textwrap.wrap(
        line[len(margin) :], width, initial_indent=margin, subsequent_indent=f"{margin}  ", break_long_words=False, break_on_hyphens=False
    )


def _facts(facts: Iterable[tuple[str, str]]) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(style="green")
    for name, fact in facts:
        grid.add_row(name, fact)
    return grid


def _bars(run: StageRun) -> Table:
    """Draw how the rows of a stage were shared out."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(style="cyan", no_wrap=True)
    grid.add_column(justify="right", style="green", no_wrap=True)
    grid.add_column(justify="right", style="green", no_wrap=True)
    for worker, bar in zip(run.workers, bars([worker.rows for worker in run.workers]), strict=True):
        grid.add_row(f"worker {worker.worker}", bar, count(worker.rows, "row"), f"busy {seconds(worker.busy_s)}")
    return grid


def bars(values: Sequence[int]) -> list[str]:
    """Draw values as bars, the largest of which has full length.

    >>> bars([0, 50, 100])
    ['', '██████████████████', '████████████████████████████████████']
    """
    largest = max(values, default=0) or 1
    return ["█" * round(BAR * value / largest) for value in values]
