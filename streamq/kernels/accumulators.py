"""Accumulators: aggregates of groups, kept in a record per group and addressed by the group's code."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import types

from streamq.errors import DataError
from streamq.kernels.buffers import bits, null_flags, raw_values
from streamq.kernels.compiled import accumulators as loops
from streamq.kernels.compiled.index import gather
from streamq.kernels.memory import Records, frozen
from streamq.plan.dataflow import Accumulate

Codes = NDArray[np.int64]
Weights = NDArray[np.int64]
Words = NDArray[np.int64]

_TOP: Final = int(np.iinfo(np.int64).min)
_FAR_BYTES: Final = 1 << 21
"""Groups of more bytes than this in all are not in a processor's own caches."""
_MOST: Final = divmod(10**38, 2**64)
"""The least number that a decimal cannot hold, as its high and low word."""
_NOTHING: Final = frozen(np.zeros(0, np.int64), np.int64)
_ALL_VALID: Final = frozen(np.zeros(0, np.uint8), np.uint8)


@dataclass(frozen=True, slots=True)
class _Cell:
    """What is kept of one argument: the words of the record, -1 where something is not kept."""

    argument: str
    kind: pa.DataType
    count: int
    total: int
    least: int
    greatest: int
    moments: int

    @property
    def wide(self) -> bool:
        return bool(types.is_decimal(self.kind) and self.kind.bit_width == 128 and self.kind.precision > 18)


