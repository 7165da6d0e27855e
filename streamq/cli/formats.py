"""Turns record batches into the bytes of an output format, a batch at a time.

A format is a `Writer`: it gets the schema once, then batches, then the end, and hands bytes to a sink. The table for
people is `streamq.cli.table`.
"""

from __future__ import annotations

import io
from typing import Literal, Protocol, assert_never

import pyarrow as pa
import pyarrow.csv

from streamq.cli.sink import ByteSink
from streamq.wire.json_lines import JsonLines

ByteFormat = Literal["csv", "ndjson", "arrow"]


class Writer(Protocol):
    """Writes one result. `end` is called only when the result is complete."""

    def write(self, batch: pa.RecordBatch) -> None: ...

    def end(self) -> None: ...


def open_writer(kind: ByteFormat, schema: pa.Schema, sink: ByteSink) -> Writer:
    """Begin a result of `schema` in a format."""
    match kind:
        case "csv":
            return CsvWriter(schema, sink)
        case "ndjson":
            return JsonLinesWriter(schema, sink)
        case "arrow":
            return ArrowWriter(schema, sink)
        case _:
            assert_never(kind)


class ArrowWriter:
    """Writes an Arrow IPC stream. Its end-of-stream marker tells a reader that the result is complete."""

    def __init__(self, schema: pa.Schema, sink: ByteSink) -> None:
        self._writer = pa.ipc.new_stream(pa.PythonFile(_FileFace(sink), "w"), schema)

    def write(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch)

    def end(self) -> None:
        self._writer.close()


class CsvWriter:
    """Writes CSV with a header: NULL is empty, an empty string is ``""``, nested values are JSON."""

    def __init__(self, schema: pa.Schema, sink: ByteSink) -> None:
        self._sink = sink
        self._text = JsonLines(schema)
        self._header = pa.csv.WriteOptions(include_header=True)
        self._body = pa.csv.WriteOptions(include_header=False)
        # Of nulls: from a list, even an empty one, pyarrow would make it with pandas, which takes long to import.
        self._write(pa.RecordBatch.from_arrays([pa.nulls(0, kind) for kind in schema.types], schema=schema), self._header)

    def write(self, batch: pa.RecordBatch) -> None:
        self._write(batch, self._body)

    def end(self) -> None:
        """Nothing marks the end of CSV."""

    def _write(self, batch: pa.RecordBatch, options: pa.csv.WriteOptions) -> None:
        buffer = io.BytesIO()
        pa.csv.write_csv(self._text.flatten(batch), buffer, options)
        self._sink.write(buffer.getbuffer())


class JsonLinesWriter:
    """Writes a JSON object a row, one a line."""

    def __init__(self, schema: pa.Schema, sink: ByteSink) -> None:
        self._sink = sink
        self._text = JsonLines(schema)

    def write(self, batch: pa.RecordBatch) -> None:
        if batch.num_rows:
            self._sink.write(self._text.encode(batch))

    def end(self) -> None:
        """Nothing marks the end of JSON lines."""


class _FileFace:
    """Shows a sink as the file that pyarrow writes to."""

    closed = False

    def __init__(self, sink: ByteSink) -> None:
        self._sink = sink

    def write(self, data: bytes) -> int:
        self._sink.write(data)
        return len(data)

    def flush(self) -> None:
        """A sink keeps nothing back."""
