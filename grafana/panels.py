"""What a dashboard consists of, as data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from grafana.promql import Expression

Form = Literal["lines", "areas", "number"]
"""Lines, areas upon each other where the sum means something, or the last value as a number."""


@dataclass(frozen=True, slots=True)
class Line:
    """One query of a panel. `legend` names its series, with labels as ``{{label}}``."""

    expression: Expression
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel: `text` says what is seen and what to do about it. `width` is in 24ths. Lines of a panel have one unit."""

    title: str
    text: str
    lines: tuple[Line, ...]
    form: Form = "lines"
    width: int = 12

    @property
    def unit(self) -> str:
        """The unit of all lines, by Grafana's name."""
        (unit,) = {line.expression.unit for line in self.lines}
        return unit


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A page of rows. `name` is that of its file and the end of its address."""

    name: str
    title: str
    text: str
    rows: tuple[Row, ...]

    def panels(self) -> Iterator[Panel]:
        """Give all panels, row by row."""
        for row in self.rows:
            yield from row.panels
