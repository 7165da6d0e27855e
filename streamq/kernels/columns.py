"""Columns of any type as words and bytes that are equal where values are, and back.

A row becomes *lanes* (64-bit words of fixed-width values, NULL flags, lengths) and *parts* (byte strings). Lanes that are only *carried*
say how equal values were written (-0.0 is 0.0, a month is 30 days) and are given back, but make no difference. Nested values become
lanes and parts of their own; of lists, every item is laid out as bytes. `exact` compares what would else be carried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import types

from streamq.kernels.compiled.packing import copy_pieces, copy_words, count_items, item_places, read_words
from streamq.kernels.memory import address_of, frozen

Words = NDArray[np.int64]
Flags = NDArray[np.bool_]
_NAN: Final = int(np.array([np.nan]).view(np.int64)[0])
_DAY_NS: Final = 86_400_000_000_000


@dataclass(frozen=True, slots=True)
class Part:
    """A byte string per row: `lengths` bytes from `starts` on, in memory at `address` that `owner` holds."""

    starts: Words
    lengths: Words
    address: int
    owner: object


@dataclass(slots=True)
class Layout:
    """What columns were taken apart into, or are put together from, in the order of the columns."""

    rows: int
    lanes: list[Words] = field(default_factory=list)
    carried: list[Words] = field(default_factory=list)
    nulls: list[Flags | None] = field(default_factory=list)
    signs: list[Flags | None] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Shape:
    """How many of each a column takes of a layout."""

    lanes: int = 0
    carried: int = 0
    nulls: int = 1
    signs: int = 0
    parts: int = 0

    def __add__(self, other: Shape) -> Shape:
        return Shape(
            self.lanes + other.lanes,
            self.carried + other.carried,
            self.nulls + other.nulls,
            self.signs + other.signs,
            self.parts + other.parts,
        )


class Codec(Protocol):
    """Takes columns of one type apart and puts them together."""

    shape: Shape

    def encode(self, array: pa.Array, absent: Flags | None, layout: Layout) -> None:
        """Append the column, whose rows are also NULL where `absent`."""

    def decode(self, layout: Layout) -> pa.Array:
        """Take the column off the front of a layout."""


class FixedCodec:
    """Values of up to eight bytes that are equal where their bits are: integers, dates, times, timestamps, durations."""

    shape = Shape(lanes=1)

    def __init__(self, kind: pa.DataType) -> None:
        self._kind = kind
        unsigned = types.is_unsigned_integer(kind)
        self._dtype = np.dtype(f"{'u' if unsigned else 'i'}{kind.bit_width // 8}")

    def encode(self, array: pa.Array, absent: Flags | None, layout: Layout) -> None:
        nulls = null_flags(array, absent)
        layout.lanes.append(_cleared(raw_values(array, self._dtype).astype(np.int64, copy=False), nulls))
        layout.nulls.append(nulls)

    def decode(self, layout: Layout) -> pa.Array:
        return _fixed(self._kind, layout.lanes.pop(0).astype(self._dtype, copy=False), layout.nulls.pop(0))


class BoolCodec:
    """Booleans."""

    shape = Shape(lanes=1)

    def encode(self, array: pa.Array, absent: Flags | None, layout: Layout) -> None:
        nulls = null_flags(array, absent)
        layout.lanes.append(_cleared(bits(array.buffers()[1], array.offset, len(array)).astype(np.int64), nulls))
        layout.nulls.append(nulls)

    def decode(self, layout: Layout) -> pa.Array:
        values = np.packbits(layout.lanes.pop(0).astype(np.bool_), bitorder="little")
        nulls = layout.nulls.pop(0)
        return pa.Array.from_buffers(pa.bool_(), layout.rows, [_validity(nulls), pa.py_buffer(values)])


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
        layout.lanes.append(_cleared(words, nulls))
        layout.nulls.append(nulls)
        if self._carries:
            layout.signs.append(signs)

    def decode(self, layout: Layout) -> pa.Array:
        words = layout.lanes.pop(0)
        signs = layout.signs.pop(0) if self._carries else None
        if signs is not None:
            words = np.where(signs, np.iinfo(np.int64).min, words)
        values = np.ascontiguousarray(words).view(np.float64).astype(self._dtype, copy=False)
        return _fixed(self._kind, values, layout.nulls.pop(0))


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
        layout.lanes.extend(_cleared(words[:, number], nulls) for number in range(self._kept))
        layout.nulls.append(nulls)

    def decode(self, layout: Layout) -> pa.Array:
        words = np.empty((layout.rows, self._words), np.int64)
        for number in range(self._kept):
            words[:, number] = layout.lanes.pop(0)
        if self._kept < self._words:
            words[:, self._kept :] = words[:, :1] >> 63
        return _fixed(self._kind, words, layout.nulls.pop(0))


class IntervalCodec:
    """Intervals of months, days and nanoseconds: a month is 30 days, a day 24 hours; how they were written is carried, unless `exact`."""

    def __init__(self, exact: bool) -> None:
        self._exact = exact
        self.shape = Shape(lanes=2) if exact else Shape(lanes=2, carried=2)

    def encode(self, array: pa.Array, absent: Flags | None, layout: Layout) -> None:
        nulls = null_flags(array, absent)
        words = raw_values(array, np.dtype(np.int64), 2).reshape(-1, 2)
        dates, nanos = (_cleared(np.ascontiguousarray(words[:, number]), nulls) for number in range(2))
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
        return _fixed(pa.month_day_nano_interval(), np.stack(words, axis=1), layout.nulls.pop(0))


class BytesCodec:
    """Strings and binaries of every layout."""

    shape = Shape(parts=1)

    def __init__(self, kind: pa.DataType) -> None:
        self._kind = kind

    def encode(self, array: pa.Array, absent: Flags | None, layout: Layout) -> None:
        nulls = null_flags(array, absent)
        if not _has_offsets(array.type):
            array = array.cast(pa.large_binary())
        _, offset_buffer, data = array.buffers()
        dtype = np.dtype(np.int64 if types.is_large_string(array.type) or types.is_large_binary(array.type) else np.int32)
        if offset_buffer is None or not len(array):
            offsets = np.zeros(len(array) + 1, np.int64)
        else:
            offsets = np.frombuffer(offset_buffer, dtype, len(array) + 1, array.offset * dtype.itemsize).astype(np.int64, copy=False)
        lengths = offsets[1:] - offsets[:-1]
        layout.parts.append(Part(offsets[:-1], _cleared(lengths, nulls), data.address if data is not None else 0, array))
        layout.nulls.append(nulls)

    def decode(self, layout: Layout) -> pa.Array:
        part, nulls = layout.parts.pop(0), layout.nulls.pop(0)
        offsets, data = contiguous(part)
        if types.is_large_string(self._kind) or types.is_large_binary(self._kind):
            kept, wide = self._kind, True
        else:
            kept, wide = (self._kind, False) if _has_offsets(self._kind) else (pa.large_binary(), True)
        if not wide and offsets[-1] >= 2**31:
            raise OverflowError(f"a column of {offsets[-1]} bytes does not fit into {self._kind}")
        buffers = [_validity(nulls), pa.py_buffer(offsets if wide else offsets.astype(np.int32)), pa.py_buffer(data)]
        array = pa.Array.from_buffers(kept, layout.rows, buffers)
        return array if kept == self._kind else array.cast(self._kind)


class DictionaryCodec:
    """Dictionaries, by the values that they stand for."""

    def __init__(self, kind: pa.DataType, exact: bool, carries: bool) -> None:
        self._kind = kind
        self._values = codec(kind.value_type, exact, carries)
        self.shape = self._values.shape

    def encode(self, array: pa.Array, absent: Flags | None, layout: Layout) -> None:
        self._values.encode(array.dictionary_decode(), absent, layout)

    def decode(self, layout: Layout) -> pa.Array:
        return self._values.decode(layout).dictionary_encode().cast(self._kind)


class StructCodec:
    """Structs: a flag for the struct itself, then its fields, which are NULL where it is."""

    def __init__(self, kind: pa.DataType, exact: bool, carries: bool) -> None:
        self._kind = kind
        self._fields = [codec(kind.field(number).type, exact, carries) for number in range(kind.num_fields)]
        self.shape = sum((one.shape for one in self._fields), Shape())

    def encode(self, array: pa.Array, absent: Flags | None, layout: Layout) -> None:
        nulls = null_flags(array, absent)
        layout.nulls.append(nulls)
        for number, one in enumerate(self._fields):
            one.encode(array.field(number), nulls, layout)

    def decode(self, layout: Layout) -> pa.Array:
        nulls = layout.nulls.pop(0)
        fields = [one.decode(layout) for one in self._fields]
        buffers = [_validity(nulls)]
        return pa.Array.from_buffers(self._kind, layout.rows, buffers, children=fields)


class ListCodec:
    """Lists and maps: the items, one after the other, each as its words and then its bytes."""

    shape = Shape(parts=1)

    def __init__(self, kind: pa.DataType, exact: bool) -> None:
        self._kind = kind
        item = pa.struct([kind.key_field, kind.item_field]) if types.is_map(kind) else kind.value_type
        self._item = RowCodec([item], exact=exact, carries=False)
        self._list = pa.large_list(pa.field("item", item))

    def encode(self, array: pa.Array, absent: Flags | None, layout: Layout) -> None:
        nulls = null_flags(array, absent)
        first, last, values = _items(array)
        if nulls is not None:
            last = np.where(nulls, first, last)
        items = self._item.encode([values])
        places, data = _laid_out(items)
        layout.parts.append(Part(places[first], places[last] - places[first], address_of(data), data))
        layout.nulls.append(nulls)

    def decode(self, layout: Layout) -> pa.Array:
        part, nulls = layout.parts.pop(0), layout.nulls.pop(0)
        width, parts = self._item.compared + self._item.parts, self._item.parts
        starts, lengths = frozen(part.starts, np.int64), frozen(part.lengths, np.int64)
        counts = np.zeros(layout.rows, np.int64)
        count_items(part.address, starts, lengths, width, parts, counts)
        places = np.empty(int(counts.sum()), np.int64)
        item_places(part.address, starts, lengths, width, parts, places)
        words = np.empty((width, len(places)), np.int64)
        read_words(part.address, frozen(places, np.int64), words)
        values = self._item.decode(_read_items(words, places, parts, part))[0]
        offsets = np.concatenate(([0], np.cumsum(counts)))
        return _lists(self._kind, self._list, offsets, values, nulls)


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows taken apart: `words` has a column a row; the first `compared` words are the key, the rest is carried."""

    count: int
    words: list[Words]
    compared: int
    parts: list[Part]


