"""The key index: any key columns to dense integer codes, by exact equality of values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamq.kernels.columns import RowCodec
from streamq.kernels.compiled import index as loops
from streamq.kernels.compiled.hashing import hash_rows
from streamq.kernels.layout import Layout, Part, Rows, joined, split
from streamq.kernels.memory import Records, address_of, frozen, zeroed

Codes = NDArray[np.int64]

_FIRST_SLOTS: Final = 16
_SMALL_SLOTS: Final = 512
_ARENA_BYTES: Final = 1 << 16
_MOST_ARENA_BYTES: Final = 1 << 26
_FAR_BYTES: Final = 1 << 21
"""Sub-tables of more bytes than this in all are not in a processor's own caches."""
_NOTHING: Final = frozen(np.zeros(0, np.int64), np.int64)
_ALL_VALID: Final = frozen(np.zeros(0, np.uint8), np.uint8)


class KeyIndex:
    """Gives every different key a code: 0, 1, 2, …, and those of released keys again.

    Keys are equal if their values are: NULL equals NULL, NaN NaN, and -0.0 0.0, unless `exact`. A key is given back as it was first seen.

    Sub-tables, chosen by the first bits of the hash, grow one at a time, each at a load of its own, so that no call pays for
    all of them.
    """

    def __init__(self, schema: pa.Schema, *, exact: bool = False) -> None:
        if not len(schema):
            raise ValueError("a key has at least one column")
        self.schema = schema
        self._codec = RowCodec(schema.types, exact=exact)
        shape = self._codec
        self._word = shape.single and shape.parts == 0 and shape.compared == 2
        self._text = shape.single and shape.parts == 1 and shape.compared == 1
        self._lengths = shape.parts if shape.parts > 1 else 0
        self._compared = 1 if self._word else 0 if self._text else shape.compared + self._lengths
        self._given = self._compared + shape.carried
        self._has_bytes = shape.parts > 0
        self._bytes_at = 8 * self._given if self._has_bytes else -1
        self._records = Records(self._given + (3 if self._has_bytes else 0))
        self._head = np.zeros(loops.ARENA_FREE + loops.SIZE_CLASSES, np.int64)
        self._marks = Records(1)
        self._calls = 0
        self._slots: list[NDArray[np.int64]] = []
        self._tables = np.zeros(4 * loops.TABLES, np.int64)
        self._table_bytes = 0
        self._arena: list[NDArray[np.int64]] = []
        self._arena_bytes = 0
        first = zeroed(2 * _FIRST_SLOTS * loops.TABLES)
        for table in range(loops.TABLES):
            self._set_table(table, first[2 * _FIRST_SLOTS * table : 2 * _FIRST_SLOTS * (table + 1)])

    def load(self) -> None:
        """Load the loops, which the first rows would else wait for."""
        self.keys(self.distinct(self.encode([pa.array([], kind) for kind in self.schema.types])))

    @property
    def rows(self) -> int:
        """How many keys there are."""
        return int(self._head[loops.LIVE])

    @property
    def capacity(self) -> int:
        """All codes are below."""
        return int(self._head[loops.NEXT])

    @property
    def bytes(self) -> int:
        """How many bytes the keys take, released ones included until their room is used again."""
        unused = int(self._head[loops.ARENA_END] - self._head[loops.ARENA])
        marks = self._marks.capacity if self._calls else 0
        return self._table_bytes + self.capacity * 8 * self._records.width + 8 * marks + self._arena_bytes - unused

    def encode(self, columns: Sequence[pa.Array | pa.ChunkedArray]) -> Codes:
        """Give the code of every row's key; new keys are added."""
        return self._codes(columns, True)

    def find(self, columns: Sequence[pa.Array | pa.ChunkedArray]) -> Codes:
        """Give the code of every row's key, -1 for keys that are not known."""
        return self._codes(columns, False)

    def keys(self, codes: Codes) -> pa.RecordBatch:
        """Give the keys of these codes, in their order, as columns of the schema."""
        codes = frozen(codes, np.int64)
        words = np.empty((self._records.width, len(codes)), np.int64)
        loops.gather(codes, self._records.chunks, self._records.width, 0, words)
        if self._word:
            nulls = (codes == self._head[loops.NULL] - 1).astype(np.int64)
            rows = Rows(len(codes), [words[0], nulls, *words[1:]], 2, [])
        elif self._text:
            nulls = words[-3] < 0
            rows = Rows(len(codes), [nulls.astype(np.int64)], 1, self._parts(codes, np.maximum(words[-3], 0), []))
        else:
            compared = self._codec.compared
            lengths = list(words[compared : self._compared])
            parts = self._parts(codes, words[-3], lengths) if self._has_bytes else []
            rows = Rows(len(codes), [*words[:compared], *words[self._compared : self._given]], compared, parts)
        return pa.RecordBatch.from_arrays(self._codec.decode(rows), schema=self.schema)

    def distinct(self, codes: Codes) -> Codes:
        """Give each different one of these codes once, in the order in which they first come."""
        self._marks.reserve(self.capacity)
        self._calls += 1
        out = np.empty(len(codes), np.int64)
        return out[: loops.mark(frozen(codes, np.int64), self._marks.chunks, self._calls, out)]

    def release(self, codes: Codes) -> None:
        """Forget the keys of these codes, each given once; the codes are given to other keys later."""
        codes = frozen(codes, np.int64)
        records = self._records
        done = loops.release(codes, self._word, self._compared, self._bytes_at, self._tables, self._head, records.chunks, records.width)
        assert done == len(codes), f"code {codes[done]} has no key"

    def _codes(self, columns: Sequence[pa.Array | pa.ChunkedArray], add: bool) -> Codes:
        layout = self._codec.layout(columns)
        codes = np.empty(layout.rows, np.int64)
        if add:
            self._records.reserve(self.capacity + layout.rows)
        if self._word:
            self._single(layout, add, codes)
        else:
            self._general(layout, add, codes)
        return codes

    def _single(self, layout: Layout, add: bool, codes: Codes) -> None:
        nulls, records = layout.nulls[0], self._records
        words = frozen(layout.lanes[0], np.int64)
        valid = _ALL_VALID if nulls is None else frozen(~nulls, np.uint8)
        signs = layout.signs[0] if layout.signs else None
        carried = _NOTHING if signs is None else frozen(signs, np.int64)
        row = 0
        while True:
            far = self._table_bytes > _FAR_BYTES
            row = loops.encode_words(words, valid, carried, row, add, far, self._tables, self._head, records.chunks, records.width, codes)
            if row == layout.rows:
                return
            self._make_room()

    def _general(self, layout: Layout, add: bool, codes: Codes) -> None:
        part = self._joined(layout)
        words = self._words(layout)
        starts, lengths = frozen(part.starts, np.int64), frozen(part.lengths, np.int64)
        hashes = np.empty(layout.rows, np.int64)
        hash_rows(words, self._given, self._compared, self._has_bytes, part.address, starts, lengths, hashes)
        hashes, records = frozen(hashes, np.int64), self._records
        row = 0
        while True:
            row = loops.encode_keys(
                words,
                self._given,
                self._compared,
                self._has_bytes,
                part.address,
                starts,
                lengths,
                hashes,
                row,
                add,
                self._table_bytes > _FAR_BYTES,
                self._tables,
                self._head,
                records.chunks,
                records.width,
                codes,
            )
            if row == layout.rows:
                return
            self._make_room()

    def _joined(self, layout: Layout) -> Part:
        if not self._has_bytes:
            return Part(_NOTHING, _NOTHING, 0, None)
        part = joined(layout.parts, layout.rows)
        nulls = layout.nulls[0]
        if self._text and nulls is not None:
            return Part(part.starts, np.where(nulls, -1, part.lengths), part.address, part.owner)
        return part

    def _words(self, layout: Layout) -> NDArray[np.int64]:
        """Give the words of every row one after the other."""
        if not self._given:
            return _NOTHING
        rows = self._codec.rows(layout)
        lengths = [part.lengths for part in layout.parts] if self._lengths else []
        words = np.empty((layout.rows, self._given), np.int64)
        for number, lane in enumerate([*rows.words[: rows.compared], *lengths, *rows.words[rows.compared :]]):
            words[:, number] = lane
        return frozen(words.reshape(-1), np.int64)

    def _parts(self, codes: Codes, total: NDArray[np.int64], lengths: list[NDArray[np.int64]]) -> list[Part]:
        offsets = np.zeros(len(codes) + 1, np.int64)
        np.cumsum(total, out=offsets[1:])
        data = np.empty(int(offsets[-1]), np.uint8)
        offsets = frozen(offsets, np.int64)
        loops.gather_bytes(codes, self._records.chunks, self._records.width, self._bytes_at, offsets, address_of(data))
        whole = Part(offsets[:-1], total, address_of(data), data)
        return split(whole, lengths) if lengths else [whole]

    def _make_room(self) -> None:
        """Grow what a loop stopped for."""
        need = int(self._head[loops.NEED])
        if need < 0:
            self._add_arena(-need)
        else:
            self._grow(need)

    def _grow(self, table: int) -> None:
        old, slots = int(self._tables[4 * table + loops.ADDRESS]), int(self._tables[4 * table + loops.MASK]) + 1
        larger = slots * (4 if slots < _SMALL_SLOTS else 2)
        block = zeroed(2 * larger)
        loops.rehash(old, slots, address_of(block), larger - 1)
        self._set_table(table, block)

    def _set_table(self, table: int, block: NDArray[np.int64]) -> None:
        if table < len(self._slots):
            self._table_bytes -= self._slots[table].nbytes
            self._slots[table] = block
        else:
            self._slots.append(block)
        self._table_bytes += block.nbytes
        slots = len(block) // 2
        # Between 40 % and 80 %, evenly: doubling them is then work that never comes at once.
        share = 0.4 * 2 ** ((table * 37 % loops.TABLES) / loops.TABLES)
        entry = self._tables[4 * table : 4 * table + 4]
        entry[loops.ADDRESS], entry[loops.MASK], entry[loops.LIMIT] = address_of(block), slots - 1, int(share * slots)

    def _add_arena(self, least: int) -> None:
        size = max(least, min(_MOST_ARENA_BYTES, max(_ARENA_BYTES, self._arena_bytes // 4)))
        block = zeroed(size // 8)
        self._arena.append(block)
        # What is left of the block before is lost: less than one piece.
        self._arena_bytes += size
        self._head[loops.ARENA], self._head[loops.ARENA_END] = address_of(block), address_of(block) + size
