"""The loops of the key index: open addressing in sub-tables, with records of keys by code.

A slot is two words: the key's hash and its code + 1 (0: empty). Where a key is one word the hash is a bijection of it, and equal hashes
are equal keys; else the record is compared. `tables` has four words per sub-table, `head` those named below.
A record has the words that are compared, those that are only carried, and, of keys with bytes, three more: the length (-1:
NULL) and the bytes themselves, or the address of where they are if they are longer than 16.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from streamq.kernels.compiled.hashing import INLINE, ends, hash_kept, hash_key, mix
from streamq.kernels.compiled.pointers import compiled, load, load_1, part, prefetch, store, store_1
from streamq.kernels.memory import CHUNK, CHUNK_BITS

TABLE_BITS = 6
TABLES = 1 << TABLE_BITS
ADDRESS, MASK, COUNT, LIMIT = range(4)
NEXT, FREE, NULL, LIVE, NEED, ARENA, ARENA_END, ARENA_FREE = range(8)
"""In `head`: the next new code; code + 1 of the first free one; code + 1 of the NULL key; how many keys there are; what a loop stopped
for (a sub-table to grow, or bytes of the arena, negative); the arena's free part; then free pieces by size class."""
SIZE_CLASSES = 96
AHEAD = 12
"""Rows between asking for a slot and looking at it."""

_TOP = np.uint64(64 - TABLE_BITS)


@part
def record_at(chunks: Any, code: int, width: int) -> Any:
    """Give the address of a record."""
    return chunks[code >> CHUNK_BITS] + (code & (CHUNK - 1)) * width * 8


@part
def size_class(length: int) -> Any:
    """Give the size class of a piece of the arena: steps of 16 bytes up to 1 KiB, then powers of two."""
    if length <= 1024:
        return (length + 15) >> 4
    number = 64
    while (1 << (number - 54)) < length:
        number += 1
    return number


@part
def class_bytes(number: int) -> Any:
    """Give how many bytes pieces of a size class have."""
    return number << 4 if number <= 64 else 1 << (number - 54)


@part
def same(record: int, bytes_at: int, words: int, compared: int, has_bytes: bool, address: int, length: int) -> Any:
    """Tell whether a record has this key."""
    for number in range(compared):
        if load(record + 8 * number) != load(words + 8 * number):
            return False
    if not has_bytes:
        return True
    record += bytes_at
    if load(record) != length:
        return False
    if length <= INLINE:
        first, second = ends(address, length)
        return load(record + 8) == first and load(record + 16) == second
    kept = load(record + 8)
    last = length - 8
    at = 0
    while at < last:
        if load(kept + at) != load(address + at):
            return False
        at += 8
    return load(kept + last) == load(address + last)


@part
def take_piece(head: Any, length: int) -> Any:
    """Give a piece of the arena for so many bytes; 0 if it has none."""
    number = size_class(length)
    piece = head[ARENA_FREE + number]
    if piece:
        head[ARENA_FREE + number] = load(piece)
        return piece
    size = class_bytes(number)
    piece = head[ARENA]
    if piece + size > head[ARENA_END]:
        return 0
    head[ARENA] = piece + size
    return piece


@part
def copy_bytes(source: int, target: int, length: int) -> None:
    """Copy bytes, words at a time; nothing beyond them is read or written."""
    at = 0
    while at + 8 <= length:
        store(target + at, load(source + at))
        at += 8
    while at < length:
        store_1(target + at, load_1(source + at))
        at += 1


@part
def new_code(head: Any, chunks: Any, width: int) -> Any:
    """Take a free code, or the next one."""
    head[LIVE] += 1
    code = head[FREE] - 1
    if code >= 0:
        head[FREE] = load(record_at(chunks, code, width))
        return code
    code = head[NEXT]
    head[NEXT] = code + 1
    return code


@part
def null_code(head: Any, chunks: Any, width: int, add: bool) -> Any:
    """Give the code of the NULL key of a single column."""
    if head[NULL] == 0 and add:
        code = new_code(head, chunks, width)
        store(record_at(chunks, code, width), 0)
        head[NULL] = code + 1
    return head[NULL] - 1


