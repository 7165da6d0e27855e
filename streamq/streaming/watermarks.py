"""The watermark of a query: how far event time has certainly come, over all partitions of all relations that it reads.

It is the least over the partitions, never goes back, and is `FOREVER_US` once every relation with event time has ended. A partition of an
external relation that gave no rows for the idle timeout holds nobody back, unless all partitions of its relation are idle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

FOREVER_US = 2**63 - 1
"""The watermark at the end of a source: every window closes."""

Partition = tuple[str, int]
"""A relation's name, and the number of a partition of it."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a relation says after a cut: by partition, its watermarks and how many rows were taken."""

    relation: str
    watermarks: Mapping[int, int | None]
    offsets: Mapping[int, int]
    external: bool = False
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Watermarks:
    """Watermarks in microseconds since 1970 (UTC), None where there is none yet: the query's, and that of each relation with event time."""

    query: int | None = None
    relations: Mapping[str, int | None] = field(default_factory=dict)
    idle: frozenset[Partition] = frozenset()


NO_WATERMARKS = Watermarks()


@dataclass(frozen=True, slots=True)
class Seen:
    """How far a partition of an external relation had come, and how long ago it came there."""

    offset: int
    ago_s: float


@dataclass(frozen=True, slots=True)
class TrackerState:
    """What a tracker knows, without its clock."""

    query: int | None
    relations: Mapping[str, int | None]
    seen: Mapping[Partition, Seen]


class WatermarkTracker:
    """Follows the partitions of a query's relations."""

    __slots__ = ("_idle_timeout_s", "_query", "_relations", "_seen")

    def __init__(self, idle_timeout_s: float) -> None:
        self._idle_timeout_s = idle_timeout_s
        self._relations: dict[str, int | None] = {}
        self._query: int | None = None
        self._seen: dict[Partition, tuple[int, float]] = {}

    def save(self, now_s: float) -> TrackerState:
        """Give what is known at a time of the steady clock."""
        seen = {partition: Seen(offset, now_s - at_s) for partition, (offset, at_s) in self._seen.items()}
        return TrackerState(self._query, dict(self._relations), seen)

    def resume(self, state: TrackerState, now_s: float) -> None:
        """Go on with what another one knew, maybe by another clock. Time in which nobody looked does not count as idle."""
        self._query, self._relations = state.query, dict(state.relations)
        self._seen = {partition: (seen.offset, now_s - seen.ago_s) for partition, seen in state.seen.items()}

    def advance(self, readings: Sequence[Reading], now_s: float) -> Watermarks:
        """Take in what the relations say at a time of a steady clock."""
        idle: set[Partition] = set()
        for reading in readings:
            if reading.watermarks or reading.relation in self._relations:
                found = self._idle(reading, now_s)
                idle |= found
                value = (
                    FOREVER_US
                    if reading.ended
                    else _least([w for n, w in reading.watermarks.items() if (reading.relation, n) not in found])
                )
                self._relations[reading.relation] = _later(self._relations.get(reading.relation), value)
        if not self._relations:
            return NO_WATERMARKS
        self._query = _later(self._query, _least(list(self._relations.values())))
        return Watermarks(self._query, dict(self._relations), frozenset(idle))

    def idle_at_s(self, now_s: float) -> float | None:
        """Tell when the next partition becomes idle if it gives no rows until then."""
        times = (seen + self._idle_timeout_s for _, seen in self._seen.values())
        return min((time for time in times if time > now_s), default=None)

    def _idle(self, reading: Reading, now_s: float) -> set[Partition]:
        """Give the partitions that hold nobody back: none if that would be all of them."""
        partitions = {(reading.relation, number) for number in reading.watermarks}
        if reading.ended or not reading.external:
            return set()
        for partition in partitions:
            offset = reading.offsets.get(partition[1], 0)
            if partition not in self._seen or self._seen[partition][0] != offset:
                self._seen[partition] = offset, now_s
        idle = {partition for partition in partitions if now_s - self._seen[partition][1] >= self._idle_timeout_s}
        return idle if idle != partitions else set()


def _least(values: Sequence[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return min(known) if known and len(known) == len(values) else None


def _later(old: int | None, new: int | None) -> int | None:
    if old is None or new is None:
        return old if new is None else new
    return max(old, new)
