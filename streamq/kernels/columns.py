"""Columns of any type as words and bytes that are equal where values are, and back.

A row becomes *lanes* (64-bit words of fixed-width values, NULL flags, lengths) and *parts* (byte strings). Lanes that are only *carried*
say how equal values were written (-0.0 is 0.0, a month is 30 days) and are given back, but make no difference. Nested values become
lanes and parts of their own; of lists, every item is laid out as bytes. `exact` compares what would else be carried.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from pyarrow import types

from streamq.kernels.buffers import Flags, Words, has_offsets
from streamq.kernels.flat import BoolCodec, BytesCodec, FixedCodec, FloatCodec, IntervalCodec, NullCodec, WideCodec
from streamq.kernels.layout import Codec, Layout, Rows, Shape
from streamq.kernels.nested import DictionaryCodec, ListCodec, StructCodec, item_type


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
            return DictionaryCodec(kind, codec(kind.value_type, exact, carries))
        case _ if types.is_struct(kind):
            return StructCodec(kind, [codec(kind.field(number).type, exact, carries) for number in range(kind.num_fields)])
        case _ if types.is_nested(kind) and not types.is_union(kind):
            return ListCodec(kind, RowCodec([item_type(kind)], exact=exact, carries=False))
        case _ if has_offsets(kind) or types.is_fixed_size_binary(kind) or types.is_string_view(kind) or types.is_binary_view(kind):
            return BytesCodec(kind)
        case _:
            raise TypeError(f"values of type {kind} cannot be told apart")


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
