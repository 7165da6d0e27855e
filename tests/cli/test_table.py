"""Tables for people: what fits, and what is said of the rest."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamq.cli.table import MAX_CELL, Excerpt, fit_columns, table_text
from streamq.cli.terminal import DEFAULT_ROWS, Terminal

ROWS = pa.table({"id": [1, 2], "name": ["one", None]})


def draw(table: pa.Table, *, width: int | None = None, more: bool = False, total: int | None = None, color: bool = False) -> str:
    return table_text(Excerpt(table, more, total), width=width, color=color)


def test_a_table_shows_names_types_and_values() -> None:
    """NULL is written out; numbers are on the right."""
    assert draw(ROWS) == (
        "╭───────┬────────╮\n"
        "│    id │ name   │\n"
        "│ int64 │ string │\n"
        "├───────┼────────┤\n"
        "│     1 │ one    │\n"
        "│     2 │ NULL   │\n"
        "╰───────┴────────╯\n"
        "2 rows\n"
    )


@pytest.mark.parametrize(
    ("more", "total", "note"),
    [
        (False, None, "2 rows"),
        (True, None, "the first 2 rows; there are more"),
        (True, 5000, "the first 2 of 5,000 rows"),
    ],
)
def test_a_table_says_what_it_leaves_out(more: bool, total: int | None, note: str) -> None:
    """The line below the table tells whether these are all rows."""
    assert draw(ROWS, more=more, total=total).splitlines()[-1] == note


def test_columns_that_do_not_fit_are_left_out_in_the_middle() -> None:
    """Their place is marked, and the line below counts them."""
    wide = pa.table({f"column_{number}": [number] for number in range(30)})
    lines = draw(wide, width=60).splitlines()
    assert max(len(line) for line in lines) <= 60
    assert "column_0" in lines[1]
    assert "column_29" in lines[1]
    assert lines[-1] == "1 row, 4 of 30 columns"


def test_without_a_terminal_every_column_is_shown() -> None:
    """Nobody's screen is too narrow."""
    wide = pa.table({f"column_{number}": [number] for number in range(30)})
    assert draw(wide).splitlines()[-1] == "1 row"


def test_wide_columns_are_narrowed_before_others_are_left_out() -> None:
    """A long text is cut, so that all columns stay."""
    lines = draw(pa.table({"a": [1], "long": ["x" * 100], "b": [2]}), width=60).splitlines()
    assert "x…" in lines[4]
    assert lines[-1] == "1 row"


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("x" * (MAX_CELL + 1), "x" * (MAX_CELL - 1) + "…"),
        ("two\nlines", "two⏎lines"),
        ("[bold]markup[/bold]", "[bold]markup[/bold]"),
        (b"\x00\xff", "00ff"),
        (True, "true"),
        ([1, None], "[1, None]"),
    ],
)
def test_a_cell_is_one_line_of_text(value: object, cell: str) -> None:
    """Values are shown as they are, cut where they are long."""
    assert f"│ {cell}" in draw(pa.table({"v": [value]}))


def test_colors_are_only_for_terminals() -> None:
    """Without color there is no control sequence."""
    assert "\x1b[" not in draw(ROWS)
    assert "\x1b[" in draw(ROWS, color=True)


@pytest.mark.parametrize("table", [pa.table({}), pa.table({"a": pa.array([], pa.int64())})])
def test_no_rows(table: pa.Table) -> None:
    """An empty answer says so."""
    assert draw(table).splitlines()[-1] == "0 rows"


@given(st.lists(st.integers(1, 60), min_size=1, max_size=40), st.integers(20, 200))
def test_chosen_columns_are_in_order_and_fit(widths: list[int], available: int) -> None:
    """Columns keep their order, the first is always there, and one mark stands for all that are left out."""
    chosen = fit_columns(widths, available)
    shown = [position for position in chosen if position is not None]
    assert shown == sorted(set(shown))
    assert shown[0] == 0
    assert (len(shown) == len(widths)) == (None not in chosen)
    total = sum(widths[position] + 3 for position in shown) + 1 + (4 if None in chosen else 0)
    assert total <= available or len(shown) == 1


@pytest.mark.parametrize(
    ("terminal", "max_rows", "limit"),
    [
        (Terminal(80, 50, True), None, 41),
        (Terminal(80, 3, True), None, 5),
        (Terminal(None, None, False), None, DEFAULT_ROWS),
        (Terminal(80, 50, True), 7, 7),
        (Terminal(80, 50, True), 0, None),
    ],
)
def test_a_table_has_as_many_rows_as_there_is_room(terminal: Terminal, max_rows: int | None, limit: int | None) -> None:
    """A number on the command line wins; 0 is all."""
    assert terminal.row_limit(max_rows) == limit