@compiled
def encode_words(
    words: Any, valid: Any, carried: Any, start: int, add: bool, far: bool, tables: Any, head: Any, chunks: Any, width: int, codes: Any
) -> Any:
    """Find keys of one word from row `start` on, adding those that are new; give the row where it stopped, all rows being the end.

    `valid` is empty where nothing is NULL, `carried` where nothing is carried. With `far`, the tables are too large for the caches.
    """
    rows = len(words)
    for row in range(start, rows):
        if far and row + AHEAD < rows:
            value = mix(words[row + AHEAD])
            table = np.int64(value >> _TOP) << 2
            prefetch(tables[table + ADDRESS] + ((np.int64(value) & tables[table + MASK]) << 4))
        if len(valid) and not valid[row]:
            codes[row] = null_code(head, chunks, width, add)
            continue
        value = mix(words[row])
        table = np.int64(value >> _TOP) << 2
        base, mask, tag = tables[table + ADDRESS], tables[table + MASK], np.int64(value)
        slot = tag & mask
        while True:
            address = base + (slot << 4)
            code = load(address + 8) - 1
            if code < 0 or load(address) == tag:
                break
            slot = (slot + 1) & mask
        if code < 0 and add:
            if tables[table + COUNT] >= tables[table + LIMIT]:
                head[NEED] = table >> 2
                return row
            tables[table + COUNT] += 1
            code = new_code(head, chunks, width)
            store(address, tag)
            store(address + 8, code + 1)
            record = record_at(chunks, code, width)
            store(record, words[row])
            for number in range(1, width):
                store(record + 8 * number, carried[row] if len(carried) else 0)
        codes[row] = code
    return rows


