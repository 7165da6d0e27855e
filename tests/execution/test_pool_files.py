"""Jobs that keep their rows in files."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from streamq.errors import DataError, QueryError
from streamq.execution.jobs import PARTITION_COLUMN, JobResult, ToFiles, WorkerPool
from streamq.plan import fragments
from tests.execution.pools import ENDLESS, drain, make_job, names_in
from tests.waiting import pause

pytestmark = [pytest.mark.anyio, pytest.mark.by_turns]


async def keep(pool: WorkerPool, directory: Path, sql: str, partitions: int) -> JobResult:
    """Run a job that writes files."""
    async with pool.run(make_job(sql, output=ToFiles(str(directory), "kept", partitions))) as running:
        assert await drain(running) == 0
        return running.result


def rows_of(path: str) -> list[int]:
    """Read column `a` of an Arrow file."""
    with pa.memory_map(path) as source:
        rows: list[int] = pa.ipc.open_file(source).read_all().column("a").to_pylist()
    return rows


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory for the files."""
    path = tmp_path / "kept"
    path.mkdir()
    return path


def test_the_partition_column_is_the_planners() -> None:
    """Planner and workers mean the same column."""
    assert PARTITION_COLUMN == fragments.PARTITION_COLUMN


async def test_one_partition_is_one_file(pool: WorkerPool, directory: Path) -> None:
    """All rows are in the one file, in order."""
    result = await keep(pool, directory, "SELECT i AS a FROM range(100000) t(i)", 1)
    assert result.files == ((0, str(directory / "kept-0.arrow"), 100_000),)
    assert rows_of(result.files[0][1]) == list(range(100_000))


async def test_rows_are_split_by_partition(pool: WorkerPool, directory: Path) -> None:
    """Each partition has its rows in their order, without the column that split them; one without rows has no file."""
    sql = f"SELECT i AS a, (i % 7)::INTEGER AS {PARTITION_COLUMN} FROM range(100000) t(i)"
    result = await keep(pool, directory, sql, 8)
    assert [partition for partition, _, _ in result.files] == list(range(7))
    for partition, path, rows in result.files:
        assert rows_of(path) == list(range(partition, 100_000, 7))
        assert rows == len(range(partition, 100_000, 7))
    assert result.schema == pa.schema([("a", pa.int64())])


async def test_no_rows_are_no_files(pool: WorkerPool, directory: Path) -> None:
    """The schema is known all the same."""
    result = await keep(pool, directory, f"SELECT i AS a, 0 AS {PARTITION_COLUMN} FROM range(0) t(i)", 8)
    assert (result.files, result.schema, names_in(directory)) == ((), pa.schema([("a", pa.int64())]), [])


@pytest.mark.parametrize("partition", ["8", "-1", "NULL::INTEGER"])
async def test_a_partition_that_does_not_exist(pool: WorkerPool, directory: Path, partition: str) -> None:
    """A row that belongs nowhere fails the job."""
    with pytest.raises(QueryError, match=PARTITION_COLUMN):
        await keep(pool, directory, f"SELECT 1 AS a, {partition} AS {PARTITION_COLUMN}", 8)


async def test_a_missing_partition_column(pool: WorkerPool, directory: Path) -> None:
    """A job for several partitions must say which."""
    with pytest.raises(QueryError, match=PARTITION_COLUMN):
        await keep(pool, directory, "SELECT 1 AS a", 8)


@pytest.mark.parametrize("partitions", [1, 8])
async def test_a_failed_job_leaves_no_file(pool: WorkerPool, directory: Path, partitions: int) -> None:
    """Nothing is left of what was written before the failure."""
    sql = f"SELECT 1 // (199999 - i) AS a, (i % 8)::INTEGER AS {PARTITION_COLUMN} FROM range(200000) t(i)"
    with pytest.raises(DataError, match="Division by zero"):
        await keep(pool, directory, sql, partitions)
    assert not names_in(directory)


async def test_a_cancelled_job_leaves_no_file(pool: WorkerPool, directory: Path) -> None:
    """When the context is left, the files are gone."""
    job = make_job("SELECT i AS a FROM range(100000000000) t(i)", output=ToFiles(str(directory), "kept", 1))
    async with pool.run(job):
        while not names_in(directory):
            await pause()
    assert not names_in(directory)


async def test_a_job_that_writes_lets_others_run(pool: WorkerPool, directory: Path) -> None:
    """Writing goes on a batch at a time, in turn with the worker's other jobs."""
    endless = make_job("SELECT i AS a FROM range(100000000000) t(i)", output=ToFiles(str(directory), "kept", 1))
    async with pool.run(endless, worker=0), pool.run(make_job("SELECT i FROM range(100000) t(i)"), worker=0) as other:
        assert await drain(other) == 100_000


async def test_a_query_without_rows_yet_is_cancelled(pool: WorkerPool, directory: Path) -> None:
    """A writing job is interrupted before it has written anything."""
    async with pool.run(make_job(ENDLESS, output=ToFiles(str(directory), "kept", 1))):
        pass
    assert not names_in(directory)
