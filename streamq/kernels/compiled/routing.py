"""The routing hash as loops: the same results as `streamq.kernels.routing` has without them."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamq.kernels.compiled.pointers import compiled, load, load_1, part

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


@part
def mix(value: Any) -> Any:
    """Spread every bit of a value over all bits."""
    value = value + _GOLDEN
    value = (value ^ (value >> np.uint64(30))) * _FIRST
    value = (value ^ (value >> np.uint64(27))) * _SECOND
    return value ^ (value >> np.uint64(31))


@compiled
def hash_values(values: Any, tag: Any, out: Any) -> None:
    """Hash values of 64 bits that are of the type `tag`."""
    kind = np.uint64(tag)
    for row in range(len(values)):
        out[row] = mix(values[row] ^ kind)


@compiled
def hash_pieces(data: int, starts: Any, lengths: Any, tag: Any, out: Any) -> None:
    """Hash byte strings eight bytes at a time: the sum of their words, each mixed with its place."""
    kind = np.uint64(tag)
    for row in range(len(starts)):
        address, length = data + starts[row], lengths[row]
        total, place = np.uint64(0), np.uint64(0)
        at = 0
        while at + 8 <= length:
            total += mix(np.uint64(load(address + at)) ^ mix(place))
            place += np.uint64(1)
            at += 8
        if at < length or length == 0:
            word = np.uint64(0)
            for number in range(length - at):
                word |= np.uint64(load_1(address + at + number)) << np.uint64(8 * number)
            total += mix(word ^ mix(place))
        out[row] = mix(total ^ mix(np.uint64(length)) ^ kind)


@compiled
def combine(hashes: Any, first: bool, result: Any) -> None:
    """Take the hashes of another column into those of rows."""
    for row in range(len(hashes)):
        result[row] = mix(hashes[row] if first else mix(result[row]) * _GOLDEN + hashes[row])


@compiled
def owners_of(hashes: Any, buckets: int, partitions: int, out: Any) -> None:
    """Give the partition that owns the bucket of every row; `buckets` is a power of two."""
    for row in range(len(hashes)):
        out[row] = (np.int64(hashes[row]) & (buckets - 1)) * partitions // buckets
