"""The routing hash: where a row with a key belongs. Stable for ever, on every machine and in every version.

It is typed and made of values, never of their text: integers of every width are equal, floats of both widths are, decimals of
every scale, timestamps of every unit; -0.0 is 0.0, every NaN the same, NULL a value of its own. Columns are hashed one
by one and then combined in order, so ("a|b", "c") and ("a", "b|c") have nothing in common, and "1" is not 1.
Changing any result of this module would send new rows of a key elsewhere than the old ones: `ROUTING_VERSION` names it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamq.kernels.families import type_family

ROUTING_VERSION = 1

Hashes = NDArray[np.uint64]
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
NULL_HASH = np.uint64(0x6E756C6C6E756C6C)
TAGS = {
    name: np.uint64(number * 0xD6E8FEB86659FD93 & 0xFFFFFFFFFFFFFFFF)
    for number, name in enumerate(
        (
            "int",
            "bool",
            "float",
            "decimal",
            "text",
            "binary",
            "date",
            "time",
            "timestamp",
        ),
        start=1,
    )
}


def routable(arrow: pa.DataType) -> bool:
    """Tell whether rows can be routed by a column of this type."""
    return _family(_plain(arrow)) is not None


def routing_hash(columns: Sequence[pa.Array | pa.ChunkedArray]) -> Hashes:
    """Hash the rows of the key columns (at least one, of equal length) to 64 bits.

    Raises:
        TypeError: a column's type is not `routable`.
    """
    result: Hashes | None = None
    for column in columns:
        hashes = _column(column)
        result = _mix(hashes if result is None else _mix(result) * _GOLDEN + hashes)
    if result is None:
        raise TypeError("rows are routed by at least one column")
    return result


def _mix(values: Hashes) -> Hashes:
    """Spread every bit of each value over all bits (the finalizer of splitmix64, a bijection)."""
    values = values + _GOLDEN
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _plain(arrow: pa.DataType) -> pa.DataType:
    return arrow.value_type if pa.types.is_dictionary(arrow) else arrow


def _family(arrow: pa.DataType) -> str | None:
    family = type_family(arrow)
    return family if family in TAGS or family == "null" else None


def plain_column(array: pa.Array | pa.ChunkedArray) -> tuple[pa.Array, str]:
    """Give a column in one piece, without a dictionary, and its family.

    Raises:
        TypeError: its type is not `routable`.
    """
    array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    family = _family(array.type)
    if family is None:
        raise TypeError(f"rows cannot be routed by a column of type {array.type}")
    return array, family


def _column(column: pa.Array | pa.ChunkedArray) -> Hashes:
    array, family = plain_column(column)
    if family == "null":
        return np.full(len(array), NULL_HASH, dtype=np.uint64)
    with np.errstate(over="ignore"):
        hashes = _mix(values_of(array, family) ^ TAGS[family])
    if array.null_count:
        hashes[array.is_null().to_numpy(zero_copy_only=False)] = NULL_HASH
    return hashes


def values_of(array: pa.Array, family: str) -> Hashes:
    """Give 64 bits per row that are equal where values are equal; whatever for NULL."""
    match family:
        case "int":
            return _integers(array)
        case "bool":
            return _signed(array.cast(pa.int64()))
        case "float":
            return _floats(array)
        case "decimal":
            return _decimals(array)
        case "text" | "binary":
            return _bytes(array)
        case "date":
            return _signed(array.cast(pa.date32()).cast(pa.int32()).cast(pa.int64()))
        case "time":
            return _signed(array.cast(pa.time64("ns")).cast(pa.int64()))
        case _:
            return _timestamps(array)


def _signed(array: pa.Array) -> Hashes:
    values: Hashes = array.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64).view(np.uint64)
    return values


def _integers(array: pa.Array) -> Hashes:
    if not pa.types.is_uint64(array.type):
        return _signed(array)
    values = array.fill_null(0).to_numpy(zero_copy_only=False)
    # The upper half of UBIGINT shares its bits with negative BIGINTs; they are different numbers.
    return np.where(values >> np.uint64(63) == 1, _mix(values ^ NULL_HASH), values)


def _floats(array: pa.Array) -> Hashes:
    values = array.fill_null(0.0).to_numpy(zero_copy_only=False).astype(np.float64) + 0.0
    return np.where(np.isnan(values), np.nan, values).view(np.uint64)


def _decimals(array: pa.Array) -> Hashes:
    # Every DECIMAL of up to 38 digits is exact at this common scale.
    common = array.fill_null(0).cast(pa.decimal256(76, 38))
    words = np.frombuffer(common.buffers()[1], dtype="<u8").reshape(-1, 4)[common.offset : common.offset + len(common)]
    result = np.zeros(len(common), dtype=np.uint64)
    for lane in range(4):
        result = _mix(result ^ words[:, lane])
    return result


def _timestamps(array: pa.Array) -> Hashes:
    raw = array.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    match array.type.unit:
        case "s":
            micros, nanos = raw * 1_000_000, np.zeros_like(raw)
        case "ms":
            micros, nanos = raw * 1_000, np.zeros_like(raw)
        case "us":
            micros, nanos = raw, np.zeros_like(raw)
        case _:
            micros, nanos = np.divmod(raw, 1_000)
    result: Hashes = micros.view(np.uint64) ^ (nanos.view(np.uint64) * _GOLDEN)
    return result


def _bytes(array: pa.Array) -> Hashes:
    """Hash byte strings eight bytes at a time: the sum of their words, each mixed with its place."""
    wide = array.cast(pa.large_binary())
    rows = len(wide)
    if not rows:
        return np.zeros(0, dtype=np.uint64)
    _, offset_buffer, data_buffer = wide.buffers()
    offsets = np.frombuffer(offset_buffer, dtype="<i8")[wide.offset : wide.offset + rows + 1]
    first, last = int(offsets[0]), int(offsets[-1])
    data = np.zeros(last - first + 8, dtype=np.uint8)
    if last > first:
        data[: last - first] = np.frombuffer(data_buffer, dtype=np.uint8)[first:last]
    starts, lengths = offsets[:-1] - first, np.diff(offsets)
    counts = np.maximum((lengths + 7) // 8, 1)
    firsts = np.concatenate(([0], np.cumsum(counts)[:-1]))
    place = np.arange(int(counts.sum()), dtype=np.int64) - np.repeat(firsts, counts)
    at_byte = np.lib.stride_tricks.as_strided(data.view(np.uint8)[:8].view("<u8"), shape=(last - first + 1,), strides=(1,))
    words = at_byte[np.repeat(starts, counts) + place * 8 * (np.repeat(lengths, counts) > 0)]
    words = words & _mask(np.repeat(lengths, counts) - place * 8)
    sums: Hashes = np.add.reduceat(_mix(words ^ _mix(place.astype(np.uint64))), firsts)
    return sums ^ _mix(lengths.astype(np.uint64))


def _mask(remaining: NDArray[np.int64]) -> Hashes:
    """Keep the lowest `remaining` bytes of a word, at most eight."""
    bits = (np.clip(remaining, 0, 8) * 8).astype(np.uint64)
    full = np.uint64(0xFFFFFFFFFFFFFFFF)
    return np.where(bits == 64, full, ~(full << np.minimum(bits, np.uint64(63))))
