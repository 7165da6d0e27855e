"""Any failure, in any shard, at any moment, reaches the reader as a typed error that names the shard. An answer is never short."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import streamq
from tests.must.conftest import ROWS
from tests.must.watch import PATIENCE_S, wait_until_idle, worker_pids

pytestmark = [pytest.mark.anyio, pytest.mark.by_turns]
FAILURES = (streamq.QueryError, streamq.SourceError)
SHAPES = {
    "scan": "SELECT {} AS q, word FROM {}",
    "aggregate": "SELECT n % 10 AS k, sum({}) AS q FROM {} GROUP BY 1",
    "sort": "SELECT {} AS q, n FROM {} ORDER BY n DESC",
    "top": "SELECT {} AS q, n FROM {} ORDER BY q LIMIT 5",
    "distinct": "SELECT DISTINCT {} AS q FROM {}",
}
SHAPE_ROWS = {"scan": ROWS, "aggregate": 10, "sort": ROWS, "top": 5, "distinct": ROWS}
TOTAL = "SELECT sum(n) AS s FROM numbers"
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())


@every_shape
@pytest.mark.parametrize("row", [0, ROWS // 2, ROWS - 1], ids=["first row", "middle", "last row"])
async def test_failing_expression_is_a_data_error(db: streamq.Database, shape: str, row: int) -> None:
    """Whichever row an expression fails on, the query ends with DataError that names relation and rows."""
    with pytest.raises(streamq.DataError, match="numbers"):
        await db.fetch(shape.format(f"1 // (n - {row})", "numbers"))
    await wait_until_idle(db)


@every_shape
async def test_failed_cast_is_a_data_error(db: streamq.Database, shape: str) -> None:
    """A CAST that cannot be done says so, and what to write instead."""
    with pytest.raises(streamq.DataError, match="TRY_CAST"):
        await db.fetch(shape.format("CAST(word AS INTEGER)", "numbers"))


async def read_rest(stream: streamq.QueryBatchStream) -> int | streamq.StreamqError:
    """Read a stream to its end; give the number of rows, or the error that it ended with."""
    rows: int = 0
    try:
        async for batch in stream:
            rows += batch.num_rows
    except streamq.StreamqError as error:
        return error
    return rows


@pytest.fixture(scope="module")
async def mortal(anyio_backend: object, numbers: Path) -> AsyncIterator[streamq.Database]:
    """A database whose two worker processes have started, and are there to be killed."""
    async with streamq.connect(executor="process", workers=2) as db:
        await db.register("numbers", numbers)
        await db.fetch(TOTAL)
        yield db


async def restarts(db: streamq.Database) -> int:
    return sum(worker.restarts for pool in (await db.statistics()).pools for worker in pool.workers)


async def test_killed_workers_are_no_short_answer(mortal: streamq.Database) -> None:
    """With every worker killed in mid-stream, each query has all rows or ends with WorkerCrashed, and the next ones are answered."""
    queries = {shape.format("n", "numbers"): SHAPE_ROWS[name] for name, shape in SHAPES.items()}
    pids = await worker_pids(mortal)
    assert len(pids) == 2
    streams = [mortal.query(sql, batch_rows=1_000) for sql in queries]
    firsts = [(await anext(stream)).num_rows for stream in streams]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for expected, stream, first in zip(queries.values(), streams, firsts, strict=True):
        outcome = await read_rest(stream)
        if isinstance(outcome, int):
            assert first + outcome == expected
        else:
            assert isinstance(outcome, streamq.WorkerCrashed)
            assert outcome.retryable
    with anyio.fail_after(PATIENCE_S):
        for sql, expected in queries.items():
            assert (await mortal.fetch(sql)).num_rows == expected
    assert set(await worker_pids(mortal)).isdisjoint(pids)


async def test_killed_worker_fails_only_queries_that_used_it(mortal: streamq.Database) -> None:
    """A query that starts after a worker's death is answered, and the death is counted."""
    before = await restarts(mortal)
    os.kill((await worker_pids(mortal))[0], signal.SIGKILL)
    with anyio.fail_after(PATIENCE_S):
        answers = [(await mortal.fetch(TOTAL))["s"].to_pylist() for _ in range(4)]
    assert answers == [[ROWS * (ROWS - 1) // 2]] * 4
    assert await restarts(mortal) == before + 1


async def test_files_of_different_schemas_are_refused(executor: str, tmp_path: Path) -> None:
    """A glob over files that do not fit together is a SourceError at registration that names one of them."""
    pq.write_table(pa.table({"n": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"n": ["one"]}), tmp_path / "b.parquet")
    async with streamq.connect(executor=executor, workers=1) as db:
        with pytest.raises(streamq.SourceError, match=r"[ab]\.parquet"):
            await db.register("mixed", str(tmp_path / "*.parquet"))


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"not a parquet file at all", b"PAR1" + b"\0" * 64 + b"PAR1"], ids=["empty", "magic", "text", "zeros"]
)
async def test_unreadable_file_is_refused(tmp_path: Path, content: bytes) -> None:
    """A file that is no Parquet file is a SourceError at registration that names it."""
    path = tmp_path / "broken.parquet"
    path.write_bytes(content)
    async with streamq.connect() as db:
        with pytest.raises(streamq.SourceError, match=r"broken\.parquet"):
            await db.register("broken", path)


@pytest.mark.parametrize(
    ("sql", "params", "error"),
    [
        ("SELEC 1", None, streamq.SqlSyntaxError),
        ("SELECT (1", None, streamq.SqlSyntaxError),
        ("SELECT nosuch FROM numbers", None, streamq.BindError),
        ("SELECT * FROM nosuch", None, streamq.BindError),
        ("SELECT nosuch(n) FROM numbers", None, streamq.BindError),
        ("SELECT n + word FROM numbers WHERE n = DATE '2024-01-01'", None, streamq.BindError),
        ("SELECT ? AS a, ? AS b", [1], streamq.BindError),
        ("SELECT ? AS a", [1, 2], streamq.BindError),
        ("SELECT $name AS a", {"other": 1}, streamq.BindError),
        ("SELECT ? AS a", None, streamq.BindError),
        ("CREATE SOURCE s (n INTEGER)", None, streamq.UnsupportedError),
    ],
)
async def test_wrong_text_is_refused_before_anything_runs(
    db: streamq.Database, sql: str, params: object, error: type[streamq.SqlError]
) -> None:
    """Malformed SQL, unknown names, wrong types and parameters are errors of the start, without a query."""
    started = (await db.statistics()).outcomes
    with pytest.raises(error):
        await db.query(sql, params).start()  # type: ignore[arg-type]
    assert await db.queries() == ()
    assert (await db.statistics()).outcomes == started
