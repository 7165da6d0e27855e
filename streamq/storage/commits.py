"""The order of writes: one lock and one number for all local relations of a database."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Commits:
    """Writes become visible inside `commit()`, one after the other; `sequence` numbers them from 1.

    Whoever holds `cut()` sees every write up to `sequence` and none behind it, in all relations that share this object.
    Both may be nested in the same thread.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._sequence = 0

    @property
    def sequence(self) -> int:
        """The number of the last write, 0 before the first."""
        return self._sequence

    @contextmanager
    def commit(self) -> Iterator[int]:
        """Make what the block writes visible at once; gives its number. A block that raises must have changed nothing, and has none."""
        with self._lock:
            yield self._sequence + 1
            self._sequence += 1

    @contextmanager
    def cut(self) -> Iterator[int]:
        """Hold all writes back while a cut is taken; gives the cut's number."""
        with self._lock:
            yield self._sequence
