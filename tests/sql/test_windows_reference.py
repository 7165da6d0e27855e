"""Time windows against a brute-force reference, for any times, lengths and types."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamq.sql.dialect import generate
from streamq.sql.parse import parse_one
from streamq.sql.statements import Select
from streamq.sql.windows import rewrite_time_windows

EPOCH = datetime(1970, 1, 1)
TIMES = st.datetimes(datetime(1969, 12, 30), datetime(1970, 1, 3)) | st.integers(-50, 50).map(lambda n: EPOCH + timedelta(seconds=n))
ROWS = st.lists(st.tuples(st.integers(0, 2), st.none() | TIMES), max_size=12)
LENGTHS = st.integers(1, 40).map(lambda n: n * 1_000_000) | st.integers(1, 10**11)


def microseconds(time: date) -> int:
    """Give the microseconds since 1970 of a time of any type."""
    if isinstance(time, datetime):
        return (time.replace(tzinfo=None) - EPOCH) // timedelta(microseconds=1)
    assert isinstance(time, date)
    return (time - EPOCH.date()).days * 86_400_000_000


def windows_of(time: int, size: int, slide: int, offset: int = 0) -> list[int]:
    """Give the starts of the windows that hold a time, by looking at every start around it."""
    first = (time - offset) // slide
    return [start for n in range(first - size // slide - 1, first + 2) if (start := n * slide + offset) <= time < start + size]


def sessions_of(times: list[int], gap: int) -> list[tuple[int, int, int]]:
    """Give start, end and number of rows of every session."""
    sessions: list[list[int]] = []
    for time in sorted(times):
        if sessions and time - sessions[-1][-1] <= gap:
            sessions[-1].append(time)
        else:
            sessions.append([time])
    return [(rows[0], rows[-1] + gap, len(rows)) for rows in sessions]


@pytest.fixture(name="con", scope="module")
def open_session() -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB session in UTC."""
    with duckdb.connect(config={"threads": 1}) as con:
        con.execute("SET TimeZone = 'UTC'")
        yield con


def run(con: duckdb.DuckDBPyConnection, sql: str, rows: list[tuple[int, Any]], type_: pa.DataType) -> list[tuple[int, int, int, int]]:
    """Run a query over `t (k, ts)`; it gives k, start, end and a count."""
    select = parse_one(sql)
    assert isinstance(select, Select)
    plain = generate(rewrite_time_windows(select.ast, lambda _: "ts"))
    table = pa.table({"k": pa.array([k for k, _ in rows], pa.int32()), "ts": pa.array([ts for _, ts in rows], type_)})
    con.register("t", table)
    return sorted(con.sql(f"SELECT k, epoch_us(s), epoch_us(e), n FROM ({plain}) AS r(k, s, e, n)").fetchall())


def counted(pairs: list[tuple[int, int, int]]) -> list[tuple[int, int, int, int]]:
    """Count equal (key, start, end)."""
    return sorted((*pair, pairs.count(pair)) for pair in set(pairs))


TYPES = [pa.timestamp("us"), pa.timestamp("us", "UTC"), pa.date32()]


def typed(rows: list[tuple[int, datetime | None]], type_: pa.DataType) -> list[tuple[int, Any]]:
    """Give the rows with times as values of the type."""
    if pa.types.is_date(type_):
        return [(k, ts if ts is None else date(ts.year, ts.month, ts.day)) for k, ts in rows]
    return [(k, ts if ts is None or type_.tz is None else ts.replace(tzinfo=UTC)) for k, ts in rows]


@pytest.mark.parametrize("type_", TYPES, ids=str)
@given(rows=ROWS, size=LENGTHS, offset=st.integers(-(10**8), 10**8))
def test_tumble(
    con: duckdb.DuckDBPyConnection, type_: pa.DataType, rows: list[tuple[int, datetime | None]], size: int, offset: int
) -> None:
    """A row with a time is in the one tumbling window that holds it."""
    given_rows = typed(rows, type_)
    window = f"TUMBLE(ts, INTERVAL '{size} us', INTERVAL '{offset} us')"
    expected = counted(
        [(k, s, s + size) for k, ts in given_rows if ts is not None for s in windows_of(microseconds(ts), size, size, offset)]
    )
    assert run(con, f"SELECT k, {window}.start, {window}.end, count(*) FROM t GROUP BY k, {window}", given_rows, type_) == expected
    table = f"TUMBLE(t, ts, INTERVAL '{size} us', INTERVAL '{offset} us')"
    assert run(con, f"SELECT k, window_start, window_end, count(*) FROM {table} GROUP BY ALL", given_rows, type_) == expected


@pytest.mark.parametrize("type_", TYPES, ids=str)
@given(rows=ROWS, slide=st.integers(1, 10**9), thousandths=st.integers(1, 12_000), offset=st.integers(-(10**8), 10**8))
def test_hop(
    con: duckdb.DuckDBPyConnection, type_: pa.DataType, rows: list[tuple[int, datetime | None]], slide: int, thousandths: int, offset: int
) -> None:
    """A row is in every hopping window that holds it, whether sizes are multiples of slides, larger or smaller."""
    size = max(slide * thousandths // 1_000, 1)
    given_rows = typed(rows, type_)
    window = f"HOP(ts, INTERVAL '{slide} us', INTERVAL '{size} us', INTERVAL '{offset} us')"
    expected = counted(
        [(k, s, s + size) for k, ts in given_rows if ts is not None for s in windows_of(microseconds(ts), size, slide, offset)]
    )
    assert run(con, f"SELECT k, {window}.start, {window}.end, count(*) FROM t GROUP BY k, {window}", given_rows, type_) == expected
    table = f"HOP(t, ts, INTERVAL '{slide} us', INTERVAL '{size} us', INTERVAL '{offset} us')"
    assert run(con, f"SELECT k, window_start, window_end, count(*) FROM {table} GROUP BY ALL", given_rows, type_) == expected


@pytest.mark.parametrize("type_", TYPES, ids=str)
@given(rows=ROWS, gap=LENGTHS)
def test_session(con: duckdb.DuckDBPyConnection, type_: pa.DataType, rows: list[tuple[int, datetime | None]], gap: int) -> None:
    """Rows of a key that follow each other within the gap, or exactly at it, have one session."""
    given_rows = typed(rows, type_)
    times = {key: [microseconds(ts) for k, ts in given_rows if k == key and ts is not None] for key in range(3)}
    expected = sorted((key, *session) for key in times for session in sessions_of(times[key], gap))
    window = f"SESSION(ts, INTERVAL '{gap} us')"
    assert run(con, f"SELECT k, {window}.start, {window}.end, count(*) FROM t GROUP BY k, {window}", given_rows, type_) == expected
    table = f"SESSION(t PARTITION BY k, ts, INTERVAL '{gap} us')"
    assert run(con, f"SELECT k, window_start, window_end, count(*) FROM {table} GROUP BY ALL", given_rows, type_) == expected
    everyone = [(0, *session) for session in sessions_of([time for one in times.values() for time in one], gap)]
    assert run(con, f"SELECT 0, {window}.start, {window}.end, count(*) FROM t GROUP BY {window}", given_rows, type_) == everyone
