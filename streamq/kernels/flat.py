"""Columns of values that have no values inside: numbers, times, decimals, intervals, strings."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
from pyarrow import types

from streamq.kernels.buffers import Flags, bits, cleared, fixed_array, has_offsets, null_flags, raw_values, validity
from streamq.kernels.layout import Layout, Part, Shape, contiguous

_NAN: Final = int(np.array([np.nan]).view(np.int64)[0])
_DAY_NS: Final = 86_400_000_000_000


class FixedCodec:
    """Values of up to eight bytes that are equal where their bits are: integers, dates, times, timestamps, durations."""

    shape = Shape(lanes=1)

    def __init__(self, kind: pa.DataType) -> None:
        self._kind = kind
        unsigned = types.is_unsigned_integer(kind)
        self._dtype = np.dtype(f"{'u' if unsigned else 'i'}{kind.bit_width // 8}")

    def encode(self, array: pa.Array, absent: Flags | None, layout: Layout) -> None:
        nulls = null_flags(array, absent)
        layout.lanes.append(cleared(raw_values(array, self._dtype).astype(np.int64, copy=False), nulls))
        layout.nulls.append(nulls)

    def decode(self, layout: Layout) -> pa.Array:
        return fixed_array(self._kind, layout.lanes.pop(0).astype(self._dtype, copy=False), layout.nulls.pop(0))


class BoolCodec:
    """Booleans."""

    shape = Shape(lanes=1)

    def encode(self, array: pa.Array, absent: Flags | None, layout: Layout) -> None:
        nulls = null_flags(array, absent)
        layout.lanes.append(cleared(bits(array.buffers()[1], array.offset, len(array)).astype(np.int64), nulls))
        layout.nulls.append(nulls)

    def decode(self, layout: Layout) -> pa.Array:
        values = np.packbits(layout.lanes.pop(0).astype(np.bool_), bitorder="little")
        nulls = layout.nulls.pop(0)
        return pa.Array.from_buffers(pa.bool_(), layout.rows, [validity(nulls), pa.py_buffer(values)])


class NullCodec:
    """Columns of nothing but NULL."""

    shape = Shape()

    def encode(self, array: pa.Array, absent: Flags | None, layout: Layout) -> None:
        layout.nulls.append(np.ones(len(array), np.bool_))

    def decode(self, layout: Layout) -> pa.Array:
        layout.nulls.pop(0)
        return pa.nulls(layout.rows)


class FloatCodec:
    """Floats: every NaN is the same; -0.0 is 0.0 and its sign is carried, unless `exact`."""

    def __init__(self, kind: pa.DataType, exact: bool, carries: bool) -> None:
        self._kind, self._exact, self._carries = kind, exact, carries and not exact
        self._dtype = np.dtype(f"f{kind.bit_width // 8}")
        self.shape = Shape(lanes=1, signs=int(self._carries))

    def encode(self, array: pa.Array, absent: Flags | None, layout: Layout) -> None:
        nulls = null_flags(array, absent)
        values = raw_values(array, self._dtype).astype(np.float64, copy=False)
        words = values.view(np.int64)
        minus = words == np.iinfo(np.int64).min
        if not self._exact and minus.any():
            words = np.where(minus, 0, words)
            signs = minus if nulls is None else minus & ~nulls
        else:
            signs = None
        strange = np.isnan(values)
        if strange.any():
            words = np.where(strange, _NAN, words)
        layout.lanes.append(cleared(words, nulls))
        layout.nulls.append(nulls)
        if self._carries:
            layout.signs.append(signs)

    def decode(self, layout: Layout) -> pa.Array:
        words = layout.lanes.pop(0)
        signs = layout.signs.pop(0) if self._carries else None
        if signs is not None:
            words = np.where(signs, np.iinfo(np.int64).min, words)
        values = np.ascontiguousarray(words).view(np.float64).astype(self._dtype, copy=False)
        return fixed_array(self._kind, values, layout.nulls.pop(0))


class WideCodec:
    """Values of several words: decimals. One word does for decimals of up to 18 digits."""

    def __init__(self, kind: pa.DataType) -> None:
        self._kind = kind
        self._words = kind.bit_width // 64
        self._kept = 1 if kind.precision <= 18 else self._words
        self.shape = Shape(lanes=self._kept)

    def encode(self, array: pa.Array, absent: Flags | None, layout: Layout) -> None:
        nulls = null_flags(array, absent)
        words = raw_values(array, np.dtype(np.int64), self._words).reshape(-1, self._words)
        layout.lanes.extend(cleared(words[:, number], nulls) for number in range(self._kept))
        layout.nulls.append(nulls)

    def decode(self, layout: Layout) -> pa.Array:
        words = np.empty((layout.rows, self._words), np.int64)
        for number in range(self._kept):
            words[:, number] = layout.lanes.pop(0)
        if self._kept < self._words:
            words[:, self._kept :] = words[:, :1] >> 63
        return fixed_array(self._kind, words, layout.nulls.pop(0))


class IntervalCodec:
    """Intervals of months, days and nanoseconds: a month is 30 days, a day 24 hours; how they were written is carried, unless `exact`."""

    def __init__(self, exact: bool) -> None:
        self._exact = exact
        self.shape = Shape(lanes=2) if exact else Shape(lanes=2, carried=2)

    def encode(self, array: pa.Array, absent: Flags | None, layout: Layout) -> None:
        nulls = null_flags(array, absent)
        words = raw_values(array, np.dtype(np.int64), 2).reshape(-1, 2)
        dates, nanos = (cleared(np.ascontiguousarray(words[:, number]), nulls) for number in range(2))
        layout.nulls.append(nulls)
        if not self._exact:
            layout.carried.extend((dates, nanos))
            parts = dates.view(np.int32).reshape(-1, 2).astype(np.int64)
            days = parts[:, 0] * 30 + parts[:, 1] + nanos // _DAY_NS
            dates, nanos = days, nanos % _DAY_NS
        layout.lanes.extend((dates, nanos))

    def decode(self, layout: Layout) -> pa.Array:
        words = [layout.lanes.pop(0), layout.lanes.pop(0)]
        if not self._exact:
            words = [layout.carried.pop(0), layout.carried.pop(0)]
        return fixed_array(pa.month_day_nano_interval(), np.stack(words, axis=1), layout.nulls.pop(0))


class BytesCodec:
    """Strings and binaries of every layout."""

    shape = Shape(parts=1)

    def __init__(self, kind: pa.DataType) -> None:
        self._kind = kind

    def encode(self, array: pa.Array, absent: Flags | None, layout: Layout) -> None:
        nulls = null_flags(array, absent)
        if not has_offsets(array.type):
            array = array.cast(pa.large_binary())
        _, offset_buffer, data = array.buffers()
        dtype = np.dtype(np.int64 if types.is_large_string(array.type) or types.is_large_binary(array.type) else np.int32)
        if offset_buffer is None or not len(array):
            offsets = np.zeros(len(array) + 1, np.int64)
        else:
            offsets = np.frombuffer(offset_buffer, dtype, len(array) + 1, array.offset * dtype.itemsize).astype(np.int64, copy=False)
        lengths = offsets[1:] - offsets[:-1]
        layout.parts.append(Part(offsets[:-1], cleared(lengths, nulls), data.address if data is not None else 0, array))
        layout.nulls.append(nulls)

    def decode(self, layout: Layout) -> pa.Array:
        part, nulls = layout.parts.pop(0), layout.nulls.pop(0)
        offsets, data = contiguous(part)
        if types.is_large_string(self._kind) or types.is_large_binary(self._kind):
            kept, wide = self._kind, True
        else:
            kept, wide = (self._kind, False) if has_offsets(self._kind) else (pa.large_binary(), True)
        if not wide and offsets[-1] >= 2**31:
            raise OverflowError(f"a column of {offsets[-1]} bytes does not fit into {self._kind}")
        buffers = [validity(nulls), pa.py_buffer(offsets if wide else offsets.astype(np.int32)), pa.py_buffer(data)]
        array = pa.Array.from_buffers(kept, layout.rows, buffers)
        return array if kept == self._kind else array.cast(self._kind)
