"""What operators without a state say of it."""

from __future__ import annotations

from streamq.operators.base import State


class Stateless:
    """An operator that remembers nothing from one epoch to the next."""

    __slots__ = ()

    @property
    def state_rows(self) -> int:
        return 0

    @property
    def state_bytes(self) -> int:
        return 0

    def snapshot(self) -> State:
        return {}

    def restore(self, state: State) -> None:
        """Take nothing over."""
