"""How large rows are once they are written out.

Arrow can say much in few bytes: a column of nothing but NULL has none, a run or an entry of a dictionary stands for any number of rows.
What a sender may write at once is bounded in what it comes to, or some bytes could fill the memory.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

LEAST_PER_ROW = 8
"""A row takes some place, even one without a column."""


def plain_bytes(batch: pa.RecordBatch) -> int:
    """Give the size of a batch's values without any encoding; never less than it is.

    >>> plain_bytes(pa.record_batch({"n": pa.nulls(1_000_000)}))
    8000000
    >>> plain_bytes(pa.record_batch({"s": pa.array(["long" * 100] * 1_000).dictionary_encode()}))
    404000
    """
    return max(LEAST_PER_ROW * int(batch.num_rows), sum(map(_size, batch.columns)))


def _size(array: pa.Array) -> int:
    kind, rows = array.type, len(array)
    match array:
        case pa.ExtensionArray():
            return _size(array.storage)
        case pa.NullArray():
            return LEAST_PER_ROW * rows
        case pa.DictionaryArray():
            return _picked(array.dictionary, array.indices)
        case pa.RunEndEncodedArray() | pa.UnionArray():
            values = [array.values] if isinstance(array, pa.RunEndEncodedArray) else [array.field(n) for n in range(kind.num_fields)]
            return rows * sum(map(_widest, values))
        case pa.StructArray():
            return rows + sum(map(_size, array.flatten()))
        case pa.ListViewArray() | pa.LargeListViewArray():
            # Its lists may share elements.
            return 4 * rows + (pc.sum(array.sizes).as_py() or 0) * _widest(array.values)
        case pa.ListArray() | pa.LargeListArray() | pa.FixedSizeListArray() | pa.MapArray():
            return 4 * rows + _size(array.values)
    lengths = _lengths(array)
    return rows * _width(kind) if lengths is None else 4 * rows + int(lengths.sum())


def _picked(values: pa.Array, places: pa.Array) -> int:
    """Give the size of the values at some places, which may repeat."""
    lengths = _lengths(values)
    if lengths is None or not len(lengths):
        return len(places) * _widest(values)
    return 4 * len(places) + int(lengths[places.drop_null().to_numpy(zero_copy_only=False)].sum())


def _widest(array: pa.Array) -> int:
    """Give a size that no single value exceeds."""
    if (lengths := _lengths(array)) is not None:
        return 4 + int(lengths.max(initial=0))
    if pa.types.is_primitive(array.type) or pa.types.is_fixed_size_binary(array.type) or pa.types.is_null(array.type):
        return _width(array.type)
    return _size(array)


def _lengths(array: pa.Array) -> np.ndarray | None:
    """Give the lengths of texts and of binary values; None for values of another kind."""
    types, kind = pa.types, array.type
    if types.is_string_view(kind) or types.is_binary_view(kind):
        views = array.buffers()[1]
        every = np.frombuffer(views, np.int32).reshape(-1, 4)[array.offset : array.offset + len(array), 0]
        return every.astype(np.int64)
    if types.is_string(kind) or types.is_binary(kind) or types.is_large_string(kind) or types.is_large_binary(kind):
        lengths = pc.binary_length(array).fill_null(0)
        return np.asarray(lengths, np.int64)
    return None


def _width(kind: pa.DataType) -> int:
    try:
        return max(1, (int(kind.bit_width) + 7) // 8)
    except ValueError:
        return LEAST_PER_ROW
