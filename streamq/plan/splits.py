"""Splits: the units of a relation that can be read on their own, and the leases that workers take.

A split is a contiguous range of the rows of one *unit* (a file, a shard of a source). The splits of a relation cover
every row exactly once; the last range of a unit is open-ended, so that a wrong row count can never lose rows.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ColumnRange:
    """What statistics say of a column inside a split. `low`/`high` are None where unknown; `nulls` counts NULLs, None if unknown."""

    column: str
    low: object
    high: object
    nulls: int | None


@dataclass(frozen=True, slots=True)
class Split:
    """Rows `first` ≤ row < `end` of unit `unit`; `end` None is open. `rows` and `bytes` weigh the split."""

    unit: int
    first: int
    end: int | None
    rows: int
    bytes: int
    ranges: tuple[ColumnRange, ...] = ()


@dataclass(frozen=True, slots=True)
class Lease:
    """Splits that one task reads, in unit and row order. `number` orders the leases of a scan by position."""

    number: int
    splits: tuple[Split, ...]

    @property
    def rows(self) -> int:
        return sum(split.rows for split in self.splits)
