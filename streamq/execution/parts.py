"""Writes a job's rows to Arrow files, one for each partition that has rows.

Files get their names when all are complete, so that no reader can see half of one.
"""

from __future__ import annotations

import os
from contextlib import suppress

import numpy as np
import pyarrow as pa

from streamq.errors import QueryError
from streamq.execution.jobs import PARTITION_COLUMN, ToFiles

PARTITION_ROWS = 4096
"""Rows are gathered until partitions get about this many at a time: readers pay per record batch."""
GATHER_BYTES = 16 << 20


class PartFiles:
    """Takes batches of one schema and keeps their rows by partition.

    `complete` gives the files their names; until then, `discard` leaves nothing behind.
    """

    def __init__(self, output: ToFiles, schema: pa.Schema) -> None:
        self._output = output
        self._column = schema.get_field_index(PARTITION_COLUMN)
        if self._column < 0 and output.partitions > 1:
            raise QueryError(f"a job for {output.partitions} partitions gives no column {PARTITION_COLUMN}")
        self.schema = schema if self._column < 0 else schema.remove(self._column)
        self._gathered: list[pa.RecordBatch] = []
        self._rows = 0
        self._bytes = 0
        self._files: dict[int, _PartFile] = {}

    def write(self, batch: pa.RecordBatch) -> None:
        """Keep the rows of a batch."""
        if self._output.partitions == 1:
            self._file(0).write(batch if self._column < 0 else batch.remove_column(self._column))
            return
        self._gathered.append(batch)
        self._rows += batch.num_rows
        self._bytes += batch.nbytes
        if self._rows >= PARTITION_ROWS * self._output.partitions or self._bytes >= GATHER_BYTES:
            self._scatter()

    def complete(self) -> tuple[tuple[int, str, int], ...]:
        """Finish the files and name them: `(partition, path, rows)` of each."""
        self._scatter()
        files = sorted(self._files.items())
        for _, file in files:
            file.close()
        for _, file in files:
            file.publish()
        return tuple((number, file.path, file.rows) for number, file in files)

    def discard(self) -> None:
        """Close and remove every file."""
        for file in self._files.values():
            file.discard()

    def _scatter(self) -> None:
        """Write the gathered rows, ordered by partition (and inside it, as they came) with one sort."""
        if not self._gathered:
            return
        batch = self._gathered[0] if len(self._gathered) == 1 else pa.concat_batches(self._gathered)
        self._gathered, self._rows, self._bytes = [], 0, 0
        numbers = batch.column(self._column)
        if numbers.null_count:
            raise QueryError(f"{PARTITION_COLUMN} is NULL")
        partitions = numbers.to_numpy(zero_copy_only=False)
        count = self._output.partitions
        if partitions.min() < 0 or partitions.max() >= count:
            raise QueryError(f"{PARTITION_COLUMN} is not in 0..{count - 1}")
        # A narrow type is sorted by its digits, in one or two passes.
        order = np.argsort(partitions.astype(np.uint8 if count <= 256 else np.uint32), kind="stable")
        rows = batch.remove_column(self._column).take(pa.array(order))
        ends = np.cumsum(np.bincount(partitions, minlength=count))
        first = 0
        for number, end in enumerate(ends.tolist()):
            if end > first:
                self._file(number).write(rows.slice(first, end - first))
            first = end

    def _file(self, number: int) -> _PartFile:
        if number not in self._files:
            path = os.path.join(self._output.directory, f"{self._output.name}-{number}.arrow")
            self._files[number] = _PartFile(path, self.schema)
        return self._files[number]


class _PartFile:
    """One Arrow file, under a temporary name until it is published."""

    def __init__(self, path: str, schema: pa.Schema) -> None:
        self.path = path
        self.rows = 0
        self._written_at = f"{path}.part"
        self._sink = pa.OSFile(self._written_at, "wb")
        self._writer = pa.ipc.new_file(self._sink, schema)

    def write(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch)
        self.rows += batch.num_rows

    def close(self) -> None:
        self._writer.close()
        self._sink.close()

    def publish(self) -> None:
        os.replace(self._written_at, self.path)

    def discard(self) -> None:
        # The footer of a file that is thrown away may fail for the same reason as the job did (a full disk).
        with suppress(OSError):
            self._writer.close()
        self._sink.close()
        for path in (self._written_at, self.path):
            with suppress(FileNotFoundError):
                os.unlink(path)