class Accumulators:
    """Keeps `calls` for every group. With `retracts`, rows can be taken out again (weights below 0), which only exact calls allow.

    Groups are codes as a key index gives them; a group that was never updated is empty. Floats add up in the order in which they come.
    """

    def __init__(self, calls: Sequence[Accumulate], schema: pa.Schema, *, retracts: bool) -> None:
        self._calls = tuple(calls)
        self._cells, width, self._names = _cells(self._calls, schema)
        if retracts and not subtracts(self._calls, schema):
            raise TypeError("of these calls some cannot take rows out again")
        self._records = Records(width)
        self._used = 0

    @property
    def bytes(self) -> int:
        """How many bytes the groups take."""
        return self._used * self._records.width * 8

    def update(self, codes: Codes, rows: pa.RecordBatch, weights: Weights | None) -> None:
        """Add rows, each to the group of its code, as often as its weight says.

        Raises:
            DataError: a sum does not fit into 128 bits. The accumulators must not be used any more.
        """
        if len(codes):
            self._update(self._known(codes), rows, weights)

    def load(self) -> None:
        """Load the loops, which the first rows would else wait for."""
        columns = {cell.argument: pa.array([], cell.kind) for cell in self._cells}
        codes = self._known(np.zeros(0, np.int64))
        self._update(codes, pa.record_batch(columns), None)
        self.values(codes)

    def _update(self, codes: Codes, rows: pa.RecordBatch, weights: Weights | None) -> None:
        times = _NOTHING if weights is None else frozen(weights, np.int64)
        if not self._cells:
            self._count(codes, _ALL_VALID, times, 0, -1)
        for number, cell in enumerate(self._cells):
            if self._add(cell, codes, rows.column(cell.argument), times, 0 if number == 0 else -1):
                raise DataError(f"a sum of {cell.argument} does not fit into 128 bits")

    def merge(self, codes: Codes, other: Accumulators, others: Codes, *, sign: int = 1) -> None:
        """Add groups of accumulators of the same calls to groups of these; `sign` -1 takes them out again, which only exact calls allow.

        Raises:
            DataError: a sum does not fit into 128 bits.
        """
        codes, others = self._known(codes), other._known(others)
        mine, theirs = self._records, other._records
        if not self._cells:
            loops.merge(codes, mine.chunks, others, theirs.chunks, mine.width, sign, 0, -1, -1, False, -1, -1, False, -1)
        for number, cell in enumerate(self._cells):
            rows_at = 0 if number == 0 else -1
            places = _places(cell)
            floats, wide = types.is_floating(cell.kind), cell.wide
            count, total, least, greatest, moments = places
            if loops.merge(
                codes, mine.chunks, others, theirs.chunks, mine.width, sign, rows_at, count, total, floats, least, greatest, wide, moments
            ):
                raise DataError(f"a sum of {cell.argument} does not fit into 128 bits")

    def counts(self, codes: Codes) -> NDArray[np.int64]:
        """Give how many rows each group has."""
        out = np.empty(len(codes), np.int64)
        gather(self._known(codes), self._records.chunks, self._records.width, 0, out.reshape(1, -1))
        return out

    def values(self, codes: Codes) -> list[pa.Array]:
        """Give every call's values for these groups, in the call's type.

        Raises:
            DataError: a value does not fit into the type.
        """
        words = self._words(codes)
        cells = {cell.argument: cell for cell in self._cells}
        return [_typed(call, _value(call, cells.get(call.argument or ""), words)) for call in self._calls]

    def reset(self, codes: Codes) -> None:
        """Make these groups empty."""
        loops.clear(self._known(codes), self._records.chunks, self._records.width)

    def snapshot(self, codes: Codes) -> pa.Table:
        """Give the state of these groups, a row each."""
        return pa.table([pa.array(word) for word in self._words(codes)], names=list(self._names))

    def restore(self, codes: Codes, state: pa.Table) -> None:
        """Take over what `snapshot` gave, for groups that are empty."""
        words = np.array([state.column(name).to_numpy() for name in self._names], np.int64).reshape(len(self._names), len(codes))
        loops.scatter(self._known(codes), self._records.chunks, self._records.width, frozen(words, np.int64))

    def _known(self, codes: Codes) -> Codes:
        """Have records for these codes, and give them as loops take them."""
        if len(codes):
            self._used = max(self._used, int(codes.max()) + 1)
            self._records.reserve(self._used)
        return frozen(codes, np.int64)

    def _words(self, codes: Codes) -> Words:
        words = np.empty((self._records.width, len(codes)), np.int64)
        gather(self._known(codes), self._records.chunks, self._records.width, 0, words)
        return words

    def _add(self, cell: _Cell, codes: Codes, array: pa.Array, weights: Weights, rows_at: int) -> int:
        records, far = self._records, self.bytes > _FAR_BYTES
        if types.is_dictionary(array.type):
            array = array.dictionary_decode()
        nulls = np.ones(len(array), np.bool_) if types.is_null(array.type) else null_flags(array)
        valid = _ALL_VALID if nulls is None else frozen(~nulls, np.uint8)
        count, total, least, greatest, moments = _places(cell)
        if max(total, least, greatest, moments) < 0:
            return self._count(codes, valid, weights, rows_at, count)
        values = _lane(array, cell)
        if types.is_floating(cell.kind):
            floats = frozen(values, np.float64)
            return int(
                loops.add_floats(
                    codes, floats, valid, weights, far, rows_at, count, total, least, greatest, moments, records.chunks, records.width
                )
            )
        integers = frozen(values, np.int64)
        if cell.wide:
            return int(
                loops.add_wides(codes, integers, valid, weights, far, rows_at, count, total, least, greatest, records.chunks, records.width)
            )
        flip = _TOP if types.is_uint64(cell.kind) else 0
        return int(
            loops.add_integers(
                codes, integers, flip, valid, weights, far, rows_at, count, total, least, greatest, moments, records.chunks, records.width
            )
        )

    def _count(self, codes: Codes, valid: NDArray[np.uint8], weights: Weights, rows_at: int, count: int) -> int:
        """Count rows, and values that are not NULL."""
        records, far = self._records, self.bytes > _FAR_BYTES
        loops.add_integers(codes, codes, 0, valid, weights, far, rows_at, count, -1, -1, -1, -1, records.chunks, records.width)
        return 0


def subtracts(calls: Sequence[Accumulate], schema: pa.Schema) -> bool:
    """Tell whether all calls are exact, so that rows can be taken out again."""
    return all(_subtracts(call, schema) for call in calls)


