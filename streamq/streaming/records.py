"""The record of an epoch: everything that was decided about it. Whoever has it can compute the epoch again, and decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from streamq.operators.base import Epoch
from streamq.storage.feeds import Position
from streamq.streaming.watermarks import FOREVER_US, Watermarks


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """An epoch: its number (from 1), the cut (`positions` by relation after it), watermarks at its end, its clock.

    `ended` tells that no relation gives any more.
    """

    number: int
    now_us: int
    positions: Mapping[str, Position]
    watermarks: Watermarks
    ended: bool

    def epoch(self, lateness_us: int) -> Epoch:
        """Give what operators need of it."""
        watermark = self.watermarks.query
        horizon = watermark if watermark is None or watermark == FOREVER_US else watermark - lateness_us
        return Epoch(self.number, self.now_us, horizon, self.ended)

    @property
    def rows(self) -> Mapping[str, int]:
        """How many rows of each relation have been read."""
        return {relation: sum(position.offsets.values()) for relation, position in self.positions.items()}
