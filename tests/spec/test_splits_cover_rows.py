"""Splits cover every row exactly once: every kind of relation, every number of rows and partitions, both executors."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.dataset as pads
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

import streamq

pytestmark = [pytest.mark.anyio, pytest.mark.by_turns]
PARTITIONS = (1, 3, 128)
# Nothing, one, fewer than partitions, primes, several batches.
COUNTS = (0, 1, 101, 10_007)
COUNTER = itertools.count()


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """One event loop is enough: what is covered is decided without one."""
    return "asyncio", {}


def rows_of(count: int) -> pa.Table:
    return pa.table({"id": pa.array(range(count), pa.int64()), "word": pa.array([f"w{n % 7}" for n in range(count)], pa.string())})


async def every_kind(db: streamq.Database, rows: pa.Table, directory: Path) -> AsyncIterator[str]:
    """Hold the same rows in every way that there is; gives the relations' names."""
    prefix, pieces = f"r{next(COUNTER)}", [rows.slice(first, 1_000) for first in range(0, rows.num_rows, 1_000)]
    columns = "(id BIGINT, word VARCHAR)"
    for name, clause in (
        ("source", "WITH (shards = 3)"),
        ("keyed", "PARTITION BY (word) WITH (shards = 4)"),
        ("single", "WITH (shards = 1)"),
    ):
        await db.execute(f"CREATE SOURCE {prefix}_{name} {columns} {clause}")
        for piece in [*pieces, rows.slice(0, 0)]:
            await db.insert(f"{prefix}_{name}", piece)
        yield f"{prefix}_{name}"
    await db.execute(f"CREATE TABLE {prefix}_table (id BIGINT PRIMARY KEY, word VARCHAR)")
    await db.insert(f"{prefix}_table", rows)
    yield f"{prefix}_table"
    pq.write_table(rows, directory / "one.parquet", row_group_size=max(37, rows.num_rows // 19))
    pq.write_table(rows, directory / "large.parquet")
    feather.write_feather(rows, str(directory / "one.arrow"), compression="uncompressed", chunksize=max(11, rows.num_rows // 7))
    pacsv.write_csv(rows, directory / "one.csv")
    half = rows.num_rows // 2
    for number, part in enumerate((rows.slice(0, half), rows.slice(half), rows.slice(0, 0))):
        pq.write_table(part, directory / f"part-{number}.parquet", row_group_size=max(50, half // 7))
    forms: dict[str, object] = {
        "row_groups": directory / "one.parquet",
        "row_group": directory / "large.parquet",
        "files": str(directory / "part-*.parquet"),
        "ipc": directory / "one.arrow",
        "csv": directory / "one.csv",
        "dataset": pads.dataset([str(directory / f"part-{number}.parquet") for number in range(3)]),
        "arrow": rows,
        "chunks": pa.concat_tables([rows.slice(0, half), rows.slice(0, 0), rows.slice(half)]),
    }
    for name, form in forms.items():
        if name == "csv" and not rows.num_rows:
            continue  # the columns of a CSV file without rows have no types
        await db.register(f"{prefix}_{name}", form)
        yield f"{prefix}_{name}"


@pytest.mark.parametrize("count", COUNTS)
async def test_every_row_is_read_once(db: streamq.Database, count: int, tmp_path: Path) -> None:
    """Whatever holds the rows and however many partitions read them: each row is there, none twice, and counts agree."""
    expected = list(range(count))
    async for relation in every_kind(db, rows_of(count), tmp_path):
        for partitions in PARTITIONS:
            ids = (await db.fetch(f"SELECT id FROM {relation}", partitions=partitions))["id"].to_pylist()
            assert sorted(ids) == expected, f"{relation} in {partitions} partitions"
        sql = f"SELECT count(*) AS c, sum(id)::BIGINT AS s FROM {relation}"
        assert (await db.fetch(sql, partitions=3)).to_pylist() == [{"c": count, "s": sum(expected) if count else None}], relation


async def test_filters_that_prune_leave_no_gap_and_no_double(db: streamq.Database, tmp_path: Path) -> None:
    """With row groups left out at the front, in the middle or at the end by statistics, exactly the wanted rows are read."""
    rows = rows_of(1_009)
    pq.write_table(rows, tmp_path / "pruned.parquet", row_group_size=31)
    name = f"r{next(COUNTER)}"
    await db.register(name, tmp_path / "pruned.parquet")
    for where, wanted in {
        "id >= 500": range(500, 1_009),
        "id < 500": range(500),
        "id < 93 OR id >= 977": [*range(93), *range(977, 1_009)],
        "id BETWEEN 310 AND 340": range(310, 341),
        "id > 5000": [],
    }.items():
        ids = (await db.fetch(f"SELECT id FROM {name} WHERE {where}", partitions=4))["id"].to_pylist()
        assert sorted(ids) == list(wanted), where


async def test_deleted_and_dropped_rows_leave_no_gap(db: streamq.Database) -> None:
    """Rows that are gone, from a table by DELETE and from a source by its retention, shift no bounds of those that stay."""
    name = f"r{next(COUNTER)}"
    await db.execute(f"CREATE TABLE {name}_t (id BIGINT PRIMARY KEY)")
    await db.execute(f"CREATE SOURCE {name}_s (id BIGINT) WITH (shards = 3, retention_rows = 500)")
    for first in range(0, 1_000, 100):
        for relation in ("t", "s"):
            await db.insert(f"{name}_{relation}", pa.table({"id": range(first, first + 100)}))
    await db.execute(f"DELETE FROM {name}_t WHERE id % 3 = 0 OR id BETWEEN 400 AND 600")
    for partitions in PARTITIONS:
        left = (await db.fetch(f"SELECT id FROM {name}_t", partitions=partitions))["id"].to_pylist()
        assert sorted(left) == [n for n in range(1_000) if n % 3 and not 400 <= n <= 600]
        kept = (await db.fetch(f"SELECT id FROM {name}_s", partitions=partitions))["id"].to_pylist()
        assert sorted(kept) == list(range(500, 1_000))


async def test_inserts_during_the_snapshot_do_not_show(db: streamq.Database) -> None:
    """What is inserted, changed or dropped by retention after a query has started is not in its answer, and nothing is missing."""
    name = f"r{next(COUNTER)}"
    await db.execute(f"CREATE SOURCE {name}_s (id BIGINT) WITH (shards = 3)")
    await db.execute(f"CREATE TABLE {name}_t (id BIGINT PRIMARY KEY)")
    for relation in ("s", "t"):
        await db.insert(f"{name}_{relation}", pa.table({"id": range(10_007)}))
        async with db.query(f"SELECT id FROM {name}_{relation}", batch_rows=100, partitions=4) as stream:
            found: list[int] = []
            async for batch in stream:
                if len(found) < 2_000:
                    await db.insert(f"{name}_{relation}", pa.table({"id": [20_000 + len(found)]}))
                found += batch["id"].to_pylist()
        assert sorted(found) == list(range(10_007))
    await db.execute(f"DELETE FROM {name}_t WHERE id < 20000")
    assert (await db.fetch(f"SELECT min(id) AS low FROM {name}_t"))["low"].to_pylist() == [20_000]


async def test_one_huge_batch_is_divided(db: streamq.Database) -> None:
    """A single batch of very many rows is read in several tasks, by range, exactly."""
    name = f"r{next(COUNTER)}"
    await db.execute(f"CREATE SOURCE {name} (id BIGINT) WITH (shards = 1)")
    await db.insert(name, pa.table({"id": np.arange(300_000)}))
    async with db.query(f"SELECT count(*) AS c, sum(id)::BIGINT AS s, count(DISTINCT id) AS d FROM {name}", partitions=4) as stream:
        answer = (await stream.read_all()).to_pylist()
        (scan,) = (await stream.statistics()).scans
    assert answer == [{"c": 300_000, "s": 44_999_850_000, "d": 300_000}]
    assert scan.rows_done == 300_000
    assert scan.leases > 1
