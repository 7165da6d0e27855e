"""A bag of rows without a key."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamq.kernels.index import KeyIndex
from streamq.operators.base import Delta, Weights
from streamq.operators.deltas import from_state, net, repeated, to_state, weights_of


class Bag:
    """Keeps different rows and how often each is there. `owner` is who is at fault if a row is withdrawn that is not there.

    If `exact`, -0.0 and 0.0 are different, so that a row comes back as it went in.
    """

    def __init__(self, schema: pa.Schema, owner: str, *, exact: bool = True) -> None:
        self.schema = schema
        self._owner = owner
        self._index = KeyIndex(schema, exact=exact)
        self._times = np.zeros(0, np.int64)
        self._places = np.zeros(0, np.int64)

    @property
    def num_rows(self) -> int:
        """How many different rows there are."""
        return self._index.rows

    @property
    def bytes(self) -> int:
        return self._index.bytes + self._times.nbytes + self._places.nbytes

    def apply(self, delta: Delta) -> tuple[NDArray[np.int64], Weights, Weights]:
        """Add and withdraw rows; give the codes of the different rows among them, and how often each was and is there.

        Codes of rows that are gone are theirs until `release` is called.
        """
        codes = self._index.encode(delta.rows.columns)
        self._times = grown(self._times, self._index.capacity)
        self._places = grown(self._places, self._index.capacity)
        touched = different(codes, self._places)
        before = self._times[touched]
        np.add.at(self._times, codes, weights_of(delta))
        after = self._times[touched]
        assert bool((after >= 0).all()), f"{self._owner}: a row was withdrawn that is not there"
        return touched, before, after

    def change(self, delta: Delta) -> None:
        """Add and withdraw rows, and forget those that are gone."""
        if delta.num_rows:
            touched, _, after = self.apply(delta)
            self.release(touched[after == 0])

    def has(self, delta: Delta) -> bool:
        """Tell whether what the changes (net, every row once) withdraw is there."""
        weights = weights_of(delta)
        codes = self._index.find(delta.rows.columns)
        return bool((np.where(codes >= 0, self._times[codes], 0) + weights >= 0).all()) if len(self._times) else bool((weights >= 0).all())

    def without_unknown(self, delta: Delta) -> Delta:
        """Leave out withdrawals of rows that are not there."""
        if delta.weights is None or not (delta.weights < 0).any():
            return delta
        delta = net(delta)
        codes = self._index.find(delta.rows.columns)
        known = np.where(codes >= 0, self._times[codes], 0) if len(self._times) else np.zeros(len(codes), np.int64)
        weights = np.maximum(weights_of(delta), -known)
        return Delta(delta.rows.filter(pa.array(weights != 0)), weights[weights != 0])

    def keys(self, codes: NDArray[np.int64]) -> pa.RecordBatch:
        """Give the rows of these codes."""
        return self._index.keys(codes)

    def release(self, codes: NDArray[np.int64]) -> None:
        """Forget these rows, each given once."""
        self._times[codes] = 0
        self._index.release(codes)

    def all(self) -> Delta:
        """Give every different row, with how often it is there."""
        codes = np.flatnonzero(self._times)
        return Delta(self._index.keys(codes), self._times[codes])

    def codes(self) -> NDArray[np.int64]:
        """Give the codes of all different rows."""
        return np.flatnonzero(self._times)

    def rows(self) -> pa.RecordBatch:
        """Give every row as often as it is there."""
        everything = self.all()
        return repeated(everything.rows, weights_of(everything))

    def snapshot(self) -> pa.Table:
        return to_state(self.all())

    def restore(self, state: pa.Table) -> None:
        self.change(from_state(state, self.schema))


def grown(values: NDArray[np.int64], capacity: int, fill: int = 0) -> NDArray[np.int64]:
    """Give the array with at least `capacity` places, doubling it where it has fewer."""
    if len(values) >= capacity:
        return values
    larger = np.full(max(capacity, 2 * len(values), 64), fill, np.int64)
    larger[: len(values)] = values
    return larger


def different(codes: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give every code once, in the order in which they come first. `places` is room, by code, that is written over.

    >>> different(np.array([2, 0, 2, 1, 0]), np.zeros(3, np.int64)).tolist()
    [2, 0, 1]
    """
    order = np.arange(len(codes))
    places[codes[::-1]] = order[::-1]
    result: NDArray[np.int64] = codes[places[codes] == order]
    return result
