"""Watermarks, row by row: an expression over the largest event time so far.

W(row) is the watermark expression applied to the largest event time at earlier rows, so it is asked for no more than the distinct
running maxima of a batch. `column - INTERVAL …` of a fixed length is a subtraction; DuckDB evaluates everything else.
"""

from __future__ import annotations

import re

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streamq.errors import DataError
from streamq.storage.feeds import watermark_type
from streamq.storage.session import private_session
from streamq.storage.text import identifier

_NONE = np.iinfo(np.int64).min
"""Stands for NULL: no timestamp has this value."""
_FAR = 1 << 62
"""Beyond this lie DuckDB's infinities, which do not move when an interval is subtracted, and overflows."""
_CONSTANT = re.compile(
    r"""\s*\(?\s*(?P<quote>"?)(?P<column>\w+)(?P=quote)\s*
    (-\s*INTERVAL\s*(?P<mark>'?)(?P<count>\d{1,9})(?:(?P=mark)\s*|\s+)(?P<unit>MICROSECOND|MILLISECOND|SECOND|MINUTE|HOUR|DAY|WEEK)S?)?
    \s*\)?\s*""",
    re.VERBOSE | re.IGNORECASE,
)
_UNIT_US = {
    "MICROSECOND": 1,
    "MILLISECOND": 1_000,
    "SECOND": 1_000_000,
    "MINUTE": 60_000_000,
    "HOUR": 3_600_000_000,
    "DAY": 86_400_000_000,
    "WEEK": 604_800_000_000,
}


def constant_delay_us(column: str, expression: str) -> int | None:
    """Tell by how many microseconds the watermark is behind its column, if its text says that and nothing else.

    >>> constant_delay_us("ts", "ts - INTERVAL '5' SECOND"), constant_delay_us("ts", "ts"), constant_delay_us("ts", "ts - INTERVAL 1 MONTH")
    (5000000, 0, None)
    """
    found = _CONSTANT.fullmatch(expression)
    if found is None or found["column"].lower() != column.lower():
        return None
    return int(found["count"]) * _UNIT_US[found["unit"].upper()] if found["unit"] else 0


class RunningWatermark:
    """The watermark of one partition, as its rows go by. Used by one thread at a time."""

    def __init__(self, relation: str, event_time: pa.DataType, watermark: tuple[str, str]) -> None:
        self._relation = relation
        self._column, self._expression = watermark
        self._event_time = event_time
        self._type = watermark_type(event_time)
        self._delay_us = constant_delay_us(*watermark) if event_time.unit == "us" else None
        self._largest = _NONE
        self._session: duckdb.DuckDBPyConnection | None = None
        self._known: tuple[int, int] = (_NONE, _NONE)

    @property
    def current_us(self) -> int | None:
        """The watermark after the rows so far, in microseconds since 1970."""
        if self._known[0] != self._largest:
            self._known = self._largest, int(self._watermarks(np.array([self._largest]))[0])
        return None if self._known[1] == _NONE else self._known[1]

    @property
    def latest(self) -> int | None:
        """The largest event time so far, in the unit of its type."""
        return None if self._largest == _NONE else self._largest

    def resume(self, latest: int | None) -> None:
        """Go on where another one was."""
        self._largest = _NONE if latest is None else latest

    def advance(self, times: pa.Array) -> None:
        """Go past rows with these event times."""
        if len(times) > times.null_count:
            self._largest = max(self._largest, int(_integers(times).max()))

    def advance_by_row(self, times: pa.Array) -> pa.Array:
        """Go past rows with these event times, and give the watermark before each."""
        running = np.empty(len(times) + 1, np.int64)
        running[0] = self._largest
        running[1:] = _integers(times)
        np.maximum.accumulate(running, out=running)
        before = running[:-1]
        self._largest = int(running[-1])
        if self._is_plain(running):
            values = self._minus_delay(before)
        else:
            starts = np.concatenate([np.zeros(1, np.int64), np.flatnonzero(before[1:] != before[:-1]) + 1])
            lengths = np.diff(starts, append=len(before))
            values = np.repeat(self._watermarks(before[starts]), lengths)
        missing = values == _NONE
        return pa.array(values, mask=missing if missing.any() else None).cast(self._type)

    def close(self) -> None:
        """Close the DuckDB that evaluates the expression, if there is one."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _is_plain(self, running: NDArray[np.int64]) -> bool:
        """Tell whether watermarks of these maxima are a subtraction."""
        if self._delay_us is None or running[-1] >= _FAR:
            return False
        first = running[np.searchsorted(running, _NONE, side="right") :][:1]
        return not first.size or bool(first[0] > -_FAR)

    def _minus_delay(self, maxima: NDArray[np.int64]) -> NDArray[np.int64]:
        assert self._delay_us is not None
        known = np.searchsorted(maxima, _NONE, side="right")
        values = np.full(len(maxima), _NONE)
        np.subtract(maxima[known:], self._delay_us, out=values[known:])
        return values

    def _watermarks(self, maxima: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give the watermarks of rising maxima."""
        if self._is_plain(maxima):
            return self._minus_delay(maxima)
        known = maxima[np.searchsorted(maxima, _NONE, side="right") :]
        values = np.full(len(maxima), _NONE)
        if known.size:
            values[len(maxima) - len(known) :] = self._evaluate(known)
        return values

    def _evaluate(self, maxima: NDArray[np.int64]) -> NDArray[np.int64]:
        if self._session is None:
            self._session = private_session()
        session = self._session
        session.register("maxima", pa.table({"place": np.arange(len(maxima)), "time": pa.array(maxima).cast(self._event_time)}))
        try:
            result = session.sql(
                f'SELECT CAST("#watermark" AS TIMESTAMP) FROM (SELECT "#place", ({self._expression}) AS "#watermark" '
                f'FROM maxima AS maxima("#place", {identifier(self._column)})) ORDER BY "#place"'
            ).to_arrow_table()
        except duckdb.Error as error:
            raise DataError(f"{self._relation}: the watermark {self._expression!r} failed: {str(error).splitlines()[0]}") from error
        finally:
            session.unregister("maxima")
        return _integers(result.column(0).combine_chunks())


def _integers(times: pa.Array) -> NDArray[np.int64]:
    """Give timestamps as integers of their unit, `_NONE` for NULL; without NULLs nothing is copied."""
    numbers = times.view(pa.int64())
    if numbers.null_count:
        numbers = pc.fill_null(numbers, int(_NONE))
    return np.asarray(numbers)
