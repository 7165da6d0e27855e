"""Many queries at once on one database: all exact, in bounded memory."""

from __future__ import annotations

import anyio
import pytest

import streamq
from tests.must.conftest import ROWS
from tests.must.watch import open_jobs, resident_bytes

pytestmark = pytest.mark.anyio
QUERIES = 200
BUDGET_BYTES = 512 << 20
SLACK_BYTES = 256 << 20


async def test_two_hundred_queries_are_exact(db: streamq.Database) -> None:
    """Two hundred different queries at once each get their own whole answer."""
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
        answers[number] = (await db.fetch(sql)).to_pylist()

    async with anyio.create_task_group() as tasks:
        for number in range(QUERIES):
            tasks.start_soon(ask, number)
    for number in range(QUERIES):
        assert answers[number] == _expected(number), number
    assert await open_jobs(db) == 0


async def test_memory_of_many_queries_is_bounded(db: streamq.Database) -> None:
    """Two hundred stalled queries, and then their ends, stay within the budget and 256 MB."""
    await db.fetch("SELECT count(*) AS c FROM numbers")
    before = await resident_bytes(db)
    streams = [db.query("SELECT * FROM numbers", batch_rows=4_096) for _ in range(QUERIES)]
    try:
        for stream in streams:
            await anext(stream)
        assert await resident_bytes(db) - before <= BUDGET_BYTES + SLACK_BYTES
    finally:
        for stream in streams:
            await stream.aclose()
    assert (await db.queries(), await open_jobs(db)) == ((), 0)


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
