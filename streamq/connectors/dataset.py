"""`pyarrow.dataset`: Parquet files are read as files, other files by fragment, everything else is read at registration."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as fs

from streamq.connectors.normal import readable
from streamq.connectors.parquet import parquet_snapshot
from streamq.connectors.paths import PinnedFile, find_files
from streamq.errors import SourceError
from streamq.plan.relations import RelationSnapshot, ScanArrow
from streamq.plan.splits import Lease, Split
from streamq.storage.memory import Unit, snapshot_of


@dataclass(frozen=True, slots=True)
class DatasetSnapshot:
    """The fragments of a dataset of local files; each is read when its lease is."""

    relation: str
    fragments: tuple[ds.Fragment, ...]
    files: tuple[PinnedFile, ...]
    stored: pa.Schema
    schema: pa.Schema
    splits: tuple[Split, ...]
    rows: int
    bytes: int
    unit: Literal["file"] = "file"
    exact: bool = True
    in_memory: bool = True
    at_hand: bool = False
    partition_keys: tuple[str, ...] = ()

    @property
    def max_parallelism(self) -> int:
        """The number of files with rows, at least 1."""
        return max(1, len(self.splits))

    def read(self, lease: Lease | None, columns: Sequence[str], filter: str | None = None) -> ScanArrow:
        """Read the fragments of a lease into memory.

        Raises:
            SourceError: a file is gone, changed or unreadable.
        """
        units = [self._unit(split.unit) for split in (self.splits if lease is None else lease.splits)]
        empty = Unit(0, self.stored.empty_table().rename_columns(self.schema.names), arrived_us=0)
        parts = [snapshot_of(self.schema, [unit]).read(None, columns).table for unit in units or [empty]]
        return ScanArrow(pa.concat_tables(parts))

    def stream(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Give all rows, batch by batch.

        Raises:
            SourceError: a file is gone, changed or unreadable.
        """
        user = [index for index, name in enumerate(self.schema.names) if name in columns] or [0]
        names = [self.schema.names[index] for index in user]
        for split in self.splits:
            file, first = self.files[split.unit], 0
            for batch in self._batches(split.unit, [self.stored.names[index] for index in user]):
                rows = pa.Table.from_batches([batch]).rename_columns(names)
                unit = Unit(split.unit, rows, first_offset=first, arrived_us=file.mtime_ns // 1_000)
                yield from snapshot_of(rows.schema, [unit]).read(None, columns).table.to_batches()
                first += batch.num_rows

    def verify(self, lease: Lease | None) -> None:
        """Check that the files of a lease are those that were registered.

        Raises:
            SourceError: a file is gone or changed.
        """
        for split in self.splits if lease is None else lease.splits:
            self.files[split.unit].check(self.relation)

    def _batches(self, number: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        file = self.files[number]
        file.check(self.relation)
        try:
            yield from self.fragments[number].to_batches(
                schema=self.stored, columns=list(columns), batch_readahead=1, fragment_readahead=1, use_threads=False
            )
        except (pa.ArrowException, OSError) as error:
            raise SourceError(f"{self.relation}: {file.path} cannot be read: {error}") from error
        file.check(self.relation)

    def _unit(self, number: int) -> Unit:
        file = self.files[number]
        file.check(self.relation)
        try:
            table = self.fragments[number].to_table(schema=self.stored)
        except (pa.ArrowException, OSError) as error:
            raise SourceError(f"{self.relation}: {file.path} cannot be read: {error}") from error
        file.check(self.relation)
        return Unit(number, table.rename_columns(self.schema.names), arrived_us=file.mtime_ns // 1_000)


def dataset_snapshot(relation: str, dataset: ds.Dataset) -> RelationSnapshot:
    """Make a snapshot of a dataset as it is now.

    Raises:
        SourceError: a file is missing or unreadable.
    """
    try:
        return _snapshot(relation, dataset)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{relation}: the dataset cannot be read: {error}") from error


def _snapshot(relation: str, dataset: ds.Dataset) -> RelationSnapshot:
    schema = readable(relation, dataset.schema)
    fragments = _fragments(dataset)
    if not fragments:
        table = dataset.to_table().rename_columns(schema.names)
        return snapshot_of(schema, [Unit(0, table, arrived_us=time.time_ns() // 1_000)])
    files = find_files(relation, [fragment.path for fragment in fragments])
    if isinstance(dataset.format, ds.ParquetFileFormat) and all(_has_all(fragment, dataset.schema) for fragment in fragments):
        return parquet_snapshot(relation, files)
    counts = [fragment.count_rows() for fragment in fragments]
    return DatasetSnapshot(
        relation=relation,
        fragments=fragments,
        files=files,
        stored=dataset.schema,
        schema=schema,
        splits=tuple(
            Split(number, 0, None, rows, file.size) for number, (rows, file) in enumerate(zip(counts, files, strict=True)) if rows
        ),
        rows=sum(counts),
        bytes=sum(file.size for file in files),
    )


def _fragments(dataset: ds.Dataset) -> tuple[ds.Fragment, ...]:
    """Give the fragments of a dataset of local files; of any other, none."""
    if not isinstance(dataset, ds.FileSystemDataset) or not isinstance(dataset.filesystem, fs.LocalFileSystem):
        return ()
    try:
        return tuple(dataset.get_fragments())
    except ValueError:  # a filter or a projection, which only pyarrow can apply
        return ()


def _has_all(fragment: ds.Fragment, schema: pa.Schema) -> bool:
    """Tell whether a file has exactly the dataset's columns: none from its path, none left out or converted."""
    return bool(fragment.physical_schema.equals(schema))
