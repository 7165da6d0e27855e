"""Registered objects: anything with Arrow data, and datasets."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from streamq.connectors import registered
from streamq.connectors.parquet import ParquetSnapshot
from streamq.errors import SourceError
from streamq.plan.relations import RelationSnapshot, ScanArrow, ScanSql
from streamq.plan.splits import Lease
from streamq.storage.memory import SPLIT_ROWS, cut_ranges
from streamq.storage.session import private_session

ROWS = pa.table({"id": pa.array([1, 2, 3]), "name": ["a", None, "c"]})


def read(snapshot: RelationSnapshot, columns: list[str] | None = None, lease: Lease | None = None) -> pa.Table:
    """Read a snapshot as a worker does."""
    scan = snapshot.read(lease, columns if columns is not None else snapshot.schema.names)
    with private_session(files=True) as con:
        return con.sql(scan.sql).to_arrow_table() if isinstance(scan, ScanSql) else con.from_arrow(scan.table).to_arrow_table()


def by_split(snapshot: RelationSnapshot, columns: list[str]) -> pa.Table:
    return pa.concat_tables([read(snapshot, columns, Lease(i, (split,))) for i, split in enumerate(snapshot.splits)])


def objects() -> dict[str, object]:
    return {
        "table": ROWS,
        "batch": ROWS.to_batches()[0],
        "reader": ROWS.to_reader(),
        "polars": pl.from_arrow(ROWS),
        "pandas": pd.DataFrame({"id": [1, 2, 3], "name": ["a", None, "c"]}, index=[9, 8, 7]),
        "duckdb": duckdb.connect().from_arrow(ROWS),
        "dictionary": ROWS.set_column(1, "name", ROWS["name"].combine_chunks().dictionary_encode()),
        "dataset": ds.dataset(ROWS),
    }


@pytest.mark.parametrize("kind", sorted(objects()))
def test_every_object_gives_its_rows(kind: str) -> None:
    """All objects with Arrow data are read alike, as often as one likes."""
    relation = registered("r", objects()[kind])
    assert relation.kind == "registered"
    assert relation.schema == ROWS.schema
    for _ in range(2):
        assert read(relation.snapshot()).equals(ROWS)
    assert (relation.snapshot().rows, relation.snapshot().exact, relation.snapshot().unit) == (3, True, "range")


def test_system_columns_of_an_object() -> None:
    """An object is one partition, with its rows in order, all of the time of registration."""
    relation = registered("r", ROWS)
    assert relation.system_columns
    found = read(relation.snapshot(), ["_partition", "_offset", "_timestamp"])
    assert found["_offset"].to_pylist() == [0, 1, 2]
    assert found["_partition"].to_pylist() == [0, 0, 0]
    assert 0 < found["_timestamp"].cast(pa.int64()).to_pylist()[0] <= time.time_ns() // 1_000


@pytest.mark.parametrize("lengths", [[], [0], [1], [SPLIT_ROWS], [SPLIT_ROWS + 1], [7] * 50, [400_009, 3, 0, 400_009]], ids=str)
def test_splits_cover_every_row_once(lengths: list[int]) -> None:
    """Whatever the batches, ranges follow each other and the last one is open."""
    batches, total = [], 0
    for length in lengths:
        batches.append(pa.record_batch({"id": np.arange(total, total + length)}))
        total += length
    table = pa.Table.from_batches(batches, pa.schema([("id", pa.int64())]))
    snapshot = registered("r", table).snapshot()
    assert max((split.rows for split in snapshot.splits), default=0) <= SPLIT_ROWS
    assert snapshot.max_parallelism == max(1, len(snapshot.splits))
    if total:
        assert by_split(snapshot, ["id"])["id"].to_pylist() == list(range(total))
        assert snapshot.splits[-1].end is None
    else:
        assert snapshot.splits == ()


def test_ranges_end_where_batches_end() -> None:
    """A batch is cut only if it is larger than a split."""
    assert cut_ranges([50, 60, 70], target=120) == [(0, 110), (110, 180)]
    assert cut_ranges([300, 10], target=100) == [(0, 100), (100, 200), (200, 300), (300, 310)]


def test_names_that_differ_by_case_are_told_apart() -> None:
    """SQL has no two names that differ by case only."""
    relation = registered("r", pa.table([pa.array([1]), pa.array([2])], names=["a", "A"]))
    assert relation.schema.names == ["a", "A_1"]
    assert read(relation.snapshot()).to_pylist() == [{"a": 1, "A_1": 2}]


def test_a_failing_reader_is_an_error() -> None:
    """A reader that fails half way is not registered."""

    def batches() -> Iterator[pa.RecordBatch]:
        yield from ROWS.to_batches()
        raise pa.ArrowInvalid("broken")

    with pytest.raises(SourceError, match="broken"):
        registered("r", pa.RecordBatchReader.from_batches(ROWS.schema, batches()))


@pytest.mark.parametrize("data", [5, None, {"a": [1]}, [1], []], ids=repr)
def test_objects_without_arrow_data_are_refused(data: object) -> None:
    """Only Arrow data and paths can be registered."""
    with pytest.raises(SourceError, match="has no Arrow data"):
        registered("r", data)


def test_a_table_without_columns_is_refused() -> None:
    """SQL has no relation without columns."""
    with pytest.raises(SourceError, match="no columns"):
        registered("r", pa.table({}))


def test_parquet_datasets_are_read_as_files(tmp_path: Path) -> None:
    """A dataset of plain Parquet files has row groups, statistics and pins."""
    pq.write_table(ROWS, tmp_path / "a.parquet", row_group_size=2)
    snapshot = registered("r", ds.dataset(str(tmp_path))).snapshot()
    assert isinstance(snapshot, ParquetSnapshot)
    assert len(snapshot.splits) == 2
    assert read(snapshot).equals(ROWS)


def test_datasets_with_columns_in_paths(tmp_path: Path) -> None:
    """Partition columns of a dataset are columns; its files are read by lease."""
    table = pa.table({"id": [1, 2, 3, 4], "day": ["x", "x", "y", "y"]})
    ds.write_dataset(table, tmp_path, format="parquet", partitioning=ds.partitioning(pa.schema([("day", pa.string())]), flavor="hive"))
    snapshot = registered("r", ds.dataset(tmp_path, format="parquet", partitioning="hive")).snapshot()
    assert (snapshot.unit, len(snapshot.splits), snapshot.rows) == ("file", 2, 4)
    found = by_split(snapshot, ["id", "day", "_offset", "_partition"])
    assert sorted(map(tuple, (row.values() for row in found.to_pylist()))) == [
        (1, "x", 0, 0),
        (2, "x", 1, 0),
        (3, "y", 0, 1),
        (4, "y", 1, 1),
    ]
    scan = snapshot.read(Lease(0, ()), ["day", "_offset"])
    assert isinstance(scan, ScanArrow)
    assert scan.table.num_rows == 0


def test_a_dataset_with_a_filter_keeps_it(tmp_path: Path) -> None:
    """Only the rows of the dataset are read, not those of its files."""
    pq.write_table(ROWS, tmp_path / "a.parquet")
    snapshot = registered("r", ds.dataset(str(tmp_path)).filter(pc.field("id") > 2)).snapshot()
    assert read(snapshot).to_pylist() == [{"id": 3, "name": "c"}]


def test_a_changed_file_of_a_dataset_is_an_error(tmp_path: Path) -> None:
    """A dataset's files are pinned, as all files are."""
    table = pa.table({"id": [1, 2], "day": ["x", "y"]})
    ds.write_dataset(table, tmp_path, format="parquet", partitioning=ds.partitioning(pa.schema([("day", pa.string())]), flavor="hive"))
    snapshot = registered("r", ds.dataset(tmp_path, format="parquet", partitioning="hive")).snapshot()
    for path in tmp_path.rglob("*.parquet"):
        path.unlink()
    with pytest.raises(SourceError, match="cannot be read any more"):
        snapshot.read(None, ["id"])
