"""Sessions: rows that follow each other within a gap."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamq.kernels.evaluate import Evaluator
from streamq.plan.dataflow import Sessions

from .driver import IN, Change, Driver, Row, Script, check, scripts

GAP = 3
SCHEMA = pa.schema([("k", pa.string()), ("t", pa.timestamp("us")), ("x", pa.int64())])
RESULT = pa.schema([*SCHEMA, ("start", pa.timestamp("us")), ("end", pa.timestamp("us"))])
NODE = Sessions("sessions", IN, ("k",), "t", GAP, "start", "end", final=False, schema=RESULT, retracts=True)
ROWS = st.tuples(st.sampled_from(["a", "b", None]), st.one_of(st.integers(0, 15), st.none()), st.integers(0, 1))


def time(microsecond: int) -> dt.datetime:
    """Give the moment so many microseconds after 1970."""
    return dt.datetime(1970, 1, 1) + dt.timedelta(microseconds=microsecond)


def sessions(rows: list[Row], *, closed_before: int | None = None) -> Counter[Row]:
    """Walk over each key's rows in the order of time; maybe only sessions whose end is before a moment."""
    result: list[Row] = []
    for key in {row[0] for row in rows}:
        groups: list[list[Row]] = []
        for row in sorted((row for row in rows if row[0] == key and row[1] is not None), key=lambda row: int(row[1])):
            if groups and row[1] - groups[-1][-1][1] <= GAP:
                groups[-1].append(row)
            else:
                groups.append([row])
        for group in groups:
            start, end = group[0][1], group[-1][1] + GAP
            if closed_before is None or end < closed_before:
                result += [(key, time(row[1]), row[2], time(start), time(end)) for row in group]
    return Counter(result)


@given(scripts(ROWS))
def test_with_retraction(evaluator: Evaluator, script: Script) -> None:
    """Sessions grow, merge and split as rows come and go."""
    check(Driver(NODE, evaluator, [SCHEMA], [True]), sessions, script)


@given(scripts(ROWS, retracts=False))
def test_without_keys(evaluator: Evaluator, script: Script) -> None:
    """Without keys all rows are of one."""
    driver = Driver(replace(NODE, keys=()), evaluator, [SCHEMA], [False])

    def unkeyed(rows: list[Row]) -> Counter[Row]:
        # Rows keep their own k, which is no key: it goes through the reference as part of x.
        found = sessions([(None, row[1], (row[0], row[2])) for row in rows])
        return Counter({(row[2][0], row[1], row[2][1], row[3], row[4]): count for row, count in found.items()})

    check(driver, unkeyed, script)


@pytest.mark.parametrize("final", [False, True])
@given(st.lists(st.tuples(st.lists(ROWS, max_size=4), st.integers(0, 4)), max_size=7), st.integers(0, 7))
def test_closing(evaluator: Evaluator, final: bool, steps: list[tuple[list[Row], int]], restart: int) -> None:
    """A session closes when the horizon is past its end; with `final` its rows are given then, once."""
    driver = Driver(replace(NODE, final=final, retracts=not final), evaluator, [SCHEMA], [False])
    rows: list[Row] = []
    horizon = 0
    for number, (step, ahead) in enumerate(steps):
        if number == restart:
            driver.restart()
        step = [row for row in step if row[1] is not None and row[1] >= horizon]
        horizon += ahead
        driver.step([(row, 1) for row in step], horizon_us=horizon)
        rows += step
        closed = sessions(rows, closed_before=horizon)
        assert driver.given == (closed if final else sessions(rows))
        assert driver.operator.state_rows == len(set(rows)) - len({row[:3] for row in closed})
    driver.step([], ended=True)
    assert driver.given == sessions(rows)
    assert driver.operator.state_rows == 0


def row(at: int, start: int, end: int) -> Row:
    """Give a row of the result."""
    return ("a", time(at), 0, time(start), time(end))


def step(*times: int) -> list[Change]:
    """Give one row a time."""
    return [(("a", at, 0), 1) for at in times]


def test_a_row_exactly_one_gap_behind_is_of_the_session(evaluator: Evaluator) -> None:
    """The gap itself still belongs to a session, one microsecond more does not."""
    driver = Driver(NODE, evaluator, [SCHEMA], [False])
    driver.step(step(0, 3, 7))
    assert set(driver.given) == {row(0, 0, 6), row(3, 0, 6), row(7, 7, 10)}


def test_a_bridging_row_merges(evaluator: Evaluator) -> None:
    """The rows of both sessions are withdrawn, and given again with the new bounds."""
    driver = Driver(NODE, evaluator, [SCHEMA], [False])
    driver.step(step(0, 5))
    found = driver.step(step(3))
    assert found[:2] == [(row(0, 0, 3), -1), (row(5, 5, 8), -1)]
    assert sorted(found[2:]) == [(row(0, 0, 8), 1), (row(3, 0, 8), 1), (row(5, 0, 8), 1)]


@pytest.mark.parametrize("kind", [pa.timestamp("s"), pa.timestamp("ns"), pa.timestamp("ms", "UTC")])
def test_units_of_time(evaluator: Evaluator, kind: pa.DataType) -> None:
    """Bounds have the types of the result, whatever the unit of the time."""
    schema = pa.schema([("k", pa.string()), ("t", kind)])
    node = replace(NODE, gap_us=2_000_000, schema=pa.schema([*schema, ("start", kind), ("end", kind)]))
    driver = Driver(node, evaluator, [schema], [False])
    per_second = {"s": 1, "ms": 1_000, "ns": 1_000_000_000}[kind.unit]
    found = driver.step([(("a", second * per_second), 1) for second in (1, 3, 6)])
    assert [(given[2].second, given[3].second) for given, _ in found] == [(1, 5), (1, 5), (6, 8)]
