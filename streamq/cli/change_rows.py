"""Shows rows to people as they come, below one header: for queries that go on."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from rich.cells import cell_len
from rich.text import Text

from streamq.cli.table import MAX_CELL, drawn, fit_columns, format_value, is_number, type_name
from streamq.plan.dataflow import OP

_GAP = 2
_STYLES = {"insert": "green", "update": "yellow", "delete": "red"}
_ANY_WIDTH = 100_000
_USUAL_CELLS = {"int64": 8, "int32": 8, "double": 10, "string": 10, "timestamp": 19, "date32": 10, "time64": 8}
"""Room for the values of later rows, which may be longer than the first."""


class ChangeRows:
    """Draws batches of one schema as text. Columns are as wide as the first rows need; `width` None leaves out none."""

    def __init__(self, schema: pa.Schema, *, width: int | None, color: bool) -> None:
        self._schema = schema
        self._width = width
        self._color = color
        self._widths: list[int] = []
        self._chosen: list[int | None] = []

    def draw(self, batch: pa.RecordBatch) -> str:
        """Give the lines of a batch; before the first one also the header."""
        cells = [[_cell(value) for value in column.to_pylist()] for column in batch.columns]
        lines = []
        if not self._chosen:
            self._lay_out(cells)
            lines = [self._line(self._schema.names, "bold"), self._line([type_name(field.type) for field in self._schema], "dim")]
            lines.append(Text("─" * cell_len(lines[0].plain), style="dim"))
        lines += [self._line([column[row] for column in cells]) for row in range(batch.num_rows)]
        if not self._color:
            return "".join(line.plain.rstrip() + "\n" for line in lines)
        return drawn(Text("\n").join(lines), width=_ANY_WIDTH, color=True)

    def _lay_out(self, cells: Sequence[Sequence[str]]) -> None:
        for field, column in zip(self._schema, cells, strict=True):
            kind = type_name(field.type)
            usual = 0 if field.name == OP else _USUAL_CELLS.get(kind, 0)
            widest = max(len(field.name), len(kind), usual, *(cell_len(cell) for cell in column))
            self._widths.append(min(widest, MAX_CELL))
        available = _ANY_WIDTH if self._width is None else self._width
        self._chosen = fit_columns(self._widths, available)

    def _line(self, cells: Sequence[str], style: str = "") -> Text:
        parts = [Text("…") if place is None else self._padded(cells[place], place, style) for place in self._chosen]
        return Text(" " * _GAP).join(parts)

    def _padded(self, cell: str, place: int, style: str) -> Text:
        field = self._schema.field(place)
        room = " " * (self._widths[place] - cell_len(cell))
        style = style or (_STYLES.get(cell, "") if field.name == OP else "dim" if cell == "NULL" else "")
        return Text(room + cell if is_number(field.type) else cell + room, style=style)


def _cell(value: object) -> str:
    return "NULL" if value is None else format_value(value)
