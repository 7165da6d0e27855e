"""Hashes of keys, which are words and bytes: of keys as they come, and as a record keeps them."""

from __future__ import annotations

from typing import Any

import numpy as np

from streamq.kernels.compiled.pointers import compiled, load, load_1, load_4, part

INLINE = 16
"""Up to so many bytes a record keeps them itself, as the two words that `ends` gives."""

_A = np.uint64(0x9E3779B97F4A7C15)
_B = np.uint64(0xD6E8FEB86659FD93)
_C = np.uint64(0xA0761D6478BD642F)
_HALF = np.uint64(32)


@part
def mix(word: int) -> Any:
    """Spread the bits of a word, reversibly."""
    value = np.uint64(word) * _B
    value = (value ^ (value >> _HALF)) * _A
    return value ^ (value >> _HALF)


@part
def ends(address: int, length: int) -> Any:
    """Give up to 16 bytes as two words, which differ wherever bytes of that length do. Nothing beyond them is read."""
    if length >= 8:
        return load(address), load(address + length - 8)
    if length >= 4:
        return load_4(address) | (load_4(address + length - 4) << 32), 0
    if length > 0:
        return load_1(address) | (load_1(address + (length >> 1)) << 8) | (load_1(address + length - 1) << 16), 0
    return 0, 0


@part
def hash_bytes(address: int, length: int) -> Any:
    """Hash bytes a word at a time."""
    value = np.uint64(length) * _A
    if length <= INLINE:
        first, second = ends(address, length)
        value = (value ^ np.uint64(first)) * _B
        value = ((value ^ (value >> _HALF)) + np.uint64(second)) * _C
    else:
        last = address + length - 8
        while address < last:
            value = (value ^ np.uint64(load(address))) * _B
            value ^= value >> _HALF
            address += 8
        value = (value ^ np.uint64(load(last))) * _C
    value = (value ^ (value >> _HALF)) * _A
    return value ^ (value >> _HALF)


@part
def hash_key(words: int, compared: int, has_bytes: bool, address: int, length: int) -> Any:
    """Hash a key of words, at an address, and bytes."""
    value = hash_bytes(address, length) if has_bytes else np.uint64(0)
    for number in range(compared):
        value = (value ^ mix(load(words + 8 * number))) * _C
        value ^= value >> _HALF
    return value


@part
def hash_kept(record: int, compared: int, kept: int) -> Any:
    """Hash a record's key, whose bytes are described at `kept`, as `hash_key` hashes the key."""
    length = load(kept)
    if length > INLINE:
        value = hash_bytes(load(kept + 8), length)
    else:
        value = np.uint64(length) * _A
        value = (value ^ np.uint64(load(kept + 8))) * _B
        value = ((value ^ (value >> _HALF)) + np.uint64(load(kept + 16))) * _C
        value = (value ^ (value >> _HALF)) * _A
        value ^= value >> _HALF
    for number in range(compared):
        value = (value ^ mix(load(record + 8 * number))) * _C
        value ^= value >> _HALF
    return value


@compiled
def hash_rows(words: Any, width: int, compared: int, has_bytes: bool, data: int, starts: Any, lengths: Any, hashes: Any) -> None:
    """Hash rows of `width` words each, of which the first `compared` belong to the key."""
    base = words.ctypes.data
    for row in range(len(hashes)):
        address, length = (data + starts[row], lengths[row]) if has_bytes else (0, 0)
        hashes[row] = np.int64(hash_key(base + 8 * width * row, compared, has_bytes, address, length))
