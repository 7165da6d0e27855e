"""Bytes in pieces, as they come from whoever made them: so what is large is copied where it is sent, and a little at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa

Pieces = Sequence[bytes | memoryview | pa.Buffer]
"""Bytes, one behind the other."""


def length(pieces: Pieces) -> int:
    """Give the number of bytes.

    >>> length([b"ab", pa.py_buffer(b"cde")])
    5
    """
    return sum(map(len, pieces))


def cut(pieces: Pieces, size: int) -> Iterator[bytes]:
    """Give the bytes in pieces of `size`, the last of which may be smaller.

    >>> list(cut([b"ab", pa.py_buffer(b"cdefg"), b"h"], 3))
    [b'abc', b'def', b'gh']
    """
    gathered: list[memoryview] = []
    room = size
    for piece in pieces:
        view = memoryview(piece)
        while len(view) >= room:
            gathered.append(view[:room])
            yield b"".join(gathered)
            gathered, view, room = [], view[room:], size
        gathered.append(view)
        room -= len(view)
    if room < size:
        yield b"".join(gathered)
