"""The live part of the demonstration: how a month is cut, and how a moment looks."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from streamq.cli.demo_board import Board, draw_board
from streamq.cli.demo_live import cut_hours
from streamq.cli.demo_steps import BY_WEATHER, DAYS, WORST
from streamq.cli.table import Excerpt, drawn

START = datetime(2013, 7, 1)
BOARD = Board(
    now=datetime(2013, 7, 16, 12),
    share=0.5,
    rows=1_234,
    rows_s=0.0,
    watermark=datetime(2013, 7, 16, 9, tzinfo=UTC),
    late_rows=3,
    epochs=7,
    state_bytes=2_048,
    answers=(
        (WORST, Excerpt(pa.table({"airline": ["Mesa"], "flights": [1_000], "delay": [1.5]}), more=False)),
        (BY_WEATHER, Excerpt(pa.table({"weather": ["fog"], "flights": [20], "delay": pa.array([None], pa.float64())}), more=False)),
        (DAYS, Excerpt(pa.table({"day": ["2013-07-15"], "origin": ["JFK"]}), more=False)),
    ),
)


def test_rows_are_pushed_by_the_hour_in_which_they_happened() -> None:
    """Hours in which nothing happened have no push, sources to which nothing came no rows."""
    flights = pa.table({"n": [1, 2, 3], "at": [START, START, START.replace(hour=5)]})
    weather = pa.table({"w": [9], "at": [START.replace(hour=1)]})
    pushes = cut_hours({"flights": flights, "weather": weather}, START, 1)
    assert [(push.end.hour, {name: rows.to_pylist() for name, rows in push.rows.items()}) for push in pushes] == [
        (1, {"flights": [{"n": 1}, {"n": 2}]}),
        (2, {"weather": [{"w": 9}]}),
        (6, {"flights": [{"n": 3}]}),
    ]


def test_several_hours_can_be_pushed_at_once() -> None:
    """Where nobody looks on."""
    flights = pa.table({"n": [1, 2, 3], "at": [START, START.replace(hour=11), START.replace(hour=12)]})
    pushes = cut_hours({"flights": flights}, START, 12)
    assert [(push.end, push.rows["flights"].num_rows) for push in pushes] == [(START.replace(hour=12), 2), (START.replace(day=2), 1)]


@pytest.mark.parametrize("width", [98, 78, 50])
def test_a_moment_fits_the_terminal(width: int) -> None:
    """In width; small answers are beside each other where there is room."""
    lines = drawn(draw_board(BOARD, width), width=width, color=False).splitlines()
    assert max(map(len, lines)) <= width
    assert lines[0].startswith("Tue 16 July 2013, 12:00")
    assert (len(lines) <= 22) == (width >= 76)


def test_a_moment_says_where_the_queries_are() -> None:
    """In one line below the answers, in which a missing value is a dash."""
    lines = drawn(draw_board(BOARD, 98), width=98, color=False).splitlines()
    assert lines[-1] == "1,234 rows pushed · watermark 16 July, 09:00 · 3 late · 7 epochs · state 2 kB"
    assert lines[5].split() == ["Mesa", "1,000", "1.5", "fog", "20", "–"]
