"""Static partitions of a relation's rows, from exact counts: ranges, residues, and batches in turn.

Ranges are half-open, and the last one has no end, so that a count that was too low loses no row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

MIN_RANGE_ROWS = 100
"""Ranges of fewer rows are not worth their bounds."""

Batch = TypeVar("Batch")


@dataclass(frozen=True, slots=True)
class PartitionInfo:
    """How a relation is cut into `partitions`. `rows_per_partition` is rounded down; the last range has the rest too."""

    rows: int | None
    exact: bool
    partitions: int
    rows_per_partition: int
    strategy: Literal["range", "modulo"]
    reason: str


def choose_partitions(rows: int | None, partitions: int, *, exact: bool = True, ordered: bool = True) -> PartitionInfo:
    """Choose ranges where rows have an order, their number is known exactly, and each partition gets enough of them.

    >>> choose_partitions(10_000, 4).strategy, choose_partitions(399, 4).strategy, choose_partitions(400, 4).strategy
    ('range', 'modulo', 'range')
    """
    each = (rows or 0) // partitions
    if not ordered:
        return PartitionInfo(rows, exact, partitions, each, "modulo", "the rows have no order to cut ranges in")
    if rows is None or not exact:
        return PartitionInfo(rows, exact, partitions, each, "modulo", "the number of rows is not known exactly")
    if each < MIN_RANGE_ROWS:
        return PartitionInfo(rows, exact, partitions, each, "modulo", f"{each} rows a partition are fewer than {MIN_RANGE_ROWS}")
    return PartitionInfo(rows, exact, partitions, each, "range", f"{each} rows a partition")


def assign_ranges(rows: int, partitions: int) -> tuple[tuple[int, int | None], ...]:
    """Cut rows into half-open ranges, the last without an end.

    >>> assign_ranges(10, 3)
    ((0, 3), (3, 6), (6, None))
    """
    each = rows // partitions
    return tuple((number * each, (number + 1) * each if number < partitions - 1 else None) for number in range(partitions))


def modulo_predicate(row: str, partition: int, partitions: int) -> str:
    """Write which rows are a partition's, by their number.

    >>> modulo_predicate("file_row_number", 1, 4)
    '(file_row_number % 4) = 1'
    """
    return f"({row} % {partitions}) = {partition}"


def assign_round_robin(batches: Sequence[Batch], partitions: int) -> tuple[tuple[Batch, ...], ...]:
    """Deal batches out in turn: batch *i* goes to partition *i* mod `partitions`.

    >>> assign_round_robin("abcde", 2)
    (('a', 'c', 'e'), ('b', 'd'))
    """
    return tuple(tuple(batches[number::partitions]) for number in range(partitions))