@compiled
def encode_keys(
    words: Any,
    given: int,
    compared: int,
    has_bytes: bool,
    data: int,
    starts: Any,
    lengths: Any,
    hashes: Any,
    start: int,
    add: bool,
    far: bool,
    tables: Any,
    head: Any,
    chunks: Any,
    width: int,
    codes: Any,
) -> Any:
    """Find keys of `given` words (the first `compared` of which are the key, with the bytes), as `encode_words` does."""
    rows = len(hashes)
    base_words = words.ctypes.data
    bytes_at = 8 * given
    address, length = 0, 0
    for row in range(start, rows):
        if far and row + AHEAD < rows:
            ahead = hashes[row + AHEAD]
            table = np.int64(np.uint64(ahead) >> _TOP) << 2
            prefetch(tables[table + ADDRESS] + ((ahead & tables[table + MASK]) << 4))
            ahead = hashes[row + AHEAD // 2]
            table = np.int64(np.uint64(ahead) >> _TOP) << 2
            guess = load(tables[table + ADDRESS] + ((ahead & tables[table + MASK]) << 4) + 8)
            if guess:
                prefetch(record_at(chunks, guess - 1, width))
        if has_bytes:
            address, length = data + starts[row], lengths[row]
        own = base_words + 8 * given * row
        tag = hashes[row]
        table = np.int64(np.uint64(tag) >> _TOP) << 2
        base, mask = tables[table + ADDRESS], tables[table + MASK]
        slot = tag & mask
        while True:
            place = base + (slot << 4)
            code = load(place + 8) - 1
            if code < 0:
                break
            if load(place) == tag and same(record_at(chunks, code, width), bytes_at, own, compared, has_bytes, address, length):
                break
            slot = (slot + 1) & mask
        if code < 0 and add:
            if tables[table + COUNT] >= tables[table + LIMIT]:
                head[NEED] = table >> 2
                return row
            piece = 0
            if has_bytes and length > INLINE:
                piece = take_piece(head, length)
                if piece == 0:
                    head[NEED] = -class_bytes(size_class(length))
                    return row
                copy_bytes(address, piece, length)
            tables[table + COUNT] += 1
            code = new_code(head, chunks, width)
            store(place, tag)
            store(place + 8, code + 1)
            record = record_at(chunks, code, width)
            for number in range(given):
                store(record + 8 * number, load(own + 8 * number))
            if has_bytes:
                store(record + bytes_at, length)
                first, second = (piece, 0) if length > INLINE else ends(address, length)
                store(record + bytes_at + 8, first)
                store(record + bytes_at + 16, second)
        codes[row] = code
    return rows


@compiled
def rehash(old: int, slots: int, new: int, mask: int) -> None:
    """Put what a sub-table has into a larger one."""
    for number in range(slots):
        code = load(old + (number << 4) + 8)
        if code == 0:
            continue
        tag = load(old + (number << 4))
        slot = tag & mask
        while load(new + (slot << 4) + 8):
            slot = (slot + 1) & mask
        store(new + (slot << 4), tag)
        store(new + (slot << 4) + 8, code)


@part
def remove_slot(tables: Any, tag: int, code: int) -> Any:
    """Take a code out of its sub-table and close the gap; tell whether it was there."""
    table = np.int64(np.uint64(tag) >> _TOP) << 2
    base, mask = tables[table + ADDRESS], tables[table + MASK]
    gap = tag & mask
    while load(base + (gap << 4) + 8) != code + 1:
        if load(base + (gap << 4) + 8) == 0:
            return False
        gap = (gap + 1) & mask
    tables[table + COUNT] -= 1
    slot = gap
    while True:
        slot = (slot + 1) & mask
        code = load(base + (slot << 4) + 8)
        if code == 0:
            break
        tag = load(base + (slot << 4))
        if ((slot - tag) & mask) >= ((slot - gap) & mask):
            store(base + (gap << 4), tag)
            store(base + (gap << 4) + 8, code)
            gap = slot
    store(base + (gap << 4) + 8, 0)
    return True


@compiled
def release(codes: Any, single: bool, compared: int, bytes_at: int, tables: Any, head: Any, chunks: Any, width: int) -> Any:
    """Free codes and what their keys take; give how many were freed, which is where one was not in use if it is not all."""
    for row in range(len(codes)):
        code = codes[row]
        if code < 0 or code >= head[NEXT]:
            return row
        record = record_at(chunks, code, width)
        if single and head[NULL] == code + 1:
            head[NULL] = 0
        elif single:
            if not remove_slot(tables, np.int64(mix(load(record))), code):
                return row
        else:
            length = load(record + bytes_at) if bytes_at >= 0 else 0
            address = load(record + bytes_at + 8) if length > INLINE else 0
            if bytes_at >= 0:
                tag = np.int64(hash_kept(record, compared, record + bytes_at))
            else:
                tag = np.int64(hash_key(record, compared, False, 0, 0))
            if not remove_slot(tables, tag, code):
                return row
            if address:
                number = size_class(length)
                store(address, head[ARENA_FREE + number])
                head[ARENA_FREE + number] = address
        store(record, head[FREE])
        head[FREE] = code + 1
        head[LIVE] -= 1
    return len(codes)


@compiled
def gather(codes: Any, chunks: Any, width: int, first: int, out: Any) -> None:
    """Give words of records: `out` has a row per word, the first being `first`, and a column per code."""
    count, rows = out.shape[0], len(codes)
    for row in range(rows):
        if row + AHEAD < rows:
            prefetch(record_at(chunks, codes[row + AHEAD], width) + 8 * first)
        record = record_at(chunks, codes[row], width) + 8 * first
        for number in range(count):
            out[number, row] = load(record + 8 * number)


@compiled
def gather_bytes(codes: Any, chunks: Any, width: int, bytes_at: int, offsets: Any, out: int) -> None:
    """Write the bytes of keys to where `offsets` say."""
    for row in range(len(codes)):
        kept = record_at(chunks, codes[row], width) + bytes_at
        length = offsets[row + 1] - offsets[row]
        target = out + offsets[row]
        if length > INLINE:
            copy_bytes(load(kept + 8), target, length)
        elif length >= 8:
            store(target, load(kept + 8))
            store(target + length - 8, load(kept + 16))
        elif length >= 4:
            word = load(kept + 8)
            for at in range(4):
                store_1(target + at, word >> (8 * at))
                store_1(target + length - 4 + at, word >> (32 + 8 * at))
        elif length > 0:
            word = load(kept + 8)
            store_1(target, word)
            store_1(target + (length >> 1), word >> 8)
            store_1(target + length - 1, word >> 16)


@compiled
def mark(codes: Any, chunks: Any, number: int, out: Any) -> Any:
    """Give each different code once, by marking it with `number`, which no code was marked with before; give how many they are."""
    count, rows = 0, len(codes)
    for row in range(rows):
        if row + AHEAD < rows:
            prefetch(record_at(chunks, codes[row + AHEAD], 1))
        record = record_at(chunks, codes[row], 1)
        # Without a branch, which could not be foreseen.
        out[count] = codes[row]
        count += int(load(record) != number)
        store(record, number)
    return count
