"""How long ago keys were touched: those that were not for too long are forgotten."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamq.kernels.index import KeyIndex
from streamq.operators.closing import Deadlines

Codes = NDArray[np.int64]
STEPS = 16
"""Ages are told apart by this part of the time after which keys are forgotten, so that touching a key again and again costs little."""


class Ages:
    """Remembers by code when it was last touched, by the clock of epochs; None forgets nothing."""

    def __init__(self, ttl_us: int | None) -> None:
        self._ttl_us = ttl_us
        self._step_us = 1 if ttl_us is None else max(1, ttl_us // STEPS)
        self._deadlines = Deadlines()

    @property
    def bytes(self) -> int:
        return self._deadlines.bytes

    def touch(self, codes: Codes, now_us: int) -> None:
        """Note that something of these codes has changed now."""
        if self._ttl_us is not None:
            due = -(-(now_us + self._ttl_us) // self._step_us) * self._step_us
            self._deadlines.set(codes, np.full(len(codes), due))

    def release(self, codes: Codes) -> None:
        """Forget these codes."""
        self._deadlines.unset(codes)

    def take(self, now_us: int) -> Codes:
        """Give the codes that are to be forgotten, and forget them here."""
        return self._deadlines.take(now_us)


class KeyAges:
    """Ages of keys that have no code of their own."""

    def __init__(self, keys: pa.Schema, ttls_us: Sequence[int | None]) -> None:
        ttl_us = next((ttl for ttl in ttls_us if ttl is not None), None)
        self._index = None if ttl_us is None else KeyIndex(keys)
        self._ages = Ages(ttl_us)

    @property
    def bytes(self) -> int:
        return 0 if self._index is None else self._index.bytes + self._ages.bytes

    def touch(self, keys: Sequence[pa.Array], now_us: int) -> None:
        """Note that something of these keys has changed now."""
        if self._index is not None and len(keys[0]):
            self._ages.touch(self._index.distinct(self._index.encode(keys)), now_us)

    def take(self, now_us: int) -> list[pa.Array]:
        """Give the keys that are to be forgotten, as columns, and forget them here; no columns if there are none."""
        codes = self._ages.take(now_us)
        if self._index is None or not len(codes):
            return []
        keys = list(self._index.keys(codes).columns)
        self._index.release(codes)
        return keys
