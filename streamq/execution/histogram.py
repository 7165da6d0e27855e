"""Counts of values by size."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of values by size: `counts[i]` are at most `bounds[i]` and above the bound before, the last count is above all bounds.

    >>> Histogram((1.0, 2.0), (3, 0, 1), 9.5).cumulative
    ((1.0, 3), (2.0, 3), (inf, 4))
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float

    @classmethod
    def empty(cls, bounds: tuple[float, ...]) -> Histogram:
        """Make one that has counted nothing."""
        return cls(bounds, (0,) * (len(bounds) + 1), 0.0)

    @property
    def count(self) -> int:
        """All values."""
        return sum(self.counts)

    @property
    def cumulative(self) -> tuple[tuple[float, int], ...]:
        """For every bound, infinity last, how many values are at most that large."""
        seen = 0
        steps = []
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            seen += count
            steps.append((bound, seen))
        return tuple(steps)

    def counting(self, value: float) -> Histogram:
        """Give the counts with one value more.

        >>> Histogram.empty((1.0, 2.0)).counting(2.0).counts
        (0, 1, 0)
        """
        bucket = bisect_left(self.bounds, value)
        return replace(self, counts=(*self.counts[:bucket], self.counts[bucket] + 1, *self.counts[bucket + 1 :]), sum=self.sum + value)

    def __add__(self, other: Histogram) -> Histogram:
        """Give the counts of both, which have the same bounds.

        >>> (Histogram((1.0,), (3, 1), 9.5) + Histogram((1.0,), (1, 0), 0.5)).counts
        (4, 1)
        """
        if self.bounds != other.bounds:
            raise ValueError(f"histograms with other bounds cannot be added: {self.bounds} and {other.bounds}")
        return replace(self, counts=tuple(map(sum, zip(self.counts, other.counts, strict=True))), sum=self.sum + other.sum)


NO_QUERIES = Histogram.empty((0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0))
"""For times of queries, in seconds: from a lookup to a report over everything."""
NO_EPOCHS = Histogram.empty((0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0))
"""For times of epochs, in seconds: from a row to a whole file that was there when the query began."""