def _places(cell: _Cell) -> tuple[int, int, int, int, int]:
    """Give where in a record a cell has its count, sum, least, greatest and moments, in bytes."""
    count, total, least, greatest, moments = (
        8 * word if word >= 0 else -1 for word in (cell.count, cell.total, cell.least, cell.greatest, cell.moments)
    )
    return count, total, least, greatest, moments


def _cells(calls: Sequence[Accumulate], schema: pa.Schema) -> tuple[list[_Cell], int, tuple[str, ...]]:
    """Lay the record out: what all calls of an argument need is kept once."""
    names = ["rows"]
    cells = []

    def words(argument: str, what: str, count: int) -> int:
        names.extend(f"{what}{number or ''}({argument})" for number in range(count))
        return len(names) - count

    for argument in dict.fromkeys(call.argument for call in calls if call.argument is not None):
        functions = {call.function for call in calls if call.argument == argument}
        kind = schema.field(argument).type
        cell = _Cell(argument, kind, words(argument, "count", 1), -1, -1, -1, -1)
        floating, size = types.is_floating(kind), 2 if cell.wide else 1
        total = words(argument, "sum", 1 if floating else 2) if functions & {"sum", "avg"} else -1
        least = words(argument, "min", size) if "min" in functions else -1
        greatest = words(argument, "max", size) if "max" in functions else -1
        moments = words(argument, "moment", 2) if functions & {"var_pop", "var_samp", "stddev_pop", "stddev_samp"} else -1
        cells.append(_Cell(argument, kind, cell.count, total, least, greatest, moments))
        _check(kind, functions)
    return cells, len(names), tuple(names)


def _check(kind: pa.DataType, functions: Set[str]) -> None:
    numeric = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or types.is_null(kind)
    decimal = types.is_decimal(kind) and kind.bit_width <= 128
    temporal = types.is_temporal(kind) and not types.is_interval(kind)
    allowed = {"count"}
    if numeric or decimal:
        allowed |= {"sum", "avg", "min", "max"}
    if numeric:
        allowed |= {"var_pop", "var_samp", "stddev_pop", "stddev_samp"}
    if temporal:
        allowed |= {"min", "max"}
    if functions - allowed:
        raise TypeError(f"{', '.join(sorted(functions - allowed))} of {kind} cannot be accumulated")


def _subtracts(call: Accumulate, schema: pa.Schema) -> bool:
    if call.function in ("count_star", "count"):
        return True
    kind = schema.field(call.argument).type
    return call.function in ("sum", "avg") and not types.is_floating(kind)


def _lane(array: pa.Array, cell: _Cell) -> NDArray[np.generic]:
    """Give an argument's values as the loops take them."""
    kind = array.type
    if kind != cell.kind and not types.is_dictionary(cell.kind):
        array, kind = array.cast(cell.kind), cell.kind
    if types.is_null(kind):
        return np.zeros(len(array), np.int64)
    if types.is_boolean(kind):
        return bits(array.buffers()[1], array.offset, len(array)).astype(np.int64)
    if types.is_floating(kind):
        return raw_values(array, np.dtype(f"f{kind.bit_width // 8}")).astype(np.float64, copy=False)
    if types.is_decimal(kind) and kind.bit_width == 128:
        words = raw_values(array, np.dtype(np.int64), 2)
        return words if cell.wide else words[::2]
    unsigned = types.is_unsigned_integer(kind)
    return raw_values(array, np.dtype(f"{'u' if unsigned else 'i'}{kind.bit_width // 8}")).astype(np.int64, copy=False)


