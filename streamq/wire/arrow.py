"""Arrow IPC streams, piece by piece: bytes as they are ready to go, batches as soon as all their bytes have come.

Nothing here reads or writes. `ArrowEncoder` gives the bytes of every batch; `ArrowDecoder` takes bytes cut anywhere, and finds by the
lengths in the messages where a batch ends.
"""

from __future__ import annotations

import json
import struct
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from streamq.wire.pieces import Pieces

CONTENT_TYPE = "application/vnd.apache.arrow.stream"
QUERY, PROGRESS, END, ERROR = (f"streamq.{name}" for name in ("query", "progress", "end", "error"))
"""Keys of metadata: of a schema, of a batch, of the last batch, and of the batch that is there in place of an end."""
_OWN = b"streamq."
"""With which each of them begins. Others may say of a batch what they like."""
MAX_METADATA_BYTES = 64 << 20
"""The description of a batch or a schema is far smaller: what claims more is no Arrow stream."""
_CONTINUATION = 0xFFFFFFFF
_SCHEMA, _DICTIONARY, _BATCH = 1, 2, 3


class NotArrow(ValueError):
    """The bytes are no Arrow IPC stream."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A batch, and of its metadata what is streamq's own: JSON objects. Batches of which the same is said, one after the other, share the
    mapping.
    """

    batch: pa.RecordBatch
    metadata: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


class ArrowEncoder:
    """Writes one stream. The bytes of a call are to be sent before those of the next."""

    def __init__(self, schema: pa.Schema, query: object | None = None) -> None:
        own = {} if query is None else {QUERY: json.dumps(query)}
        self.schema = schema.with_metadata({**(schema.metadata or {}), **own} or None)
        self._open: tuple[_Sink, pa.RecordBatchStreamWriter] | None = None
        self._said: tuple[Mapping[str, object], pa.KeyValueMetadata] | None = None
        self._unsaid = 0
        self.begun = False

    def encode(self, batch: pa.RecordBatch, metadata: Mapping[str, object] | None = None) -> bytes:
        """Give a batch's bytes; before those of the first, the schema's."""
        return b"".join(self.pieces(batch, metadata))

    def pieces(self, batch: pa.RecordBatch, metadata: Mapping[str, object] | None = None) -> Pieces:
        """Give the same bytes in pieces, among them the batch's columns as they are: nothing large is copied.

        What is said of one batch after the other in the same mapping is put into words once.
        """
        if batch.schema.metadata != self.schema.metadata:
            batch = batch.replace_schema_metadata(self.schema.metadata)
        if metadata and (self._said is None or metadata is not self._said[0]):
            self._said = metadata, pa.KeyValueMetadata({key: json.dumps(value) for key, value in metadata.items()})
        sink, writer = self._opened()
        writer.write_batch(batch, custom_metadata=self._said[1] if metadata and self._said is not None else None)
        self.begun = True
        return self._without_schema(sink.take())

    def note(self, metadata: Mapping[str, object]) -> bytes:
        """Give the bytes of a batch that has metadata and no rows."""
        return self.encode(empty_batch(self.schema), metadata)

    def end(self) -> bytes:
        """Give the end-of-stream marker; before that, where there was no batch, the schema."""
        sink, writer = self._opened()
        writer.close()
        return b"".join(self._without_schema(sink.take()))

    def rest(self) -> None:
        """Keep as little as can be, until more comes: that may take long."""
        # With a writer goes its knowledge of the dictionaries that were sent.
        if self.begun and not any(map(_has_dictionary, self.schema.types)):
            self._open = self._said = None

    def _opened(self) -> tuple[_Sink, pa.RecordBatchStreamWriter]:
        if self._open is None:
            sink = _Sink()
            self._open = sink, pa.ipc.new_stream(sink, self.schema)
            self._unsaid = len(self.schema.serialize()) if self.begun else 0
        return self._open

    def _without_schema(self, pieces: Pieces) -> Pieces:
        """Leave out what another writer has given before."""
        unsaid, self._unsaid, first = self._unsaid, 0, 0
        while unsaid:
            unsaid -= len(pieces[first])
            first += 1
        return pieces[first:]


