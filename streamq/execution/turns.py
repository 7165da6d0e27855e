"""Whose turn it is on a worker."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """Those that wait for a turn: newcomers and all others, each in the order in which they came, and each sort in every other turn.

    What is small is over with its first turn, so it need not wait for all that is large; which goes on however much else comes.

    >>> turns = Turns[str]()
    >>> for large in "AB":
    ...     turns.add(large)
    >>> for small in "ab":
    ...     turns.add(small, newcomer=True)
    >>> [turns.take() for _ in range(4)]
    ['a', 'A', 'b', 'B']
    """

    def __init__(self) -> None:
        self._newcomers: deque[T] = deque()
        self._others: deque[T] = deque()
        self._last_was_newcomer = False

    def __len__(self) -> int:
        return len(self._newcomers) + len(self._others)

    def add(self, waiting: T, *, newcomer: bool = False) -> None:
        """Let one wait."""
        (self._newcomers if newcomer else self._others).append(waiting)

    def take(self) -> T:
        """Give the next. There must be one."""
        self._last_was_newcomer = bool(self._newcomers) and not (self._last_was_newcomer and self._others)
        return (self._newcomers if self._last_was_newcomer else self._others).popleft()

    def remove(self, waiting: T) -> None:
        """Let one wait no longer."""
        (self._newcomers if waiting in self._newcomers else self._others).remove(waiting)
