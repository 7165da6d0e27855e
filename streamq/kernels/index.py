"""The key index: any key columns to dense integer codes, by exact equality of values."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Codes = NDArray[np.int64]


class KeyIndex:
    """Gives every different key a code: 0, 1, 2, …, and those of released keys again.

    Keys are equal if their values are: NULL equals NULL, NaN NaN and -0.0 0.0.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self._codes: dict[tuple[object, ...], int] = {}
        self._keys: list[tuple[object, ...] | None] = []
        self._places: list[int] = []
        self._free: list[int] = []
        self._values = schema.empty_table()

    @property
    def rows(self) -> int:
        """How many keys there are."""
        return len(self._codes)

    @property
    def capacity(self) -> int:
        """All codes are below."""
        return len(self._keys)

    @property
    def bytes(self) -> int:
        """How many bytes the keys take."""
        return int(self._values.nbytes) + 100 * len(self._keys)

    def encode(self, columns: Sequence[pa.Array]) -> Codes:
        """Give the code of every row's key; new keys are added."""
        keys = self._rows(columns)
        added: list[int] = []
        codes = np.empty(len(keys), np.int64)
        for row, key in enumerate(keys):
            code = self._codes.get(key)
            if code is None:
                code = self._add(key, self._values.num_rows + len(added))
                added.append(row)
            codes[row] = code
        if added:
            new = pa.Table.from_arrays([pa.chunked_array([column]) for column in columns], schema=self.schema).take(added)
            self._values = pa.concat_tables([self._values, new])
        return codes

    def find(self, columns: Sequence[pa.Array]) -> Codes:
        """Give the code of every row's key, -1 for keys that are not known."""
        return np.array([self._codes.get(key, -1) for key in self._rows(columns)], dtype=np.int64)

    def keys(self, codes: Codes) -> pa.RecordBatch:
        """Give the keys of these codes, in their order, as columns of the schema."""
        places = pa.array([self._places[code] for code in codes], pa.int64())
        return _one_batch(self._values.take(places))

    def release(self, codes: Codes) -> None:
        """Forget the keys of these codes, each given once; the codes are given to other keys later."""
        for code in codes.tolist():
            key = self._keys[code]
            assert key is not None, "a released code was released again"
            del self._codes[key]
            self._keys[code] = None
            self._free.append(code)

    def _add(self, key: tuple[object, ...], place: int) -> int:
        if self._free:
            code = self._free.pop()
            self._keys[code], self._places[code] = key, place
        else:
            code = len(self._keys)
            self._keys.append(key)
            self._places.append(place)
        self._codes[key] = code
        return code

    def _rows(self, columns: Sequence[pa.Array]) -> list[tuple[object, ...]]:
        return list(zip(*([_plain(value) for value in column.to_pylist()] for column in columns), strict=True))


def _plain(value: object) -> object:
    match value:
        case float():
            return "nan" if math.isnan(value) else value + 0.0
        case dict():
            return tuple((name, _plain(item)) for name, item in value.items())
        case list() | tuple():
            return tuple(_plain(item) for item in value)
        case str():
            return ("text", value)
        case _:
            return value


def _one_batch(table: pa.Table) -> pa.RecordBatch:
    arrays = [column.combine_chunks() for column in table.columns]
    return pa.RecordBatch.from_arrays(arrays, schema=table.schema)
