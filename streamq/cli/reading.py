"""Reads files of rows, piece by piece: JSON lines, CSV, Parquet, Arrow IPC. Plain functions that block."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, assert_never

import pyarrow as pa
import pyarrow.csv

from streamq.cli.arguments import InputFormat, UsageError
from streamq.errors import SourceError
from streamq.wire.arrow import ArrowDecoder, NotArrow

BLOCK_BYTES = 1 << 20
BATCH_ROWS = 32_768
STDIN = "-"
Piece: TypeAlias = "pa.RecordBatch | list[dict[str, object]]"

_BY_NAME: dict[str, InputFormat] = {
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".json": "ndjson",
    ".csv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
}


@contextmanager
def open_rows(path: str, kind: InputFormat | None) -> Iterator[RowFile]:
    """Open a file of rows; ``-`` is standard input. `kind` None is told by its name, or by how its bytes begin.

    Raises:
        OSError: it cannot be opened.
        UsageError: what it is cannot be told, or it cannot be read from a pipe.
    """
    if path == STDIN:
        file: Any = sys.stdin.buffer
        kind = kind or _kind_of_bytes(file)
        if kind == "parquet":
            raise UsageError("Parquet cannot be read from standard input: give a file")
        yield RowFile("standard input", file, kind)
        return
    kind = kind or _kind_of_name(path)
    with Path(path).open("rb") as raw:
        size = Path(path).stat().st_size
        if not path.endswith(".gz"):
            yield RowFile(path, raw, kind, raw, size)
            return
        with gzip.GzipFile(fileobj=raw) as unpacked:
            yield RowFile(path, unpacked, kind, raw, size)


class RowFile:
    """A file of rows, to be read once. `done` of `total` is how far it is, in bytes or rows; None is not known.

    `file` can be looked into without being read (`peek`); where it is made from `raw`, that one is `size` bytes.
    """

    def __init__(self, name: str, file: Any, kind: InputFormat, raw: BinaryIO | None = None, size: int = 0) -> None:
        self.name = name
        self.kind = kind
        self.done = 0
        self.total = size or None
        self._file = file
        self._raw = raw

    def pieces(self, schema: pa.Schema) -> Iterator[Piece]:
        """Read the file, for a relation of this schema.

        Raises:
            SourceError: it is not what it was said to be.
        """
        try:
            for piece in self._pieces(schema):
                if self._raw is not None and self.kind != "parquet":
                    self.done = self._raw.tell()
                yield piece
        except (pa.ArrowException, NotArrow, EOFError, gzip.BadGzipFile, UnicodeDecodeError) as error:
            raise SourceError(f"{self.name} is not what it should be, {self.kind}: {error}") from error

    def _pieces(self, schema: pa.Schema) -> Iterator[Piece]:
        match self.kind:
            case "ndjson":
                return self._json_pieces()
            case "csv":
                return self._csv_pieces(schema)
            case "parquet":
                return self._parquet_pieces()
            case "arrow":
                return self._arrow_pieces()
            case _:
                assert_never(self.kind)

    def _json_pieces(self) -> Iterator[Piece]:
        number = 1
        # A line at a time from a pipe: what comes slowly is not kept waiting.
        hint = BLOCK_BYTES if self._raw is not None else 1
        while lines := self._file.readlines(hint):
            rows = [self._json_row(line, at) for at, line in enumerate(lines, number) if line.strip()]
            number += len(lines)
            if rows:
                yield rows

    def _json_row(self, line: bytes, number: int) -> dict[str, object]:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise SourceError(f"{self.name}: line {number} is no JSON: {error}") from None
        if not isinstance(row, dict):
            raise SourceError(f'{self.name}: line {number} is no object, such as {{"name": 1}}')
        return row

    def _csv_pieces(self, schema: pa.Schema) -> Iterator[Piece]:
        head = self._file.peek(BLOCK_BYTES).decode("utf-8-sig", errors="replace")
        if not head:
            return
        names = next(csv.reader(io.StringIO(head, newline="")), [])
        known = {field.name.lower(): _csv_type(field.type) for field in schema}
        options = pa.csv.ConvertOptions(
            column_types={name: known.get(name.lower(), pa.string()) for name in names},
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )
        reading = pa.csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=False)
        # Where there is one column, an empty line is a row with an empty field.
        parsing = pa.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=len(names) > 1)
        yield from pa.csv.open_csv(pa.PythonFile(self._file, "r"), reading, parsing, options)

    def _parquet_pieces(self) -> Iterator[Piece]:
        from pyarrow.parquet import ParquetFile

        file = ParquetFile(self._file)
        self.total = file.metadata.num_rows
        for batch in file.iter_batches(BATCH_ROWS):
            self.done += batch.num_rows
            yield batch

    def _arrow_pieces(self) -> Iterator[Piece]:
        # A file is a stream between its magic number and its footer.
        is_stream = self._file.peek(6)[:6] != b"ARROW1"
        if not is_stream:
            self._file.read(8)
        decoder = ArrowDecoder()
        while not decoder.ended and (data := self._file.read1(BLOCK_BYTES)):
            for decoded in decoder.feed(data):
                yield decoded.batch
        if not decoder.ended:
            raise SourceError(f"{self.name} ends before its Arrow stream does: it was cut")
        # Of a pipe nobody waits for what may never come.
        if is_stream and (decoder.held_bytes or (self._raw is not None and self._file.read1(1))):
            raise SourceError(f"{self.name} goes on behind the end of its Arrow stream: insert one stream at a time")


def _kind_of_name(path: str) -> InputFormat:
    suffix = Path(path.removesuffix(".gz")).suffix.lower()
    if suffix not in _BY_NAME:
        raise UsageError(f"{path}: what it is cannot be told by its name: give --format")
    return _BY_NAME[suffix]


def _kind_of_bytes(file: Any) -> InputFormat:
    """Tell by its first bytes what a pipe brings."""
    head = file.peek(8)
    if head.lstrip()[:1] == b"{":
        return "ndjson"
    if head[:6] == b"ARROW1" or head[:4] == b"\xff\xff\xff\xff":
        return "arrow"
    raise UsageError("what comes from standard input cannot be told: give --format")


def _csv_type(kind: pa.DataType) -> pa.DataType:
    """Give what a field is read as: text, of which times and decimals are made later, but for what text cannot become by itself."""
    return kind if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind) else pa.string()