class RowCodec:
    """Takes rows of several columns apart: their lanes, then words of NULL flags, are compared; lanes and signs are carried.

    Without `carries`, nothing is carried, and how equal values were written is lost (unless `exact`).
    """

    def __init__(self, kinds: Sequence[pa.DataType], *, exact: bool, carries: bool = True) -> None:
        self._kinds = tuple(kinds)
        self._codecs = [codec(kind, exact, carries) for kind in kinds]
        self._shape = sum((one.shape for one in self._codecs), Shape(nulls=0))
        self.parts = self._shape.parts
        self.compared = self._shape.lanes + _flag_words(self._shape.nulls)
        self.carried = self._shape.carried + _flag_words(self._shape.signs)
        self.single = len(kinds) == 1 and self._shape.nulls == 1
        """One column, whose NULL needs no flag among others."""

    def layout(self, columns: Sequence[pa.Array | pa.ChunkedArray]) -> Layout:
        """Take columns apart, in Arrow's terms."""
        layout = Layout(len(columns[0]) if columns else 0)
        for column, one, kind in zip(columns, self._codecs, self._kinds, strict=True):
            array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
            one.encode(array if array.type == kind else array.cast(kind), None, layout)
        return layout

    def encode(self, columns: Sequence[pa.Array | pa.ChunkedArray]) -> Rows:
        """Take rows apart."""
        return self.rows(self.layout(columns))

    def rows(self, layout: Layout) -> Rows:
        """Give a layout's lanes and flags as words."""
        words = [*layout.lanes, *_flag_lanes(layout.nulls, layout.rows), *layout.carried, *_flag_lanes(layout.signs, layout.rows)]
        return Rows(layout.rows, words, self.compared, layout.parts)

    def decode(self, rows: Rows) -> list[pa.Array]:
        """Put columns together."""
        shape, words = self._shape, rows.words
        carried = words[self.compared :]
        layout = Layout(
            rows.count,
            words[: shape.lanes],
            carried[: shape.carried],
            _flags(words[shape.lanes : self.compared], shape.nulls),
            _flags(carried[shape.carried :], shape.signs),
            list(rows.parts),
        )
        return [one.decode(layout) for one in self._codecs]


