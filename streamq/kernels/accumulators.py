"""Accumulators: aggregates of groups, kept in columns and addressed by the group's code."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal, localcontext

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamq.errors import DataError
from streamq.plan.dataflow import Accumulate

Codes = NDArray[np.int64]
Weights = NDArray[np.int64]


class Accumulators:
    """Keeps `calls` for every group. With `retracts`, rows can be taken out again (weights below 0), which only exact calls allow."""

    def __init__(self, calls: Sequence[Accumulate], schema: pa.Schema, *, retracts: bool) -> None:
        self._calls = tuple(calls)
        self._schema = schema
        self._retracts = retracts
        self._rows: dict[int, int] = {}
        self._groups: dict[int, list[dict[object, int]]] = {}

    @property
    def bytes(self) -> int:
        """How many bytes the groups take."""
        return 200 * len(self._groups)

    def update(self, codes: Codes, rows: pa.RecordBatch, weights: Weights | None) -> None:
        """Add rows, each to the group of its code, as often as its weight says."""
        times = [1] * len(codes) if weights is None else weights.tolist()
        columns = [None if call.argument is None else rows.column(call.argument).to_pylist() for call in self._calls]
        for row, (code, weight) in enumerate(zip(codes.tolist(), times, strict=True)):
            self._rows[code] = self._rows.get(code, 0) + weight
            bags = self._groups.setdefault(code, [{} for _ in self._calls])
            for bag, column in zip(bags, columns, strict=True):
                value = None if column is None else column[row]
                value = "nan" if isinstance(value, float) and math.isnan(value) else value
                bag[value] = bag.get(value, 0) + weight

    def counts(self, codes: Codes) -> NDArray[np.int64]:
        """Give how many rows each group has."""
        return np.array([self._rows.get(code, 0) for code in codes.tolist()], dtype=np.int64)

    def values(self, codes: Codes) -> list[pa.Array]:
        """Give every call's values for these groups, in the call's type.

        Raises:
            DataError: a value does not fit into the type.
        """
        return [self._column(number, call, codes) for number, call in enumerate(self._calls)]

    def reset(self, codes: Codes) -> None:
        """Make these groups empty."""
        for code in codes.tolist():
            self._rows.pop(code, None)
            self._groups.pop(code, None)

    def snapshot(self, codes: Codes) -> pa.Table:
        """Give the state of these groups, a row each."""
        states = [repr((self._rows.get(code, 0), self._groups.get(code, [{} for _ in self._calls]))) for code in codes.tolist()]
        return pa.table({"state": pa.array(states, pa.string())})

    def restore(self, codes: Codes, state: pa.Table) -> None:
        """Take over what `snapshot` gave, for groups that are empty."""
        for code, text in zip(codes.tolist(), state.column("state").to_pylist(), strict=True):
            self._rows[code], self._groups[code] = eval(text, {"Decimal": Decimal})

    def _column(self, number: int, call: Accumulate, codes: Codes) -> pa.Array:
        values = [_result(call, self._groups[code][number] if code in self._groups else {}) for code in codes.tolist()]
        try:
            return pa.array(values, call.type)
        except pa.ArrowInvalid as error:
            raise DataError(f"{call.function} is out of the range of {call.type}") from error


def _result(call: Accumulate, bag: dict[object, int]) -> object:
    if call.function == "count_star":
        return sum(bag.values())
    kept = {(math.nan if value == "nan" else value): weight for value, weight in bag.items() if value is not None}
    count = sum(kept.values())
    if call.function == "count":
        return count
    if not count:
        return None
    return _aggregate(call.function, kept, count)


def _aggregate(function: str, kept: dict[object, int], count: int) -> object:
    values: list[tuple[object, int]] = list(kept.items())
    if function in ("min", "max"):
        pick = min if function == "min" else max
        return pick((value for value, _ in values), key=_order)
    with localcontext() as context:
        context.prec = 76
        total = sum(value * weight for value, weight in values)  # type: ignore[operator,misc]
    if function == "sum":
        return total
    if function == "avg":
        return float(total) / count
    mean = float(total) / count
    squares = math.fsum((float(str(value)) - mean) ** 2 * weight for value, weight in values)
    divisor = count if function.endswith("pop") else count - 1
    if divisor == 0:
        return None
    return math.sqrt(squares / divisor) if function.startswith("stddev") else squares / divisor


def _order(value: object) -> tuple[bool, object]:
    nan = isinstance(value, float) and math.isnan(value)
    return nan, 0 if nan else value
