"""When windows close, and what is then due."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamq.operators.bag import grown
from streamq.operators.base import Epoch
from streamq.plan.dataflow import Closing

NEVER = int(np.iinfo(np.int64).max)
"""The moment that comes only with the end of the sources."""
_UNSET = int(np.iinfo(np.int64).min)
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_DAY_S = 86_400


def horizon(epoch: Epoch) -> int | None:
    """Give what every moment is compared with: a moment is over if it is not later."""
    return NEVER if epoch.ended else epoch.horizon_us


def moments(column: pa.Array, closing: Closing) -> NDArray[np.int64]:
    """Give the horizon, in microseconds, at which each row's window closes; for NULL and infinite times `NEVER`."""
    units, per_second = ticks(column)
    plus = closing.plus_us + (1 if closing.inclusive else 0)
    if per_second <= 1_000_000:
        factor = 1_000_000 // per_second
        most = (NEVER - abs(plus)) // factor
        finite = np.abs(units) < most
        result = np.where(finite, units, 0) * factor + plus
    else:
        factor = per_second // 1_000_000
        finite = (units != NEVER) & (units != -NEVER)
        # An inclusive end is over at the first microsecond after it, another one at the first that is not before it.
        result = (units // factor if closing.inclusive else -(-units // factor)) + plus
    finite &= ~np.asarray(column.is_null())
    return np.where(finite, result, NEVER)


def ticks(column: pa.Array) -> tuple[NDArray[np.int64], int]:
    """Give times as integers (0 for NULL), and how many of them make a second (dates are days, given in seconds)."""
    if pa.types.is_date(column.type):
        days = column.cast(pa.date32()).cast(pa.int32()).cast(pa.int64()).fill_null(0)
        return np.asarray(days) * _DAY_S, 1
    return np.asarray(column.view(pa.int64()).fill_null(0)), _PER_SECOND[column.type.unit]


class Deadlines:
    """Remembers, by code, a moment at which something is due. Finding what is due costs what is due.

    What was said is kept in runs, sorted by moment, of which a later one is at most half as long as the one before it. A code is due when
    the last moment that was said of it is; older ones are passed over when they come up.
    """

    def __init__(self) -> None:
        self._moment = np.zeros(0, np.int64)
        self._runs: list[_Run] = []

    @property
    def bytes(self) -> int:
        return self._moment.nbytes + sum(run.moments.nbytes + run.codes.nbytes for run in self._runs)

    def set(self, codes: NDArray[np.int64], moments: NDArray[np.int64]) -> None:
        """Say when each code is due, instead of what was said of it before. A code that occurs twice is due at one moment."""
        if not len(codes):
            return
        self._moment = grown(self._moment, int(codes.max()) + 1, _UNSET)
        new = self._moment[codes] != moments
        if new.any():
            self._moment[codes[new]] = moments[new]
            self._add(_Run.of(codes[new], moments[new]))

    def unset(self, codes: NDArray[np.int64]) -> None:
        """Forget codes."""
        self._moment[codes[codes < len(self._moment)]] = _UNSET

    def take(self, horizon: int | None) -> NDArray[np.int64]:
        """Give the codes that are due, in the order of their moments, and forget them."""
        if horizon is None or not self._runs:
            return np.zeros(0, np.int64)
        parts = [run.split(horizon) for run in self._runs]
        self._runs = [later for _, later in parts if len(later.codes)]
        due = _Run.of(*(np.concatenate([getattr(first, name) for first, _ in parts]) for name in ("codes", "moments")))
        codes, first = np.unique(due.codes[self._moment[due.codes] == due.moments], return_index=True)
        codes = codes[np.argsort(first)]
        self._moment[codes] = _UNSET
        return codes

    def _add(self, run: _Run) -> None:
        while self._runs and len(self._runs[-1].codes) <= 2 * len(run.codes):
            last = self._runs.pop()
            codes, moments = np.concatenate([last.codes, run.codes]), np.concatenate([last.moments, run.moments])
            valid = self._moment[codes] == moments
            run = _Run.of(codes[valid], moments[valid])
        self._runs.append(run)


@dataclass(frozen=True, slots=True)
class _Run:
    """Codes and their moments, by moment."""

    codes: NDArray[np.int64]
    moments: NDArray[np.int64]

    @classmethod
    def of(cls, codes: NDArray[np.int64], moments: NDArray[np.int64]) -> _Run:
        order = np.argsort(moments, kind="stable")
        return cls(codes[order], moments[order])

    def split(self, horizon: int) -> tuple[_Run, _Run]:
        """Give what is due, and the rest."""
        place = int(np.searchsorted(self.moments, horizon, side="right"))
        return _Run(self.codes[:place], self.moments[:place]), _Run(self.codes[place:], self.moments[place:])