def codec(kind: pa.DataType, exact: bool, carries: bool) -> Codec:
    """Give the codec for a type.

    Raises:
        TypeError: no values of this type can be told apart.
    """
    match kind:
        case _ if types.is_null(kind):
            return NullCodec()
        case _ if types.is_boolean(kind):
            return BoolCodec()
        case _ if types.is_floating(kind):
            return FloatCodec(kind, exact, carries)
        case _ if types.is_decimal(kind) and kind.bit_width >= 64:
            return WideCodec(kind)
        case _ if types.is_integer(kind) or (types.is_temporal(kind) and not types.is_interval(kind)) or types.is_decimal(kind):
            return FixedCodec(kind)
        case _ if types.is_interval(kind):
            return IntervalCodec(exact or not carries)
        case _ if types.is_dictionary(kind):
            return DictionaryCodec(kind, exact, carries)
        case _ if types.is_struct(kind):
            return StructCodec(kind, exact, carries)
        case _ if types.is_nested(kind) and not types.is_union(kind):
            return ListCodec(kind, exact)
        case _ if _has_offsets(kind) or types.is_fixed_size_binary(kind) or types.is_string_view(kind) or types.is_binary_view(kind):
            return BytesCodec(kind)
        case _:
            raise TypeError(f"values of type {kind} cannot be told apart")


