"""Feeds of registered relations: file and row order, piece by piece, to an end."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from streamq.connectors import registered
from streamq.errors import SourceError
from streamq.storage.bounded_feed import BATCH_ROWS, BoundedFeed
from streamq.storage.feeds import WATERMARK
from tests.oracle import connect_duckdb

SYSTEM = ("_timestamp", "_partition", "_offset")


def rows(count: int, first: int = 0) -> pa.Table:
    numbers = np.arange(first, first + count)
    times = pa.array((numbers * 7_919 % 1_009) * 1_000_000).cast(pa.timestamp("us"))
    return pa.table({"id": numbers, "name": pa.array([f"n{i}" for i in range(13)]).take(numbers % 13), "ts": times})


def parquet(folder: Path) -> object:
    for number in range(3):
        pq.write_table(rows(1_000, number * 1_000), folder / f"{number}.parquet", row_group_size=300)
    return str(folder / "*.parquet")


def ipc(folder: Path) -> object:
    paths = []
    for number, make in enumerate((pa.ipc.new_file, pa.ipc.new_stream, pa.ipc.new_file)):
        path = folder / f"{number}.arrow"
        with pa.OSFile(str(path), "wb") as sink, make(sink, rows(0).schema) as writer:
            writer.write_table(rows(1_000, number * 1_000), max_chunksize=170)
        paths.append(path)
    return paths


def text(suffix: str) -> Callable[[Path], object]:
    def write(folder: Path) -> object:
        for number in range(3):
            with connect_duckdb() as con:
                con.register("rows", rows(1_000, number * 1_000))
                con.execute(f"COPY rows TO '{folder / f'{number}.{suffix}'}' (FORMAT {'csv' if suffix == 'csv' else 'json'})")
        return str(folder / f"*.{suffix}")

    return write


def dataset(folder: Path) -> object:
    text("csv")(folder)
    return ds.dataset(sorted(str(path) for path in folder.glob("*.csv")), format="csv", schema=rows(0).schema)


def table(folder: Path) -> object:
    return pa.concat_tables([rows(1_000, 1_000 * number) for number in range(3)])


def large_strings(folder: Path) -> object:
    return rows(3_000).set_column(1, "name", rows(3_000)["name"].cast(pa.large_string()))


KINDS = {
    "parquet": parquet,
    "ipc": ipc,
    "csv": text("csv"),
    "ndjson": text("ndjson"),
    "dataset": dataset,
    "table": table,
    "large strings": large_strings,
}
every_kind = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)


def drain(feed: BoundedFeed, max_rows: int = 500) -> pa.Table:
    parts = []
    while not feed.ended:
        assert feed.next_sequence == 0
        delta = feed.take(max_rows, 0)
        assert delta is not None
        assert 0 < delta.num_rows <= max_rows
        assert delta.rows.schema == feed.schema
        parts.append(delta.rows)
    assert feed.next_sequence is None
    assert feed.take(max_rows, 0) is None
    return pa.Table.from_batches(parts, feed.schema)


@every_kind
@pytest.mark.parametrize("max_rows", [77, 100_000])
def test_rows_come_in_order_once(make: Callable[[Path], object], max_rows: int, tmp_path: Path) -> None:
    """Every row with its system columns and watermark, in file and row order, and the end with the last row."""
    relation = registered("r", make(tmp_path), "ts - INTERVAL '2' SECOND")
    feed = BoundedFeed(relation, ("id", "name", WATERMARK, *SYSTEM))
    taken = drain(feed, max_rows)
    assert taken["id"].to_pylist() == list(range(3_000))
    assert taken["name"].to_pylist() == [f"n{i % 13}" for i in range(3_000)]
    with connect_duckdb() as con:
        con.register("rows", rows(3_000))
        expected = con.sql(
            "SELECT max(ts) OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) - INTERVAL '2' SECOND AS w "
            "FROM rows ORDER BY id"
        ).to_arrow_table()
    assert taken[WATERMARK].to_pylist() == expected["w"].to_pylist()
    places = taken.select(["_partition", "_offset"]).to_pylist()
    assert sorted({place["_partition"] for place in places}) == ([0, 1, 2] if taken["_partition"][-1].as_py() else [0])
    assert [(place["_partition"], place["_offset"]) for place in places] == sorted((p["_partition"], p["_offset"]) for p in places)
    assert feed.position.offsets == {0: 3_000}
    assert feed.watermarks == {0: 1_006_000_000}


@every_kind
def test_a_feed_without_columns_counts_rows(make: Callable[[Path], object], tmp_path: Path) -> None:
    """Rows without columns have one of NULLs."""
    taken = drain(BoundedFeed(registered("r", make(tmp_path)), ()))
    assert taken.schema.names == ["__row"]
    assert taken.num_rows == taken["__row"].null_count == 3_000


@pytest.mark.parametrize("make", [parquet, ipc, text("csv"), text("ndjson"), dataset], ids=["parquet", "ipc", "csv", "ndjson", "dataset"])
def test_a_changed_file_is_an_error(make: Callable[[Path], object], tmp_path: Path) -> None:
    """A file that is not what was registered is never read as if it were, nor taken for the end when asked again."""
    feed = BoundedFeed(registered("r", make(tmp_path)), None)
    last = sorted(tmp_path.iterdir())[-1]
    os.utime(last, ns=(1, 1))
    for _ in range(2):
        with pytest.raises(SourceError, match="changed after it was registered"):
            drain(feed, 100_000)
        assert not feed.ended


def test_a_large_file_is_not_read_at_once(tmp_path: Path) -> None:
    """The first rows of a Parquet file come in a batch of limited size."""
    path = tmp_path / "large.parquet"
    pq.write_table(rows(400_000), path, row_group_size=50_000)
    feed = BoundedFeed(registered("r", path), ("id",))
    delta = feed.take(1 << 30, 0)
    assert delta is not None
    assert delta.num_rows <= BATCH_ROWS
    feed.close()
    assert feed.ended


def test_start_compares_with_the_time_of_the_file(tmp_path: Path) -> None:
    """'latest' is behind all rows; a time leaves out older files."""
    relation = registered("r", parquet(tmp_path))
    assert BoundedFeed(relation, None, "latest").ended
    for number in range(3):
        os.utime(tmp_path / f"{number}.parquet", ns=(0, number * 1_000_000))
    relation = registered("r", str(tmp_path / "*.parquet"))
    assert drain(BoundedFeed(relation, ("id",), 1_000))["id"].to_pylist() == list(range(1_000, 3_000))
    nothing = BoundedFeed(relation, ("id",), 10_000)
    assert nothing.take(10, 0) is None
    assert nothing.ended


def test_nothing_registered_ends_at_once() -> None:
    """A relation without rows has ended."""
    assert BoundedFeed(registered("r", rows(0)), None).ended
