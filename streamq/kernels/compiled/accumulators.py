"""The loops of accumulators: one pass over the rows for each argument, into the record of each row's group.

A record begins with the number of rows. Where something is kept is its offset in the record, in bytes; -1 if it is not kept. `weights` is
empty where every row is there once, `valid` where nothing is NULL.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from streamq.kernels.compiled.index import AHEAD, record_at
from streamq.kernels.compiled.pointers import add_product, add_wide, bits_of, compiled, float_of, load, part, prefetch, store

_LAST = 0x7FFFFFFFFFFFFFFF
_NAN = 0x7FF8000000000000


@part
def order_of(value: float) -> Any:
    """Give a float's bits as an integer that orders as DuckDB orders floats: NaN is the greatest."""
    if value != value:
        return _NAN
    bits = bits_of(value)
    return bits ^ ((bits >> 63) & _LAST)


@part
def keep_extremes(record: int, first: bool, key: int, least: int, greatest: int) -> None:
    """Keep the least and the greatest of a group."""
    if least >= 0 and (first or key < load(record + least)):
        store(record + least, key)
    if greatest >= 0 and (first or key > load(record + greatest)):
        store(record + greatest, key)


@part
def keep_moments(record: int, moments: int, value: float, weight: int, count: int) -> None:
    """Keep the mean and the sum of squared differences from it, as Welford and Chan have it; `count` is with this value."""
    mean = float_of(load(record + moments))
    difference = value - mean
    mean += difference * weight / count
    store(record + moments, bits_of(mean))
    squares = float_of(load(record + moments + 8)) + weight * difference * (value - mean)
    store(record + moments + 8, bits_of(squares))


@compiled
def add_integers(
    codes: Any,
    values: Any,
    flip: int,
    valid: Any,
    weights: Any,
    far: bool,
    rows_at: int,
    count: int,
    total: int,
    least: int,
    greatest: int,
    moments: int,
    chunks: Any,
    width: int,
) -> Any:
    """Add integers, or only count; unsigned ones have the top bit as `flip`, so that order and sum are right.

    Gives how many sums overflowed.
    """
    weighted, masked, overflows = len(weights) > 0, len(valid) > 0, 0
    rows = len(codes)
    for row in range(rows):
        if far and row + AHEAD < rows:
            prefetch(record_at(chunks, codes[row + AHEAD], width))
        record = record_at(chunks, codes[row], width)
        weight = weights[row] if weighted else 1
        if rows_at >= 0:
            store(record, load(record) + weight)
        if count < 0 or (masked and not valid[row]):
            continue
        before = load(record + count)
        store(record + count, before + weight)
        value = values[row]
        if total >= 0:
            high = 0 if flip else value >> 63
            if weighted:
                overflows += add_product(record + total, value, high, weight)
            else:
                add_wide(record + total, value, high)
        keep_extremes(record, before == 0, value ^ flip, least, greatest)
        if moments >= 0:
            number = np.float64(np.uint64(value)) if flip else np.float64(value)
            keep_moments(record, moments, number, weight, before + weight)
    return overflows


@compiled
def add_floats(
    codes: Any,
    values: Any,
    valid: Any,
    weights: Any,
    far: bool,
    rows_at: int,
    count: int,
    total: int,
    least: int,
    greatest: int,
    moments: int,
    chunks: Any,
    width: int,
) -> Any:
    """Add floats."""
    weighted, masked = len(weights) > 0, len(valid) > 0
    rows = len(codes)
    for row in range(rows):
        if far and row + AHEAD < rows:
            prefetch(record_at(chunks, codes[row + AHEAD], width))
        record = record_at(chunks, codes[row], width)
        weight = weights[row] if weighted else 1
        if rows_at >= 0:
            store(record, load(record) + weight)
        if masked and not valid[row]:
            continue
        before = load(record + count)
        store(record + count, before + weight)
        value = values[row]
        if total >= 0:
            store(record + total, bits_of(float_of(load(record + total)) + (value * weight if weighted else value)))
        if least >= 0 or greatest >= 0:
            keep_extremes(record, before == 0, order_of(value), least, greatest)
        if moments >= 0:
            keep_moments(record, moments, value, weight, before + weight)
    return 0


@part
def below(high: int, low: int, other_high: int, other_low: int) -> Any:
    """Compare two 128-bit integers."""
    return high < other_high or (high == other_high and np.uint64(low) < np.uint64(other_low))


@compiled
def add_wides(
    codes: Any,
    values: Any,
    valid: Any,
    weights: Any,
    far: bool,
    rows_at: int,
    count: int,
    total: int,
    least: int,
    greatest: int,
    chunks: Any,
    width: int,
) -> Any:
    """Add 128-bit integers: `values` has the low and the high word of each. Gives how many sums overflowed."""
    weighted, masked, overflows = len(weights) > 0, len(valid) > 0, 0
    rows = len(codes)
    for row in range(rows):
        if far and row + AHEAD < rows:
            prefetch(record_at(chunks, codes[row + AHEAD], width))
        record = record_at(chunks, codes[row], width)
        weight = weights[row] if weighted else 1
        if rows_at >= 0:
            store(record, load(record) + weight)
        if masked and not valid[row]:
            continue
        before = load(record + count)
        store(record + count, before + weight)
        low, high = values[2 * row], values[2 * row + 1]
        if total >= 0:
            overflows += add_product(record + total, low, high, weight)
        if least >= 0 and (before == 0 or below(high, low, load(record + least + 8), load(record + least))):
            store(record + least, low)
            store(record + least + 8, high)
        if greatest >= 0 and (before == 0 or below(load(record + greatest + 8), load(record + greatest), high, low)):
            store(record + greatest, low)
            store(record + greatest + 8, high)
    return overflows