def _value(call: Accumulate, cell: _Cell | None, words: Words) -> pa.Array:
    """Give a call's values in the type that they come in."""
    if cell is None:
        return pa.array(words[0])
    counts = words[cell.count]
    match call.function:
        case "count_star":
            return pa.array(words[0])
        case "count":
            return pa.array(counts)
        case "sum":
            return _sum(call, cell, words, counts)
        case "avg":
            return _average(cell, words, counts)
        case "min":
            return _extreme(cell, words[cell.least : cell.least + 2], counts)
        case "max":
            return _extreme(cell, words[cell.greatest : cell.greatest + 2], counts)
        case _:
            return _deviation(call.function, words[cell.moments + 1].view(np.float64), counts)


def _sum(call: Accumulate, cell: _Cell, words: Words, counts: Words) -> pa.Array:
    if types.is_floating(cell.kind):
        return pa.array(words[cell.total].view(np.float64), mask=counts == 0)
    low, high = frozen(words[cell.total], np.int64), frozen(words[cell.total + 1], np.int64)
    values = np.empty(2 * len(counts), np.int64)
    if not loops.sum_values(low, high, frozen(counts, np.int64), *_MOST, values):
        raise DataError(f"{call.function}({cell.argument}) is out of the range of {call.type}")
    kind = pa.decimal128(38, _scale(cell.kind))
    return _with_nulls(kind, values, counts == 0)


def _average(cell: _Cell, words: Words, counts: Words) -> pa.Array:
    if types.is_floating(cell.kind):
        with np.errstate(invalid="ignore", divide="ignore"):
            return pa.array(words[cell.total].view(np.float64) / counts, mask=counts == 0)
    values = np.empty(len(counts), np.float64)
    low, high = frozen(words[cell.total], np.int64), frozen(words[cell.total + 1], np.int64)
    loops.average_values(low, high, frozen(counts, np.int64), 10.0 ** _scale(cell.kind), values)
    return _with_nulls(pa.float64(), values, counts == 0)


def _extreme(cell: _Cell, words: Words, counts: Words) -> pa.Array:
    kind = cell.kind
    if types.is_null(kind):
        return pa.nulls(len(counts))
    if cell.wide:
        return _with_nulls(kind, np.ascontiguousarray(words.T), counts == 0)
    keys = words[0]
    if types.is_decimal(kind) and kind.bit_width == 128:
        return _with_nulls(kind, np.stack((keys, keys >> 63), axis=1), counts == 0)
    if types.is_floating(kind):
        bits_of = keys ^ ((keys >> 63) & np.iinfo(np.int64).max)
        return _with_nulls(kind, bits_of.view(np.float64).astype(f"f{kind.bit_width // 8}"), counts == 0)
    if types.is_boolean(kind):
        return pa.array(keys != 0, mask=counts == 0)
    values = keys ^ _TOP if types.is_uint64(kind) else keys
    unsigned = types.is_unsigned_integer(kind)
    return _with_nulls(kind, values.astype(f"{'u' if unsigned else 'i'}{kind.bit_width // 8}", copy=False), counts == 0)


def _deviation(function: str, squares: NDArray[np.float64], counts: Words) -> pa.Array:
    divisor = counts if function.endswith("pop") else counts - 1
    with np.errstate(invalid="ignore", divide="ignore"):
        # One value differs from no other, even if it is infinite.
        values = np.where(counts == 1, 0.0, squares) / divisor
        if function.startswith("stddev"):
            values = np.sqrt(values)
    return pa.array(values, mask=divisor < 1)


def _typed(call: Accumulate, values: pa.Array) -> pa.Array:
    if values.type == call.type:
        return values
    try:
        return values.cast(call.type)
    except pa.ArrowInvalid as error:
        raise DataError(f"{call.function}({call.argument}) is out of the range of {call.type}") from error


def _scale(kind: pa.DataType) -> int:
    return int(kind.scale) if types.is_decimal(kind) else 0


def _with_nulls(kind: pa.DataType, values: NDArray[np.generic], nulls: NDArray[np.bool_]) -> pa.Array:
    validity = pa.py_buffer(np.packbits(~nulls, bitorder="little")) if nulls.any() else None
    return pa.Array.from_buffers(kind, len(nulls), [validity, pa.py_buffer(values)])