class ArrowDecoder:
    """Reads one stream from bytes as they come. With `max_message_bytes`, messages are at most so large, and not compressed."""

    def __init__(self, max_message_bytes: int | None = None) -> None:
        self.ended = False
        self._max_message_bytes = max_message_bytes
        self._pieces: list[bytes] = []
        self._have = 0
        self._need = 8
        self._messages = _Messages()
        self._reader: pa.RecordBatchStreamReader | None = None
        self._said: tuple[pa.KeyValueMetadata, Mapping[str, Mapping[str, Any]]] | None = None

    @property
    def schema(self) -> pa.Schema | None:
        """The schema, with all its metadata, as soon as it has come."""
        return None if self._reader is None else self._reader.schema

    @property
    def held_bytes(self) -> int:
        """The size of what has come of a message that is not whole yet; once the stream has ended, of what came behind it."""
        return self._have

    def feed(self, data: bytes) -> Iterator[Decoded]:
        """Take bytes, and give the batches that they complete. To be iterated to its end before the next call.

        Raises:
            NotArrow: they are no Arrow stream, or a message is larger than allowed.
        """
        self._have += len(data)
        if self.ended:
            return
        self._pieces.append(data)
        if self._have < self._need:
            return
        # Copied once all of a message is there, and hardly ever before: its head comes in one piece.
        rest = memoryview(self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces))
        while len(rest) >= self._need:
            size, kind = _measure(rest)
            if size == 0:
                self.ended, rest = True, rest[8:]
                break
            if self._max_message_bytes is not None and size > self._max_message_bytes:
                raise NotArrow(f"a message of {size:,} bytes is larger than the {self._max_message_bytes:,} that are allowed")
            self._need = size
            if kind is None or len(rest) < size:
                continue
            message, rest, self._need = rest[:size], rest[size:], 8
            decoded = self._read(message, kind)
            if decoded is not None:
                yield decoded
        # A copy: of what came with it nothing is kept.
        self._pieces, self._have = [bytes(rest)], len(rest)

    def _read(self, message: memoryview, kind: int) -> Decoded | None:
        if self._max_message_bytes is not None and kind in (_DICTIONARY, _BATCH) and _is_compressed(message, kind):
            # How large they are would only be known once they fill the memory.
            raise NotArrow("the stream has compressed buffers: write it without compression")
        self._messages.append(message)
        try:
            if kind == _SCHEMA and self._reader is not None:
                raise NotArrow("the stream has a second schema")
            if kind == _SCHEMA:
                self._reader = pa.ipc.open_stream(self._messages)
                _read_names(self._reader.schema)
                return None
            if self._reader is None or kind not in (_DICTIONARY, _BATCH):
                raise NotArrow("the stream does not begin with a schema")
            if kind == _DICTIONARY:
                return None
            batch, custom = self._reader.read_next_batch_with_custom_metadata()
            batch.validate()
            return Decoded(batch, {} if custom is None else self._parse(custom))
        except (pa.ArrowException, StopIteration, OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
            raise NotArrow(f"the body is no Arrow IPC stream: {error}") from error

    def _parse(self, custom: pa.KeyValueMetadata) -> Mapping[str, Mapping[str, Any]]:
        """Give what is streamq's own of metadata; what is said again is the same mapping."""
        if self._said is None or not custom.equals(self._said[0]):
            self._said = custom, {key.decode(): _object(key, value) for key, value in custom.items() if key.startswith(_OWN)}
        return self._said[1]


def query_metadata(schema: pa.Schema) -> tuple[pa.Schema, Any]:
    """Take what the service says of a query out of a schema: gives the query's own schema, and what was said, None for nothing.

    >>> query_metadata(ArrowEncoder(pa.schema([("n", pa.int64())]), {"id": "q1"}).schema)[1]
    {'id': 'q1'}
    """
    metadata = dict(schema.metadata or {})
    said = metadata.pop(QUERY.encode(), None)
    return schema.with_metadata(metadata or None), None if said is None else json.loads(said)


def empty_batch(schema: pa.Schema) -> pa.RecordBatch:
    """Make a batch without rows."""
    # Of nulls: from a list, even an empty one, pyarrow would make it with pandas, which takes long to import.
    return pa.RecordBatch.from_arrays([pa.nulls(0, kind) for kind in schema.types], schema=schema)


def table_to_text(table: pa.Table) -> str:
    """Give a small table as text for JSON."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return b64encode(sink.getvalue()).decode()


def table_from_text(text: str) -> pa.Table:
    """Make the table of `table_to_text`."""
    return pa.ipc.open_stream(b64decode(text)).read_all()


def _measure(data: bytes | memoryview) -> tuple[int, int | None]:
    """Give the size of the message that begins here and what it is; while too little is there to tell, how much must be, and None.

    The end-of-stream marker has size 0. See "Encapsulated message format" in Arrow's specification of IPC.
    """
    mark, length = struct.unpack_from("<Ii", data)
    if mark != _CONTINUATION or length < 0 or length > MAX_METADATA_BYTES:
        raise NotArrow("the body is no Arrow IPC stream: a message begins with other bytes")
    if length == 0:
        return 0, None
    if len(data) < 8 + length:
        return 8 + length, None
    head = memoryview(data)[8 : 8 + length]
    try:
        kind, body = _scalar(head, 1, "<B"), _scalar(head, 3, "<q")
    except struct.error:
        raise NotArrow("the body is no Arrow IPC stream: a message has no head") from None
    if body < 0:
        raise NotArrow("the body is no Arrow IPC stream: a message has a negative length")
    return 8 + length + body, kind


def _object(key: bytes, value: bytes) -> Mapping[str, Any]:
    """Read what is said of a batch under one key."""
    said = json.loads(value)
    if not isinstance(said, dict):
        raise NotArrow(f"what the stream says of a batch as {key.decode()} is no JSON object")
    return said


def _read_names(fields: Iterable[pa.Field]) -> None:
    """Read the names of fields and of those within: pyarrow reads them when they are asked for, whatever bytes they are.

    Raises:
        UnicodeDecodeError: one is no text.
    """
    for field_ in fields:
        assert isinstance(field_.name, str)
        _read_names(field_.type.field(number) for number in range(field_.type.num_fields))


def _is_compressed(message: memoryview, kind: int) -> bool:
    """Tell whether a batch, or the one in a dictionary's message, says that its buffers are compressed."""
    (length,) = struct.unpack_from("<i", message, 4)
    head = message[8 : 8 + length]
    try:
        (root,) = struct.unpack_from("<I", head)
        batch = _child(head, root, 2)
        if kind == _DICTIONARY and batch is not None:
            batch = _child(head, batch, 1)
        return batch is not None and _child(head, batch, 3) is not None
    except struct.error:
        raise NotArrow("the body is no Arrow IPC stream: a message has no head") from None


def _scalar(head: memoryview, number: int, form: str) -> int:
    """Read a field of the flatbuffer's root table; 0 where it is left out."""
    (root,) = struct.unpack_from("<I", head)
    place = _place(head, root, number)
    return 0 if place is None else int(struct.unpack_from(form, head, place)[0])


def _child(head: memoryview, table: int, number: int) -> int | None:
    """Find the table that is a field of another one; None where it is left out."""
    place = _place(head, table, number)
    return None if place is None else place + int(struct.unpack_from("<I", head, place)[0])


def _place(head: memoryview, table: int, number: int) -> int | None:
    """Find a field of a table; None where it is left out."""
    (back,) = struct.unpack_from("<i", head, table)
    fields = table - back
    if fields < 0:
        raise struct.error("a table is described before the buffer")
    (size,) = struct.unpack_from("<H", head, fields)
    entry = 4 + 2 * number
    if entry + 2 > size:
        return None
    (offset,) = struct.unpack_from("<H", head, fields + entry)
    return table + int(offset) if offset else None


def _has_dictionary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_dictionary(kind)) or any(_has_dictionary(kind.field(place).type) for place in range(kind.num_fields))


class _Sink:
    """The file that a writer of Arrow writes to: keeps what was written until it is taken."""

    closed = False

    def __init__(self) -> None:
        self._pieces: list[bytes | pa.Buffer] = []

    def write(self, data: bytes | pa.Buffer) -> int:
        self._pieces.append(data)
        return len(data)

    def take(self) -> Pieces:
        pieces, self._pieces = self._pieces, []
        return pieces

    def flush(self) -> None:
        """Do nothing: what was written waits to be taken."""

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False


class _Messages:
    """The file that a reader of Arrow reads from: whole messages, which it asks for in pieces."""

    closed = False

    def __init__(self) -> None:
        self._messages: list[memoryview] = []

    def append(self, message: memoryview) -> None:
        self._messages.append(message)

    def read(self, size: int) -> memoryview:
        """Give the next bytes, which are never of two messages, without copying them."""
        if not self._messages:
            return memoryview(b"")
        piece, rest = self._messages[0][:size], self._messages[0][size:]
        self._messages[:1] = [rest] if rest else []
        return piece

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False
