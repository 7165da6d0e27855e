"""A database per executor over a file of many row groups, shared by a module's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

import streamq
from tests.conftest import ParquetFile

ROWS = 300_000
ROW_GROUP = 6_000
FEW_ROWS = 3_000
BIG_ROWS = 2_000_000


@pytest.fixture(scope="session")
def numbers(parquet_file: ParquetFile) -> Path:
    """A Parquet file of 50 row groups with `n` = 0, 1, … and `word`."""
    table = pa.table({"n": pa.array(range(ROWS), pa.int64()), "word": [f"word number {n}" for n in range(ROWS)]})
    return parquet_file(table, name="numbers.parquet", row_group_size=ROW_GROUP)


@pytest.fixture(scope="session")
def few(parquet_file: ParquetFile) -> Path:
    """A Parquet file like `numbers`, of three row groups."""
    table = pa.table({"n": pa.array(range(FEW_ROWS), pa.int64()), "word": [f"word number {n}" for n in range(FEW_ROWS)]})
    return parquet_file(table, name="few.parquet", row_group_size=FEW_ROWS // 3)


@pytest.fixture(scope="session")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of numbers and strings in row groups of the usual size, a hundred megabytes as Arrow."""
    path = tmp_path_factory.mktemp("big") / "big.parquet"
    columns = "i AS a, i * 7 % 1000003 AS b, i / 3 AS c, 'label number ' || (i % 100000) AS label"
    with duckdb.connect(config={"threads": 2}) as connection:
        connection.execute(f"COPY (SELECT {columns} FROM range({BIG_ROWS}) AS r(i)) TO '{path}' (ROW_GROUP_SIZE 122880)")
    return path


@pytest.fixture(scope="module")
async def db(executor: str, anyio_backend: object, numbers: Path, few: Path, scratch: Path) -> AsyncIterator[streamq.Database]:
    """A database with two workers whose temporary files are below `scratch`."""
    async with streamq.connect(executor=executor, workers=2, target_partitions=4, single_task_rows=0, temp_dir=str(scratch)) as db:
        await db.register("numbers", numbers)
        await db.register("few", few)
        yield db


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the database of this module keeps temporary files."""
    return tmp_path_factory.mktemp("scratch")
