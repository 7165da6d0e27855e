"""Columns whose values have values inside: dictionaries and structs by these, lists and maps item by item, each laid out as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import types

from streamq.kernels.buffers import Flags, Words, null_flags, validity
from streamq.kernels.compiled.packing import copy_pieces, copy_words, count_items, item_places, read_words
from streamq.kernels.layout import Codec, Layout, Part, Rows, Shape, split
from streamq.kernels.memory import address_of, frozen


class ItemCodec(Protocol):
    """Takes rows of one column apart, in `compared` words and `parts` byte strings, and puts them together."""

    compared: int
    parts: int

    def encode(self, columns: Sequence[pa.Array]) -> Rows:
        """Take rows apart."""

    def decode(self, rows: Rows) -> list[pa.Array]:
        """Put columns together."""


def item_type(kind: pa.DataType) -> pa.DataType:
    """Give the type of a list's items; those of a map are pairs."""
    return pa.struct([kind.key_field, kind.item_field]) if types.is_map(kind) else kind.value_type


class DictionaryCodec:
    """Dictionaries, by the values that they stand for."""

    def __init__(self, kind: pa.DataType, values: Codec) -> None:
        self._kind = kind
        self._values = values
        self.shape = self._values.shape

    def encode(self, array: pa.Array, absent: Flags | None, layout: Layout) -> None:
        self._values.encode(array.dictionary_decode(), absent, layout)

    def decode(self, layout: Layout) -> pa.Array:
        return self._values.decode(layout).dictionary_encode().cast(self._kind)


class StructCodec:
    """Structs: a flag for the struct itself, then its fields, which are NULL where it is."""

    def __init__(self, kind: pa.DataType, fields: Sequence[Codec]) -> None:
        self._kind = kind
        self._fields = fields
        self.shape = sum((one.shape for one in self._fields), Shape())

    def encode(self, array: pa.Array, absent: Flags | None, layout: Layout) -> None:
        nulls = null_flags(array, absent)
        layout.nulls.append(nulls)
        for number, one in enumerate(self._fields):
            one.encode(array.field(number), nulls, layout)

    def decode(self, layout: Layout) -> pa.Array:
        nulls = layout.nulls.pop(0)
        fields = [one.decode(layout) for one in self._fields]
        buffers = [validity(nulls)]
        return pa.Array.from_buffers(self._kind, layout.rows, buffers, children=fields)


class ListCodec:
    """Lists and maps: the items, one after the other, each as its words and then its bytes."""

    shape = Shape(parts=1)

    def __init__(self, kind: pa.DataType, item: ItemCodec) -> None:
        self._kind = kind
        self._item = item
        self._list = pa.large_list(pa.field("item", item_type(kind)))

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
        pieces = [validity(nulls), pa.py_buffer(offsets.astype(np.int32))]
        entries = pa.Array.from_buffers(
            pa.struct([kind.key_field, kind.item_field]), len(values), [None], children=[values.field(0), values.field(1)]
        )
        return pa.Array.from_buffers(kind, rows, pieces, children=[entries])
    if types.is_fixed_size_list(kind):
        full = np.full(rows, kind.list_size)
        source = offsets[:-1][:, None] + np.arange(kind.list_size) if kind.list_size else np.zeros((rows, 0), np.int64)
        absent = np.repeat((offsets[1:] - offsets[:-1]) != full, kind.list_size)
        taken = values.take(pa.array(np.where(absent, 0, source.reshape(-1)), mask=absent))
        return pa.Array.from_buffers(kind, rows, [validity(nulls)], children=[taken])
    array = pa.Array.from_buffers(like, rows, [validity(nulls), pa.py_buffer(offsets)], children=[values])
    return array.cast(kind)
