"""Many queries at once on one database: all exact."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
import pyarrow as pa
import pytest

import streamq
from tests.conftest import ParquetFile
from tests.must.watch import open_jobs

pytestmark = pytest.mark.anyio
QUERIES = 200
ROWS = 60_000


@pytest.fixture
async def both(anyio_backend: object, parquet_file: ParquetFile) -> AsyncIterator[streamq.Database]:
    """A database over four row groups, whose queries say what runs them."""
    numbers = parquet_file(pa.table({"n": pa.array(range(ROWS), pa.int64())}), row_group_size=ROWS // 4)
    async with streamq.connect(workers=2, target_partitions=2, single_task_rows=0) as db:
        await db.register("numbers", numbers)
        yield db


async def test_two_hundred_queries_are_exact(both: streamq.Database) -> None:
    """Two hundred different queries at once, over both executors, each get their own whole answer."""
    answers: dict[int, list[dict[str, object]]] = {}

    async def ask(number: int) -> None:
        match number % 4:
            case 0:
                sql = f"SELECT count(*) AS c, sum(n) AS s FROM numbers WHERE n < {number * 1000}"
            case 1:
                sql = f"SELECT n % 3 AS k, count(*) AS c FROM numbers WHERE n >= {number} GROUP BY 1 ORDER BY k"
            case 2:
                sql = f"SELECT n FROM numbers ORDER BY n DESC LIMIT 3 OFFSET {number}"
            case _:
                sql = f"SELECT n FROM numbers WHERE n % 1000 = {number} ORDER BY n"
        executor = "thread" if number % 8 < 4 else "process"
        answers[number] = (await both.fetch(f"{sql} WITH (executor = '{executor}')")).to_pylist()

    async with anyio.create_task_group() as tasks:
        for number in range(QUERIES):
            tasks.start_soon(ask, number)
    for number in range(QUERIES):
        assert answers[number] == _expected(number), number
    assert await open_jobs(both) == 0


def _expected(number: int) -> list[dict[str, object]]:
    match number % 4:
        case 0:
            end = min(number * 1000, ROWS)
            return [{"c": end, "s": end * (end - 1) // 2 if end else None}]
        case 1:
            return [{"k": k, "c": len(range(number + (k - number) % 3, ROWS, 3))} for k in range(3)]
        case 2:
            return [{"n": ROWS - 1 - number - place} for place in range(3)]
    return [{"n": n} for n in range(number, ROWS, 1000)]
