"""Files that change or run out while a query is under way: a typed error, or the answer over the files as they were."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import streamq
from tests.must.conftest import ROW_GROUP, ROWS
from tests.must.watch import wait_until_idle

pytestmark = [pytest.mark.anyio, pytest.mark.by_turns]


def remove(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    """Put another file in its place, as a program that writes a file anew does."""
    other = path.with_suffix(".new")
    pq.write_table(pa.table({"n": pa.array([-1] * ROWS, pa.int64()), "word": ["other"] * ROWS}), other, row_group_size=ROW_GROUP)
    os.replace(other, path)


def rewrite(path: Path) -> None:
    """Overwrite the rows in place with others of the same size."""
    content = path.read_bytes()
    path.write_bytes(content[:4] + bytes(len(content) // 2 - 4) + content[len(content) // 2 :])


@pytest.mark.parametrize("change", [remove, replace, rewrite])
async def test_file_that_changes_under_a_query_is_a_source_error(
    db: streamq.Database, change: Callable[[Path], None], numbers: Path, tmp_path: Path
) -> None:
    """Whatever a query has read by then: when a file is no longer the one that was registered, it does not end well."""
    path = Path(shutil.copy(numbers, tmp_path / "moving.parquet"))
    await db.register("moving", path)
    try:
        with pytest.raises(streamq.SourceError, match=r"moving\.parquet"):
            async with db.query("SELECT n, word FROM moving", batch_rows=1_000) as stream:
                await anext(stream)
                change(path)
                async for batch in stream:
                    assert batch.num_rows
    finally:
        await db.unregister("moving")
    await wait_until_idle(db)


def damage_page(path: Path, row_group: int) -> None:
    """Overwrite the pages of a row group's first column; the footer stays whole."""
    column = pq.read_metadata(path).row_group(row_group).column(0)
    with path.open("r+b") as file:
        file.seek(column.dictionary_page_offset or column.data_page_offset)
        file.write(b"\xff" * column.total_compressed_size)


@pytest.mark.parametrize("row_group", [ROWS // ROW_GROUP // 2, ROWS // ROW_GROUP - 1], ids=["middle", "last"])
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT n, word FROM damaged",
        "SELECT n % 10 AS k, sum(n) AS s FROM damaged GROUP BY 1",
        "SELECT n FROM damaged ORDER BY n DESC",
        "SELECT DISTINCT n FROM damaged",
    ],
    ids=["scan", "aggregate", "sort", "distinct"],
)
async def test_corrupt_page_is_an_error(db: streamq.Database, sql: str, row_group: int, numbers: Path, tmp_path: Path) -> None:
    """A page that cannot be decoded, in a file whose footer is whole, fails the query and names the shard."""
    path = Path(shutil.copy(numbers, tmp_path / "damaged.parquet"))
    damage_page(path, row_group)
    await db.register("damaged", path)
    try:
        with pytest.raises((streamq.QueryError, streamq.SourceError), match="damaged"):
            await db.fetch(sql)
    finally:
        await db.unregister("damaged")


@pytest.mark.parametrize("change", [remove, replace, rewrite])
async def test_file_that_changed_before_a_query_is_a_source_error(
    db: streamq.Database, change: Callable[[Path], None], numbers: Path, tmp_path: Path
) -> None:
    """A file that is gone, or not what it was at registration, is a SourceError with its name."""
    path = Path(shutil.copy(numbers, tmp_path / "moving.parquet"))
    await db.register("moving", path)
    try:
        assert (await db.fetch("SELECT max(n) AS m FROM moving"))["m"].to_pylist() == [ROWS - 1]
        change(path)
        with pytest.raises(streamq.SourceError, match="moving"):
            await db.fetch("SELECT max(n) AS m FROM moving")
    finally:
        await db.unregister("moving")


PROGRAM = """
import resource, sys, anyio, pyarrow as pa, streamq
from streamq.execution.without_pandas import without_pandas

# Arrow looks for it with its first array, which would take as long as all else here.
with without_pandas():
    pa.array([0])

async def attempt(db, sql):
    try:
        await db.fetch(sql)
    except streamq.StreamqError as error:
        return type(error).__name__
    return "completed"

async def main():
    path, executor, directory, backend, limit = sys.argv[1:]
    settings = dict(executor=executor, workers=2, temp_dir=directory, slots=2, slot_bytes=1 << 18)
    async with streamq.connect(**settings) as db:
        await db.register("numbers", path)
        await db.register("table", pa.table({"n": pa.array(range(300_000)), "m": pa.array(range(300_000))}))
        print(await attempt(db, "SELECT count(*) AS c FROM numbers"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
        if executor == "process":
            for pool in (await db.statistics()).pools:
                for worker in pool.workers:
                    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (int(limit), int(limit)))
        print(await attempt(db, "SELECT word, n FROM numbers ORDER BY word"))
        print(await attempt(db, 'SELECT sum(n * m) AS s FROM "table"'))
        print(await attempt(db, "SELECT count(*) AS c FROM numbers"))

anyio.run(main, backend=sys.argv[4])
"""


def test_full_disk_is_a_resource_limit(executor: str, numbers: Path, anyio_backend: tuple[str, Any], tmp_path: Path) -> None:
    """Kept rows, or a table for worker processes, that find no room end the query with ResourceLimit, and others go on."""
    arguments = [sys.executable, "-c", PROGRAM, str(numbers), executor, str(tmp_path), anyio_backend[0], str(1 << 20)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)
    table = "ResourceLimit" if executor == "process" else "completed"
    assert done.stdout.split() == ["completed", "ResourceLimit", table, "completed"], done.stderr
    assert list(tmp_path.iterdir()) == []
