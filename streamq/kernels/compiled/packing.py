"""The loops that lay values out as bytes and find them again."""

from __future__ import annotations

from typing import Any

from streamq.kernels.compiled.index import copy_bytes
from streamq.kernels.compiled.pointers import compiled, load, store


@compiled
def copy_pieces(data: int, starts: Any, lengths: Any, target: int, places: Any) -> None:
    """Copy the piece of every row to its place."""
    for row in range(len(starts)):
        copy_bytes(data + starts[row], target + places[row], lengths[row])


@compiled
def copy_words(words: Any, target: int, places: Any) -> None:
    """Write the words of every row (a column of `words`) to its place."""
    for row in range(len(places)):
        for number in range(words.shape[0]):
            store(target + places[row] + 8 * number, words[number, row])


@compiled
def read_words(data: int, places: Any, out: Any) -> None:
    """Read the words of every row (a column of `out`) from its place."""
    for row in range(len(places)):
        for number in range(out.shape[0]):
            out[number, row] = load(data + places[row] + 8 * number)


@compiled
def count_items(data: int, starts: Any, lengths: Any, words: int, parts: int, counts: Any) -> None:
    """Count the items of every row: each is `words` words, the last `parts` of which are the lengths of the bytes that follow."""
    for row in range(len(starts)):
        at, end = data + starts[row], data + starts[row] + lengths[row]
        while at < end:
            counts[row] += 1
            size = 8 * words
            for number in range(words - parts, words):
                size += load(at + 8 * number)
            at += size


@compiled
def item_places(data: int, starts: Any, lengths: Any, words: int, parts: int, places: Any) -> None:
    """Give where every item of every row begins."""
    item = 0
    for row in range(len(starts)):
        at, end = starts[row], starts[row] + lengths[row]
        while at < end:
            places[item] = at
            item += 1
            size = 8 * words
            for number in range(words - parts, words):
                size += load(data + at + 8 * number)
            at += size
