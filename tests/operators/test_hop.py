"""Hop: hopping windows put together from panes, as they close."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamq.kernels.evaluate import Evaluator
from streamq.plan.dataflow import WINDOWS, Accumulate, Closing, Hop

from .driver import IN, Change, Driver, Row

US = pa.timestamp("us")
SCHEMA = pa.schema([("k", pa.string()), ("w", US), ("e", US), ("x", pa.int64()), (WINDOWS, pa.int64())])
SLIDE, SIZE = 10, 40
START = datetime(1970, 1, 1)
COUNT = Accumulate("n", "count_star", None, pa.int64())
SUM = Accumulate("s", "sum", "x", pa.decimal128(38, 0))
MAX = Accumulate("m", "max", "x", pa.int64())


def at(moment: int) -> datetime:
    return START + timedelta(microseconds=moment)


def hop(keys: tuple[str, ...], calls: tuple[Accumulate, ...]) -> Hop:
    """Make a node that groups by `keys`, of which "w" and "e" bound the window."""
    fields = [*(SCHEMA.field(key) for key in keys), *(pa.field(call.name, call.type) for call in calls)]
    bounds = tuple(key for key in keys if key in ("w", "e"))
    closing = Closing("w", SIZE) if "w" in keys else Closing("e")
    return Hop("hop", IN, keys, bounds, SLIDE, calls, closing, pa.schema(fields))


@st.composite
def streams(draw: st.DrawFn) -> list[tuple[list[tuple[str, int, int | None]], int]]:
    """Generate epochs of rows (key, event time, value), and the horizon at the end of each."""
    epochs, horizon = [], 0
    for _ in range(draw(st.integers(1, 6))):
        rows = st.tuples(
            st.sampled_from(["a", "b"]), st.integers(max(0, horizon - SIZE - 5), horizon + 60), st.sampled_from([1, 2, -7, None])
        )
        taken = draw(st.lists(rows, max_size=6))
        horizon += draw(st.integers(0, 45))
        epochs.append((taken, horizon))
    return epochs


def windows_of(time: int, horizon: int) -> list[int]:
    """Give the starts of a row's windows that are open, the first one first."""
    nearest = time - time % SLIDE
    return [start for start in range(nearest - SIZE + SLIDE, nearest + 1, SLIDE) if start + SIZE > horizon]


def folded(keys: tuple[str, ...], calls: tuple[Accumulate, ...], groups: dict[tuple[str | None, int], list[int | None]]) -> Counter[Row]:
    """Give the rows of groups by key and window start."""
    rows = []
    for (key, start), values in groups.items():
        there = [value for value in values if value is not None]
        named = {"k": key, "w": at(start), "e": at(start + SIZE)}
        told = {"n": len(values), "s": sum(there) if there else None, "m": max(there, default=None)}
        rows.append((*(named[name] for name in keys), *(told[call.name] for call in calls)))
    return Counter(rows)


@pytest.mark.parametrize("keys", [("k", "w"), ("w", "k", "e"), ("e",)])
@pytest.mark.parametrize("calls", [(COUNT, SUM), (COUNT, SUM, MAX), ()], ids=["rolling", "each", "none"])
@given(epochs=streams(), restart=st.integers(0, 5))
def test_windows_are_given_when_they_close(
    evaluator: Evaluator,
    keys: tuple[str, ...],
    calls: tuple[Accumulate, ...],
    epochs: list[tuple[list[tuple[str, int, int | None]], int]],
    restart: int,
) -> None:
    """Each window that has rows is given once, with all of them, however late they were; also after a restart."""
    driver = Driver(hop(keys, calls), evaluator, [SCHEMA], [False])
    groups: dict[tuple[str | None, int], list[int | None]] = {}
    horizon = -1
    for number, (rows, following) in enumerate(epochs):
        if number == restart:
            driver.restart()
        changes: list[Change] = []
        # Rows come with the windows that are open, and sometimes also with some that have closed; but an empty state does not know which.
        late = number % 2 == 0 and (number != restart or driver.operator.state_rows > 0)
        for key, time, value in rows:
            starts = windows_of(time, -SIZE if late else horizon)
            for start in windows_of(time, horizon):
                groups.setdefault((key if "k" in keys else None, start), []).append(value)
            if starts:
                changes.append(((key, at(starts[0]), at(starts[0] + SIZE), value, len(starts)), 1))
        driver.step(changes, horizon_us=following)
        horizon = following
        closed = {group: values for group, values in groups.items() if group[1] + SIZE <= horizon}
        assert driver.given == folded(keys, calls, closed), f"epoch {number}"
    driver.step([], ended=True)
    assert driver.given == folded(keys, calls, groups)
    assert driver.operator.state_rows == 0
