"""How the live part of the demonstration looks: what time it is, what each query has so far, and how the queries are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from streamq.cli.demo_steps import Step
from streamq.cli.table import Excerpt, format_value, is_number
from streamq.cli.wording import count
from streamq.plan.sizes import human_bytes

BAR = 30
SIDE_BY_SIDE = 76
"""From this width on, two small tables fit beside each other."""


@dataclass(frozen=True, slots=True)
class Board:
    """A moment of the replay.

    `now` is its time, and `share` how much of the month has passed (0 to 1). `rows` were pushed, `rows_s` a second (0: not said).
    `watermark`, `late_rows`, `epochs` and `state_bytes` are the queries'.
    """

    now: datetime
    share: float
    rows: int
    rows_s: float
    watermark: datetime | None
    late_rows: int
    epochs: int
    state_bytes: int
    answers: tuple[tuple[Step, Excerpt], ...]


def draw_board(board: Board, width: int) -> RenderableType:
    """Draw a moment, at most `width` characters wide."""
    first, second, *others = (_answer(step, excerpt) for step, excerpt in board.answers)
    top: RenderableType = Group(first, second)
    if width >= SIDE_BY_SIDE:
        top = Table.grid(padding=(0, 3, 0, 0))
        top.add_row(first, second)
    return Group(_clock(board), "", top, *others, _status(board))


def _clock(board: Board) -> Text:
    done = round(BAR * board.share)
    when = f"{board.now:%a} {board.now.day} {board.now:%B %Y, %H:%M}"
    return Text.assemble((f"{when:<28}", "bold"), ("█" * done, "cyan"), ("░" * (BAR - done), "dim"))


def _status(board: Board) -> Text:
    parts = [f"{count(board.rows, 'row')} pushed"]
    if board.rows_s:
        parts.append(f"{board.rows_s:,.0f} rows/s")
    parts += [
        _watermark(board.watermark),
        f"{board.late_rows} late",
        count(board.epochs, "epoch"),
        f"state {human_bytes(board.state_bytes)}",
    ]
    return Text(" · ".join(parts), style="green", no_wrap=True, overflow="ellipsis")


def _watermark(watermark: datetime | None) -> str:
    match watermark:
        case None:
            return "no watermark yet"
        case datetime(year=9999):
            return "all windows closed"
        case _:
            return f"watermark {watermark.day} {watermark:%B, %H:%M}"


def _answer(step: Step, excerpt: Excerpt) -> RenderableType:
    """Draw a result with as many rows as it may have, so that nothing moves when rows come."""
    rows = excerpt.rows
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
    for field in rows.schema:
        table.add_column(field.name, justify="right" if is_number(field.type) else "left", no_wrap=True, overflow="ellipsis", min_width=7)
    cells = [[_cell(value) for value in column.to_pylist()] for column in rows.columns]
    for row in range(step.rows):
        table.add_row(*(column[row] if row < len(column) else "" for column in cells))
    return Group(Text(step.title, style="bold cyan"), table, "")


def _cell(value: object) -> str:
    match value:
        case None:
            return "–"
        case int():
            return f"{value:,}"
        case _:
            return format_value(value)
