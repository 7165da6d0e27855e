"""Arrow's buffers as arrays of numpy, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import types

Words = NDArray[np.int64]
Flags = NDArray[np.bool_]


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


def cleared(words: Words, nulls: Flags | None) -> Words:
    """Have 0 where a row is NULL."""
    return words if nulls is None else np.where(nulls, 0, words)


def fixed_array(kind: pa.DataType, values: NDArray[np.generic], nulls: Flags | None) -> pa.Array:
    values = np.ascontiguousarray(values)
    return pa.Array.from_buffers(kind, len(values), [validity(nulls), pa.py_buffer(values)])


def validity(nulls: Flags | None) -> pa.Buffer | None:
    return None if nulls is None or not nulls.any() else pa.py_buffer(np.packbits(~nulls, bitorder="little"))


def has_offsets(kind: pa.DataType) -> bool:
    return bool(types.is_string(kind) or types.is_binary(kind) or types.is_large_string(kind) or types.is_large_binary(kind))
