"""What is said of a query that is watched, and how changes look."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from streamq.cli.change_rows import ChangeRows
from streamq.cli.watch import Rate, describe_event_time, describe_status
from streamq.execution.statistics import ContinuousStatistics, OperatorStatistics, Outcome, QueryStatistics

CHANGES = pa.schema([("shop", pa.string()), ("total", pa.int64()), ("_op", pa.string())])


def continuous(**values: Any) -> ContinuousStatistics:
    plain: dict[str, Any] = {"epochs": 3, "rows_in": {"a": 1_000, "b": 234}, "late_rows": 2, "watermark": None, "watermarks": {}}
    operators = (OperatorStatistics("query/aggregate", 10, 10, 4, 2_048, 0.1, "aggregate"),)
    return ContinuousStatistics(**{**plain, "idle": frozenset(), "operators": operators, **values})


def query(outcome: Outcome) -> QueryStatistics:
    return QueryStatistics(
        "q1", "SELECT", outcome, 0.0, 1.5, None, 0, 0, 0, "Continuous", "thread", None, (), 3, 0, 0, continuous=continuous()
    )


def test_the_status_says_how_far_the_query_is() -> None:
    """While it runs, how fast; when it has ended, how."""
    clock = iter([0.0, 2.0, 3.0])
    rate = Rate(lambda: next(clock))
    assert describe_status(query("running"), rate) == "epoch 3 · 1,234 rows in · 617 rows/s · keeps 2 kB"
    assert describe_status(query("completed"), rate) == "epoch 3 · 1,234 rows in · keeps 2 kB · completed after 1.50 s"


@pytest.mark.parametrize(
    ("watermark", "said"),
    [
        (None, "no watermark yet"),
        (datetime(2026, 5, 1, 12, 0, 5, tzinfo=UTC), "watermark 2026-05-01 12:00:05"),
        (datetime.max.replace(tzinfo=UTC), "all windows closed"),
    ],
)
def test_event_time_is_said_where_there_is_any(watermark: datetime | None, said: str) -> None:
    """With the rows that came too late."""
    assert describe_event_time(continuous(watermark=watermark, watermarks={"a": watermark})) == [said, "2 late"]
    assert describe_event_time(continuous()) == []


def test_a_rate_is_that_of_the_last_moments() -> None:
    """What was long ago does not count any more."""
    clock = iter([0.0, 1.0, 2.0, 3.0, 4.0])
    rate = Rate(lambda: next(clock))
    assert [round(rate.of(rows)) for rows in (100, 200, 200, 200)] == [100, 100, 50, 0]


def test_rows_that_come_later_stay_in_their_columns() -> None:
    """The header comes once; a longer value is not cut."""
    rows = ChangeRows(CHANGES, width=None, color=False)
    first = rows.draw(pa.record_batch([["Oslo"], [20], ["insert"]], schema=CHANGES))
    second = rows.draw(pa.record_batch([["Buenos Aires", None], [None, 5], ["insert", "delete"]], schema=CHANGES))
    assert first.splitlines() == [
        "shop           total  _op",
        "string         int64  string",
        "────────────────────────────",
        "Oslo              20  insert",
    ]
    assert second.splitlines() == ["Buenos Aires      NULL  insert", "NULL               5  delete"]


def test_columns_that_do_not_fit_are_left_out() -> None:
    """From the middle."""
    schema = pa.schema([(name, pa.string()) for name in "abcd"])
    text = ChangeRows(schema, width=40, color=False).draw(pa.record_batch([["1"], ["2"], ["3"], ["4"]], schema=schema))
    assert text.splitlines()[3].split() == ["1", "…", "4"]
    assert max(map(len, text.splitlines())) <= 40


def test_what_a_change_does_has_a_colour() -> None:
    """On a terminal."""
    text = ChangeRows(CHANGES, width=80, color=True).draw(pa.record_batch([["Oslo"], [20], ["delete"]], schema=CHANGES))
    assert "\x1b[31mdelete\x1b[0m" in text
