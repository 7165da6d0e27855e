"""Shows rows to people, as a table that fits the terminal and says what it leaves out."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

import pyarrow as pa
from rich.box import ROUNDED
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

MAX_CELL = 48
"""Longer values are cut: one long text must not hide the other columns."""
_CELL_CAPS = (MAX_CELL, 32, 20)
"""Wide columns are narrowed to these, one after the other, before any column is left out."""
_ANY_WIDTH = 100_000
"""Wider than any table."""
_FRAME = 3
"""What a column takes beside its text: a border and a space on both sides, the border shared with the next."""


@dataclass(frozen=True, slots=True)
class Excerpt:
    """The first rows of a result, or with `last` its last ones. `more` tells that there are others; `total` is how many there are in all,
    None if nobody counted."""

    rows: pa.Table
    more: bool
    total: int | None = None
    last: bool = False


def render_table(excerpt: Excerpt, width: int) -> RenderableType:
    """Draw an excerpt at most `width` characters wide, with a line below that says how many rows and columns there are."""
    shown = excerpt.rows
    cells = [_format_column(column) for column in shown.columns]
    natural = [_natural_width(field, column) for field, column in zip(shown.schema, cells, strict=True)]
    cap = next((cap for cap in _CELL_CAPS if _total([min(each, cap) for each in natural]) <= width), _CELL_CAPS[-1])
    chosen = fit_columns([min(each, cap) for each in natural], width)
    table = Table(box=ROUNDED, header_style="bold", show_edge=True, pad_edge=True)
    for position in chosen:
        if position is None:
            table.add_column("…", justify="center", style="dim")
            continue
        field = shown.schema.field(position)
        header = Text.assemble(field.name, "\n", (type_name(field.type), "dim not bold"))
        table.add_column(header, justify="right" if is_number(field.type) else "left", no_wrap=True, overflow="ellipsis", max_width=cap)
    for row in range(shown.num_rows):
        table.add_row(*(Text("…") if position is None else _cell(cells[position][row]) for position in chosen))
    return Group(table, Text(describe_size(excerpt, sum(position is not None for position in chosen)), style="dim"))


def describe_size(excerpt: Excerpt, columns_shown: int) -> str:
    """Say how large the result is and what of it is shown.

    >>> describe_size(Excerpt(pa.table({"a": [1, 2]}), False, 2), 1)
    '2 rows'
    >>> describe_size(Excerpt(pa.table({"a": [1, 2], "b": [1, 2]}), True, 5000), 1)
    'the first 2 of 5,000 rows, 1 of 2 columns'
    >>> describe_size(Excerpt(pa.table({"a": [1]}), True), 1)
    'the first row; there are more'
    >>> describe_size(Excerpt(pa.table({"a": [1, 2]}), True, 5000, last=True), 1)
    'the last 2 of 5,000 rows'
    """
    rows, columns = excerpt.rows.num_rows, excerpt.rows.num_columns
    counted = "1 row" if rows == 1 else f"{rows:,} rows"
    of_columns = f", {columns_shown} of {columns} columns" if columns_shown < columns else ""
    if not excerpt.more:
        return counted + of_columns
    if excerpt.total is not None:
        return f"the {'last' if excerpt.last else 'first'} {rows:,} of {excerpt.total:,} rows{of_columns}"
    first = "the first row" if rows == 1 else f"the first {counted}"
    return f"{first}{of_columns}; there are more"


def fit_columns(widths: Sequence[int], available: int) -> list[int | None]:
    """Choose the columns that fit, from both ends inwards; None stands for those that are left out.

    >>> fit_columns([5, 5, 5], 80)
    [0, 1, 2]
    >>> fit_columns([10, 10, 10, 10], 40)
    [0, None, 3]
    """
    if _total(widths) <= available:
        return list(range(len(widths)))
    room = available - 1 - (1 + _FRAME)
    left: list[int] = []
    right: list[int] = []
    low, high = 0, len(widths) - 1
    while low <= high:
        from_left = len(left) <= len(right)
        position = low if from_left else high
        room -= widths[position] + _FRAME
        if room < 0 and left:
            break
        (left if from_left else right).append(position)
        low, high = (low + 1, high) if from_left else (low, high - 1)
    return [*left, None, *reversed(right)] if low <= high else list(range(len(widths)))


def _total(widths: Sequence[int]) -> int:
    return sum(width + _FRAME for width in widths) + 1


def table_text(excerpt: Excerpt, *, width: int | None, color: bool) -> str:
    """Draw an excerpt as text. `width` None is as wide as it needs to be; `color` adds a terminal's control sequences."""
    return drawn(render_table(excerpt, width or _ANY_WIDTH), width=width or _ANY_WIDTH, color=color)


def drawn(picture: RenderableType, *, width: int, color: bool) -> str:
    """Draw anything as text, without spaces at the ends of its lines."""
    out = io.StringIO()
    console_for(out, width=width, color=color).print(picture)
    return "".join(line.rstrip() + "\n" for line in out.getvalue().splitlines())


def console_for(out: TextIO, *, width: int, color: bool) -> Console:
    """Make a console that draws into text of a fixed width."""
    return Console(file=out, width=width, force_terminal=color, color_system="standard" if color else None, highlight=False)


def _format_column(column: pa.ChunkedArray) -> list[str | None]:
    return [None if value is None else format_value(value) for value in column.to_pylist()]


def format_value(value: object) -> str:
    """Write a value as a table cell shows it: on one line, cut where it is very long.

    >>> format_value(1.5), format_value(True), format_value("a\\nb"), format_value(b"ab")
    ('1.5', 'true', 'a⏎b', '6162')
    """
    match value:
        case bool():
            text = "true" if value else "false"
        case bytes():
            text = value.hex()
        case _:
            text = str(value)
    text = plain_line(text)
    return text if len(text) <= MAX_CELL else text[: MAX_CELL - 1] + "…"


def plain_line(text: str) -> str:
    """Write text on one line."""
    return text.replace("\r\n", "⏎").replace("\n", "⏎").replace("\t", " ")


def _cell(value: str | None) -> Text:
    return Text("NULL", style="dim") if value is None else Text(value)


def _natural_width(field: pa.Field, cells: Sequence[str | None]) -> int:
    return max(len(field.name), len(type_name(field.type)), *(4 if cell is None else cell_len(cell) for cell in cells), 1)


def is_number(kind: pa.DataType) -> bool:
    return any(is_kind(kind) for is_kind in (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal))


def type_name(kind: pa.DataType) -> str:
    """Name a type in a word: without units, and without what is inside it.

    >>> [type_name(kind) for kind in (pa.int64(), pa.timestamp("us", "UTC"), pa.list_(pa.int8()), pa.decimal128(10, 2))]
    ['int64', 'timestamp', 'list', 'decimal128']
    """
    return re.split(r"[\[<(]", str(kind), maxsplit=1)[0]