def bits(buffer: pa.Buffer, offset: int, rows: int) -> NDArray[np.uint8]:
    """Give bits of a bitmap, a byte each."""
    first = offset >> 3
    packed = np.frombuffer(buffer, np.uint8, (offset + rows + 7 >> 3) - first, first)
    return np.unpackbits(packed, bitorder="little")[offset & 7 : (offset & 7) + rows]


def null_flags(array: pa.Array, absent: Flags | None = None) -> Flags | None:
    """Tell which rows are NULL, or None if none is."""
    if array.null_count == 0 or types.is_null(array.type):
        return absent
    nulls: Flags = bits(array.buffers()[0], array.offset, len(array)) == 0
    return nulls if absent is None else nulls | absent


def raw_values(array: pa.Array, dtype: np.dtype[Any], each: int = 1) -> NDArray[Any]:
    """Give the values of a fixed-width column as they lie in memory, `each` numbers a row."""
    buffer = array.buffers()[1]
    if buffer is None or not len(array):
        return np.zeros(len(array) * each, dtype)
    return np.frombuffer(buffer, dtype, len(array) * each, array.offset * each * dtype.itemsize)


def contiguous(part: Part) -> tuple[Words, NDArray[np.uint8]]:
    """Give byte strings one after the other: offsets and bytes."""
    offsets = np.zeros(len(part.lengths) + 1, np.int64)
    np.cumsum(part.lengths, out=offsets[1:])
    if isinstance(part.owner, np.ndarray) and np.array_equal(part.starts, offsets[:-1]):
        return offsets, part.owner.view(np.uint8)[: offsets[-1]]
    data = np.empty(int(offsets[-1]), np.uint8)
    copy_pieces(
        part.address, frozen(part.starts, np.int64), frozen(part.lengths, np.int64), address_of(data), frozen(offsets[:-1], np.int64)
    )
    return offsets, data


