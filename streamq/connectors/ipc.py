"""Arrow IPC files, of the file and the stream format: ranges of record batches as splits.

Files are read, not mapped: a mapped file that somebody cuts short would kill the process.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import Literal

import pyarrow as pa

from streamq.connectors.columns import FileColumn, require_same
from streamq.connectors.normal import readable
from streamq.connectors.paths import PinnedFile
from streamq.connectors.scan import joined
from streamq.errors import SourceError
from streamq.plan.relations import ScanArrow
from streamq.plan.splits import Lease, Split
from streamq.storage.memory import Unit, cut_ranges, snapshot_of
from streamq.storage.text import type_name

MAGIC = b"ARROW1"


@dataclass(frozen=True, slots=True)
class IpcSnapshot:
    """Arrow IPC files as they were when they were registered. `lengths` are the rows of each file's batches."""

    relation: str
    files: tuple[PinnedFile, ...]
    lengths: tuple[tuple[int, ...], ...]
    schema: pa.Schema
    splits: tuple[Split, ...]
    rows: int
    bytes: int
    unit: Literal["range"] = "range"
    exact: bool = True
    in_memory: bool = True
    at_hand: bool = False
    partition_keys: tuple[str, ...] = ()

    @property
    def max_parallelism(self) -> int:
        """The number of ranges, at least 1."""
        return max(1, len(self.splits))

    def read(self, lease: Lease | None, columns: Sequence[str], filter: str | None = None) -> ScanArrow:
        """Read the rows of a lease into memory, with the columns that are asked for.

        Raises:
            SourceError: a file is gone, changed or corrupt.
        """
        splits = self.splits if lease is None else lease.splits
        tables = [self._read(*rows, columns) for rows in joined(splits)]
        if tables:
            return ScanArrow(pa.concat_tables(tables))
        return snapshot_of(self.schema, [Unit(0, self.schema.empty_table(), arrived_us=0)]).read(None, columns)

    def stream(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Give all rows, batch by batch as they are stored.

        Raises:
            SourceError: a file is gone, changed or corrupt.
        """
        user = [index for index, name in enumerate(self.schema.names) if name in columns] or [0]
        names = [self.schema.names[index] for index in user]
        for number, file in enumerate(self.files):
            first = 0
            with open_batches(self.relation, file, user) as batches:
                for batch in batches:
                    rows = pa.Table.from_batches([batch]).rename_columns(names)
                    unit = Unit(number, rows, first_offset=first, arrived_us=file.mtime_ns // 1_000)
                    yield from snapshot_of(rows.schema, [unit]).read(None, columns).table.to_batches()
                    first += batch.num_rows

    def verify(self, lease: Lease | None) -> None:
        """Check that the files of a lease are those that were registered.

        Raises:
            SourceError: a file is gone or changed.
        """
        for number in sorted({split.unit for split in (self.splits if lease is None else lease.splits)}):
            self.files[number].check(self.relation)

    def _read(self, number: int, first: int, end: int | None, columns: Sequence[str]) -> pa.Table:
        """Read rows `first` ≤ row < `end` of one file; of the file format, no batch before them is touched."""
        file, lengths = self.files[number], self.lengths[number]
        starts = list(accumulate(lengths, initial=0))
        skipped = max(bisect_right(starts, first) - 1, 0)
        last = len(lengths) if end is None else bisect_left(starts, end)
        user = [index for index, name in enumerate(self.schema.names) if name in columns] or [0]
        with open_batches(self.relation, file, user, skipped) as batches:
            table = pa.Table.from_batches(islice(batches, last - skipped))
        rows = table.slice(first - starts[skipped], None if end is None else end - first)
        rows = rows.rename_columns([self.schema.names[index] for index in user])
        unit = Unit(number, rows, first_offset=first, arrived_us=file.mtime_ns // 1_000)
        return snapshot_of(rows.schema, [unit]).read(None, columns).table


def ipc_snapshot(relation: str, files: tuple[PinnedFile, ...]) -> IpcSnapshot:
    """Read how many rows the batches of each file have; one column is enough for that.

    Raises:
        SourceError: a file is not readable as Arrow IPC, or its columns differ from the first file's.
    """
    looked = [_look_at(relation, file) for file in files]
    schemas = [schema for schema, _ in looked]
    splits = [split for number, file in enumerate(files) for split in _splits(number, file, looked[number][1])]
    for file, other in zip(files[1:], schemas[1:], strict=True):
        require_same(relation, files[0].path, _columns(schemas[0]), file.path, _columns(other))
    return IpcSnapshot(
        relation=relation,
        files=files,
        lengths=tuple(lengths for _, lengths in looked),
        schema=schemas[0],
        splits=tuple(splits),
        rows=sum(split.rows for split in splits),
        bytes=sum(file.size for file in files),
    )


@contextmanager
def open_batches(relation: str, file: PinnedFile, columns: Sequence[int], skipped: int = 0) -> Iterator[Iterator[pa.RecordBatch]]:
    """Open a file of either format for its batches behind the first `skipped`, with columns by number.

    Raises:
        SourceError: the file is gone, changed or corrupt (from inside the block too, while its batches are read).
    """
    file.check(relation)
    options = pa.ipc.IpcReadOptions(included_fields=list(columns))
    try:
        with pa.OSFile(file.path) as source:
            if source.read(len(MAGIC)) == MAGIC:
                reader = pa.ipc.open_file(source, options=options)
                yield (reader.get_batch(number) for number in range(skipped, reader.num_record_batches))
            else:
                source.seek(0)
                with pa.ipc.open_stream(source, options=options) as stream:
                    yield islice(stream, skipped, None)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{relation}: {file.path} is not a readable Arrow IPC file: {error}") from error
    file.check(relation)


def _look_at(relation: str, file: PinnedFile) -> tuple[pa.Schema, tuple[int, ...]]:
    with open_batches(relation, file, [0]) as batches:
        lengths = tuple(batch.num_rows for batch in batches)
    return readable(relation, _schema(relation, file)), lengths


def _schema(relation: str, file: PinnedFile) -> pa.Schema:
    try:
        with pa.OSFile(file.path) as source:
            is_file = source.read(len(MAGIC)) == MAGIC
            source.seek(0)
            return pa.ipc.open_file(source).schema if is_file else pa.ipc.open_stream(source).schema
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{relation}: {file.path} is not a readable Arrow IPC file: {error}") from error


def _splits(number: int, file: PinnedFile, lengths: Sequence[int]) -> list[Split]:
    rows = sum(lengths)
    return [
        Split(number, first, None if end == rows else end, end - first, max(1, file.size * (end - first) // rows))
        for first, end in cut_ranges(lengths)
    ]


def _columns(schema: pa.Schema) -> list[FileColumn]:
    return [FileColumn(field.name, type_name(field.type)) for field in schema]
