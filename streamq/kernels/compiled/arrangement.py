"""The loops of arrangements: for every row how often it is there, and lists of the rows of a key.

A row's record has how often it is there, its key's code + 1 (0: it is in no list), and the next and the previous row of its key, + 1.
A key's record has its first row + 1, how many rows it has, and whether it was noted as empty.
"""

from __future__ import annotations

from typing import Any

from streamq.kernels.compiled.index import AHEAD, record_at
from streamq.kernels.compiled.pointers import compiled, load, prefetch, store

ROW_WIDTH = 4
KEY_WIDTH = 3


@compiled
def add_rows(codes: Any, numbers: Any, weights: Any, rows: Any, keys: Any) -> None:
    """Add weights to rows; those that are new go into the list of their key."""
    weighted = len(weights) > 0
    count = len(numbers)
    for at in range(count):
        if at + AHEAD < count:
            prefetch(record_at(rows, numbers[at + AHEAD], ROW_WIDTH))
            prefetch(record_at(keys, codes[at + AHEAD], KEY_WIDTH))
        number, code = numbers[at], codes[at]
        row = record_at(rows, number, ROW_WIDTH)
        store(row, load(row) + (weights[at] if weighted else 1))
        if load(row + 8):
            continue
        key = record_at(keys, code, KEY_WIDTH)
        first = load(key)
        if first:
            store(record_at(rows, first - 1, ROW_WIDTH) + 24, number + 1)
        store(row + 8, code + 1)
        store(row + 16, first)
        store(row + 24, 0)
        store(key, number + 1)
        store(key + 8, load(key + 8) + 1)


@compiled
def drop_rows(numbers: Any, every: bool, rows: Any, keys: Any, gone: Any, emptied: Any) -> Any:
    """Take out those rows that are there 0 times, or `every` one.

    Gives how many went (-1: one is there less than 0 times) and how many keys were left without rows; they are in `gone` and `emptied`.
    """
    dropped, empty = 0, 0
    for at in range(len(numbers)):
        number = numbers[at]
        row = record_at(rows, number, ROW_WIDTH)
        code = load(row + 8) - 1
        if code < 0:
            continue
        if not every:
            if load(row) < 0:
                return -1, 0
            if load(row) > 0:
                continue
        key = record_at(keys, code, KEY_WIDTH)
        following, before = load(row + 16), load(row + 24)
        if before:
            store(record_at(rows, before - 1, ROW_WIDTH) + 16, following)
        else:
            store(key, following)
        if following:
            store(record_at(rows, following - 1, ROW_WIDTH) + 24, before)
        store(row, 0)
        store(row + 8, 0)
        left = load(key + 8) - 1
        store(key + 8, left)
        gone[dropped] = number
        dropped += 1
        if left == 0 and load(key + 16) == 0:
            store(key + 16, 1)
            emptied[empty] = code
            empty += 1
    return dropped, empty


@compiled
def still_empty(codes: Any, keys: Any, out: Any) -> Any:
    """Give those noted keys that have no rows, and forget the notes."""
    count = 0
    for at in range(len(codes)):
        key = record_at(keys, codes[at], KEY_WIDTH)
        store(key + 16, 0)
        if load(key + 8) == 0:
            out[count] = codes[at]
            count += 1
    return count


@compiled
def count_rows(codes: Any, keys: Any, counts: Any) -> None:
    """Give how many rows keys have (-1: none)."""
    for at in range(len(codes)):
        counts[at] = load(record_at(keys, codes[at], KEY_WIDTH) + 8) if codes[at] >= 0 else 0


@compiled
def list_rows(codes: Any, rows: Any, keys: Any, numbers: Any, which: Any) -> None:
    """Give the rows of keys (-1: none), and the positions of their keys."""
    count = 0
    for at in range(len(codes)):
        if codes[at] < 0:
            continue
        number = load(record_at(keys, codes[at], KEY_WIDTH)) - 1
        while number >= 0:
            numbers[count] = number
            which[count] = at
            count += 1
            number = load(record_at(rows, number, ROW_WIDTH) + 16) - 1


@compiled
def live_rows(limit: int, rows: Any, numbers: Any) -> None:
    """Give the numbers of all rows, which are below `limit`."""
    count = 0
    for number in range(limit):
        if load(record_at(rows, number, ROW_WIDTH) + 8):
            numbers[count] = number
            count += 1