def joined(parts: Sequence[Part], rows: int) -> Part:
    """Give one byte string per row, of those of several parts one after the other."""
    if len(parts) == 1:
        return parts[0]
    lengths: Words = np.array([part.lengths for part in parts], np.int64).sum(axis=0)
    offsets = np.zeros(rows + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    data = np.empty(int(offsets[-1]), np.uint8)
    at = offsets[:-1].copy()
    for part in parts:
        copy_pieces(part.address, frozen(part.starts, np.int64), frozen(part.lengths, np.int64), address_of(data), frozen(at, np.int64))
        at += part.lengths
    return Part(offsets[:-1], lengths, address_of(data), data)


def split(whole: Part, lengths: Sequence[Words]) -> list[Part]:
    """Undo `joined`, given the lengths of the parts."""
    parts = []
    at = whole.starts
    for length in lengths:
        parts.append(Part(at, length, whole.address, whole.owner))
        at = at + length
    return parts


def _laid_out(rows: Rows) -> tuple[Words, NDArray[np.uint8]]:
    """Write every row as bytes: its words, the lengths of its parts, its parts. Give where each begins, the end too, and the bytes."""
    lanes = [*rows.words, *(part.lengths for part in rows.parts)]
    words = np.array(lanes, np.int64).reshape(len(lanes), rows.count)
    places = np.zeros(rows.count + 1, np.int64)
    np.cumsum(words[len(rows.words) :].sum(axis=0) + 8 * len(words), out=places[1:])
    data = np.empty(int(places[-1]), np.uint8)
    copy_words(frozen(words, np.int64), address_of(data), frozen(places[:-1], np.int64))
    at = places[:-1] + 8 * len(words)
    for part in rows.parts:
        copy_pieces(part.address, frozen(part.starts, np.int64), frozen(part.lengths, np.int64), address_of(data), frozen(at, np.int64))
        at = at + part.lengths
    return places, data


def _read_items(words: Words, places: Words, parts: int, part: Part) -> Rows:
    kept = len(words) - parts
    whole = Part(places + 8 * len(words), np.zeros_like(places), part.address, part.owner)
    return Rows(len(places), list(words[:kept]), kept, split(whole, list(words[kept:])))


def _items(array: pa.Array) -> tuple[Words, Words, pa.Array]:
    """Give where each list begins and ends among the items, and the items."""
    kind = array.type
    if types.is_fixed_size_list(kind):
        first = (np.arange(len(array), dtype=np.int64) + array.offset) * kind.list_size
        last, values = first + kind.list_size, array.values
    else:
        if types.is_list_view(kind) or types.is_large_list_view(kind):
            array = array.cast(pa.large_list(kind.value_field))
        offsets = array.offsets.to_numpy().astype(np.int64)
        first, last = offsets[:-1], offsets[1:]
        values = (
            pa.StructArray.from_arrays([array.keys, array.items], fields=[kind.key_field, kind.item_field])
            if types.is_map(kind)
            else array.values
        )
    if not len(array):
        return first, last, values.slice(0, 0)
    begin, end = int(first[0]), int(last[-1])
    return first - begin, last - begin, values.slice(begin, end - begin)


def _lists(kind: pa.DataType, like: pa.DataType, offsets: Words, values: pa.Array, nulls: Flags | None) -> pa.Array:
    rows = len(offsets) - 1
    if types.is_map(kind):
        pieces = [_validity(nulls), pa.py_buffer(offsets.astype(np.int32))]
        entries = pa.Array.from_buffers(
            pa.struct([kind.key_field, kind.item_field]), len(values), [None], children=[values.field(0), values.field(1)]
        )
        return pa.Array.from_buffers(kind, rows, pieces, children=[entries])
    if types.is_fixed_size_list(kind):
        full = np.full(rows, kind.list_size)
        source = offsets[:-1][:, None] + np.arange(kind.list_size) if kind.list_size else np.zeros((rows, 0), np.int64)
        absent = np.repeat((offsets[1:] - offsets[:-1]) != full, kind.list_size)
        taken = values.take(pa.array(np.where(absent, 0, source.reshape(-1)), mask=absent))
        return pa.Array.from_buffers(kind, rows, [_validity(nulls)], children=[taken])
    array = pa.Array.from_buffers(like, rows, [_validity(nulls), pa.py_buffer(offsets)], children=[values])
    return array.cast(kind)


def _cleared(words: Words, nulls: Flags | None) -> Words:
    """Have 0 where a row is NULL."""
    return words if nulls is None else np.where(nulls, 0, words)


def _fixed(kind: pa.DataType, values: NDArray[np.generic], nulls: Flags | None) -> pa.Array:
    values = np.ascontiguousarray(values)
    return pa.Array.from_buffers(kind, len(values), [_validity(nulls), pa.py_buffer(values)])


def _validity(nulls: Flags | None) -> pa.Buffer | None:
    return None if nulls is None or not nulls.any() else pa.py_buffer(np.packbits(~nulls, bitorder="little"))


def _has_offsets(kind: pa.DataType) -> bool:
    return bool(types.is_string(kind) or types.is_binary(kind) or types.is_large_string(kind) or types.is_large_binary(kind))


def _flag_words(flags: int) -> int:
    return (flags + 63) // 64


def _flag_lanes(flags: Sequence[Flags | None], rows: int) -> list[Words]:
    """Pack flags into words."""
    lanes = [np.zeros(rows, np.int64) for _ in range(_flag_words(len(flags)))]
    for number, flag in enumerate(flags):
        if flag is not None:
            lanes[number // 64] |= flag.astype(np.int64) << (number % 64)
    return lanes


def _flags(lanes: Sequence[Words], count: int) -> list[Flags | None]:
    """Unpack flags from words."""
    some = [bool(lane.any()) for lane in lanes]
    return [lanes[number // 64] >> (number % 64) & 1 != 0 if some[number // 64] else None for number in range(count)]