@compiled
def merge(
    codes: Any,
    chunks: Any,
    others: Any,
    other_chunks: Any,
    width: int,
    sign: int,
    rows_at: int,
    count: int,
    total: int,
    floats: bool,
    least: int,
    greatest: int,
    wide: bool,
    moments: int,
) -> Any:
    """Add what other records keep to records, or take it out (`sign` -1: counts and sums of integers). Gives how many sums overflowed."""
    overflows, rows = 0, len(codes)
    for row in range(rows):
        if row + AHEAD < rows:
            prefetch(record_at(chunks, codes[row + AHEAD], width))
            prefetch(record_at(other_chunks, others[row + AHEAD], width))
        record, other = record_at(chunks, codes[row], width), record_at(other_chunks, others[row], width)
        if rows_at >= 0:
            store(record, load(record) + sign * load(other))
        if count < 0 or load(other + count) == 0:
            continue
        before, added = load(record + count), load(other + count)
        store(record + count, before + sign * added)
        if total >= 0 and floats:
            store(record + total, bits_of(float_of(load(record + total)) + float_of(load(other + total))))
        elif total >= 0:
            overflows += add_product(record + total, load(other + total), load(other + total + 8), sign)
        if wide:
            merge_wide_extremes(record, other, before == 0, least, greatest)
        else:
            if least >= 0:
                keep_extremes(record, before == 0, load(other + least), least, -1)
            if greatest >= 0:
                keep_extremes(record, before == 0, load(other + greatest), -1, greatest)
        if moments >= 0:
            merge_moments(record + moments, other + moments, before, added)
    return overflows


@part
def merge_wide_extremes(record: int, other: int, first: bool, least: int, greatest: int) -> None:
    """Keep the least and the greatest of two groups of 128-bit integers."""
    if least >= 0:
        low, high = load(other + least), load(other + least + 8)
        if first or below(high, low, load(record + least + 8), load(record + least)):
            store(record + least, low)
            store(record + least + 8, high)
    if greatest >= 0:
        low, high = load(other + greatest), load(other + greatest + 8)
        if first or below(load(record + greatest + 8), load(record + greatest), high, low):
            store(record + greatest, low)
            store(record + greatest + 8, high)


@part
def merge_moments(moments: int, other: int, before: int, added: int) -> None:
    """Add the mean and the squared differences of another group, as Chan has it."""
    difference = float_of(load(other)) - float_of(load(moments))
    share = np.float64(added) / np.float64(before + added)
    mean = float_of(load(other)) if before == 0 else float_of(load(moments)) + difference * share
    squares = float_of(load(moments + 8)) + float_of(load(other + 8))
    if before != 0:
        squares += difference * difference * np.float64(before) * share
    store(moments, bits_of(mean))
    store(moments + 8, bits_of(squares))


@compiled
def sum_values(low: Any, high: Any, counts: Any, most_high: int, most_low: int, out: Any) -> Any:
    """Give sums as pairs of words, 0 where nothing was added; tell whether all are between the limit and its negative, both excluded."""
    fits = True
    for row in range(len(counts)):
        added = counts[row] != 0
        out[2 * row] = low[row] if added else 0
        out[2 * row + 1] = high[row] if added else 0
        negative = high[row] < 0
        size_low = -low[row] if negative else low[row]
        size_high = ~high[row] + (1 if low[row] == 0 else 0) if negative else high[row]
        if added and (size_high < 0 or not below(size_high, size_low, most_high, most_low)):
            fits = False
    return fits


@compiled
def average_values(low: Any, high: Any, counts: Any, divisor: float, out: Any) -> None:
    """Give sums / counts / divisor."""
    for row in range(len(counts)):
        negative = high[row] < 0
        size_low = -low[row] if negative else low[row]
        size_high = ~high[row] + (1 if low[row] == 0 else 0) if negative else high[row]
        size = np.float64(size_high) * 18446744073709551616.0 + np.float64(np.uint64(size_low))
        out[row] = (-size if negative else size) / (counts[row] * divisor)


@compiled
def clear(codes: Any, chunks: Any, width: int) -> None:
    """Zero records."""
    for row in range(len(codes)):
        record = record_at(chunks, codes[row], width)
        for number in range(width):
            store(record + 8 * number, 0)


@compiled
def scatter(codes: Any, chunks: Any, width: int, words: Any) -> None:
    """Write records: `words` has a row per word and a column per code."""
    for row in range(len(codes)):
        record = record_at(chunks, codes[row], width)
        for number in range(width):
            store(record + 8 * number, words[number, row])
