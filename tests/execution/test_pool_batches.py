"""What a pool's jobs give: the rows, their order, their types, and never more of them than was granted."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio
import duckdb
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from streamq.execution.jobs import ArrowFiles, ToFiles, ToReader, WorkerPool
from tests.execution.pools import PoolMaker, drain, make_job, make_pool, read

pytestmark = [pytest.mark.anyio, pytest.mark.by_turns]

TYPES = """
SELECT i, 's' || i AS s, repeat('x', i % 50) AS r, [i, i + 1] AS l, {'a': i, 'b': ['y' || i]} AS t, MAP {'k': i} AS m,
    (i / 7)::DECIMAL(18, 4) AS d, (i::HUGEINT * 1000000000000000000) AS h, ('v' || i % 3)::ENUM('v0', 'v1', 'v2') AS e,
    TIMESTAMPTZ '2020-01-01 00:00:00+02' + INTERVAL (i) SECOND AS z, DATE '2020-01-01' + i::INTEGER AS c, TIME '01:02:03' AS o,
    encode('b' || i) AS b, CASE WHEN i % 5 = 0 THEN NULL ELSE i::DOUBLE END AS f, i % 2 = 0 AS y, NULL AS n
FROM range(2000) g(i)
"""


def expected(sql: str) -> pa.Table:
    """Give DuckDB's own answer."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.sql(sql).to_arrow_table()


@pytest.fixture(scope="module")
async def narrow_pool(executor: str, anyio_backend: object, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WorkerPool]:
    """A pool of one worker, with few small slots."""
    async with make_pool(executor, tmp_path_factory.mktemp("narrow"), workers=1, slots=4, slot_bytes=1 << 18) as pool:
        yield pool


async def test_batches_come_in_order(pool: WorkerPool) -> None:
    """The rows are DuckDB's, in its order."""
    table = await read(pool, make_job("SELECT i, i * 2 AS j FROM range(200000) t(i)"))
    assert table.equals(expected("SELECT i, i * 2 AS j FROM range(200000) t(i)"))


async def test_every_type_arrives_as_duckdb_gives_it(pool: WorkerPool) -> None:
    """Strings, nested values, decimals, enums and times are the same types and values."""
    assert (await read(pool, make_job(TYPES, batch_rows=300))).equals(expected(TYPES))


async def test_an_empty_result_has_its_schema(pool: WorkerPool) -> None:
    """No batch comes, and the result tells the columns."""
    async with pool.run(make_job("SELECT 1 AS a, 'x' AS b WHERE false")) as running:
        assert [batch async for batch in running] == []
        assert running.result.schema == pa.schema([("a", pa.int32()), ("b", pa.string())])


async def test_batches_are_at_most_batch_rows(pool: WorkerPool) -> None:
    """Batches are as large as asked, or smaller."""
    async with pool.run(make_job("SELECT i FROM range(1000) t(i)", batch_rows=7)) as running:
        sizes = [batch.num_rows async for batch in running]
    assert max(sizes) <= 7
    assert sum(sizes) == 1000


async def test_the_result_counts_rows_and_bytes(pool: WorkerPool) -> None:
    """The result says what the job gave."""
    async with pool.run(make_job("SELECT i FROM range(1000) t(i)"), worker=1) as running:
        assert await drain(running) == 1000
        assert (running.result.worker, running.result.rows) == (1, 1000)
        assert running.result.bytes >= 8000
        assert running.result.busy_s > 0


async def test_repeated_names_are_kept(pool: WorkerPool) -> None:
    """Columns of the same name stay apart."""
    table = await read(pool, make_job("SELECT a, a FROM v", views=(("v", "SELECT 1 AS a"),)))
    assert table.column_names == ["a", "a"]


async def test_inputs_views_and_parameters(pool: WorkerPool) -> None:
    """Views read inputs and the views before them, and parameters may be anywhere; those not used do no harm."""
    job = make_job(
        "WITH w AS (SELECT b FROM v2) SELECT b + $p1 AS c FROM w ORDER BY c DESC",
        views=(("v1", 'SELECT a FROM "t#1" WHERE a > $p2'), ("v2", "SELECT a * 10 AS b FROM v1 -- ten times")),
        inputs=(("t#1", pa.table({"a": [1, 2, 3]})),),
        parameters=(("p1", 5), ("p2", 1), ("p3", "unused")),
    )
    assert (await read(pool, job)).to_pydict() == {"c": [35, 25]}


async def test_parameters_keep_their_types(pool: WorkerPool) -> None:
    """Python values arrive as the SQL values they stand for."""
    values = [2**70, 1.5, "é", date(2020, 1, 2), datetime(2020, 1, 2, 3, tzinfo=UTC), Decimal("1.50"), True, None, b"x", [1, 2]]
    names = [f"p{number}" for number in range(len(values))]
    job = make_job(f"SELECT {', '.join(f'${name} AS {name}' for name in names)}", parameters=tuple(zip(names, values, strict=True)))
    [row] = (await read(pool, job)).to_pylist()
    assert list(row.values()) == values


async def test_a_table_is_read_by_several_jobs(pool: WorkerPool) -> None:
    """Jobs that run at once may share an input."""
    table = pa.table({"a": pa.arange(0, 100_000), "d": pa.arange(0, 100_000).cast(pa.decimal128(38, 0))})
    job = make_job("SELECT sum(a) AS s, sum(d) AS d FROM t", inputs=(("t", table),))
    answers: list[pa.Table] = []

    async def ask() -> None:
        answers.append(await read(pool, job))

    async with anyio.create_task_group() as tasks:
        for _ in range(6):
            tasks.start_soon(ask)
    assert [answer.to_pylist() for answer in answers] == [[{"s": 4999950000, "d": Decimal(4999950000)}]] * 6


async def test_arrow_files_are_read_in_order(pool: WorkerPool, tmp_path: Path) -> None:
    """Files with the rows of an earlier job are one input, in the order in which they are named."""
    files = []
    for number in (1, 2):
        job = make_job(
            f"SELECT i + {number} * 10 AS a, ('e' || {number})::ENUM('e1', 'e2') AS e FROM range(3) t(i)",
            output=ToFiles(str(tmp_path), f"part{number}", 1),
        )
        async with pool.run(job) as running:
            await drain(running)
            files.append(running.result)
    source = ArrowFiles(tuple(result.files[0][1] for result in files), files[0].schema)
    table = await read(pool, make_job("SELECT a, e::VARCHAR AS e FROM t", inputs=(("t", source),)))
    assert table.to_pydict() == {"a": [10, 11, 12, 20, 21, 22], "e": ["e1"] * 3 + ["e2"] * 3}


async def test_no_arrow_files_are_no_rows(pool: WorkerPool) -> None:
    """An input without files is empty and has its columns."""
    source = ArrowFiles((), pa.schema([("a", pa.int64())]))
    assert (await read(pool, make_job("SELECT a FROM t", inputs=(("t", source),)))).num_rows == 0


async def test_parquet_is_read(pool: WorkerPool, tmp_path: Path) -> None:
    """A job reads a range of a file's rows."""
    pq.write_table(pa.table({"a": pa.arange(0, 10_000)}), tmp_path / "a.parquet", row_group_size=1000)
    rows = "file_row_number >= 1500 AND file_row_number < 2500"
    view = f"SELECT a FROM read_parquet('{tmp_path}/a.parquet', file_row_number = true) WHERE {rows}"
    table = await read(pool, make_job("SELECT * FROM v", views=(("v", view),)))
    assert table.column("a").to_pylist() == list(range(1500, 2500))


async def test_credits_bound_what_is_in_flight(narrow_pool: WorkerPool) -> None:
    """A job that nobody reads takes as many turns as it had credits, here of one batch each, and then waits."""
    job = make_job("SELECT i FROM range(1000000) t(i)", batch_rows=16_384)
    async with narrow_pool.run(job, credits=3) as stalled:
        # Any number of turns of other jobs pass, on the same worker.
        for _ in range(5):
            await read(narrow_pool, make_job("SELECT i FROM range(20000) t(i)", batch_rows=1000))
        assert len(stalled._batches) == 3  # type: ignore[attr-defined]
        assert await drain(stalled) == 1_000_000


async def test_batches_of_a_turn_fit_a_slot(narrow_pool: WorkerPool) -> None:
    """However many small batches a job could give at once, those that wait are no more than its credits' worth of slots."""
    job = make_job("SELECT i FROM range(1000000) t(i)", batch_rows=10_000)
    async with narrow_pool.run(job, credits=2) as stalled:
        for _ in range(5):
            await read(narrow_pool, make_job("SELECT i FROM range(20000) t(i)", batch_rows=1000))
        waiting = [batch.num_rows for batch, _ in stalled._batches]  # type: ignore[attr-defined]
        assert 2 * 10_000 <= sum(waiting) <= 2 * (1 << 18) // 8
        assert await drain(stalled) == 1_000_000


async def test_a_stalled_job_does_not_hold_its_worker(narrow_pool: WorkerPool) -> None:
    """Other jobs of the worker go on while one has no reader."""
    async with narrow_pool.run(make_job("SELECT i FROM range(1000000) t(i)")) as stalled:
        assert (await read(narrow_pool, make_job("SELECT 42 AS a"))).to_pydict() == {"a": [42]}
        assert await drain(stalled) == 1_000_000


async def test_many_jobs_on_few_workers(pool: WorkerPool) -> None:
    """Fifty jobs at once are all exact."""
    sums: dict[int, int] = {}

    async def ask(number: int) -> None:
        table = await read(pool, make_job(f"SELECT i + {number} AS a FROM range(20000) t(i)", batch_rows=3000))
        sums[number] = pc.sum(table.column("a")).as_py()

    async with anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(ask, number)
    assert sums == {number: 199_990_000 + 20_000 * number for number in range(50)}


async def test_who_keeps_what_is_lent_stops_nobody(narrow_pool: WorkerPool) -> None:
    """A reader who was to let go of its batches and does not gets all of them, as do others, and they stay what they were."""
    sql = "SELECT i, i::VARCHAR AS s FROM range(200000) t(i)"
    answer = expected(sql)
    kept = await read(narrow_pool, make_job(sql, output=ToReader(lend=True), batch_rows=2048))
    for lend in (False, True):
        assert (await read(narrow_pool, make_job(sql, output=ToReader(lend), batch_rows=2048))).equals(answer)
    assert kept.equals(answer)


async def test_rows_larger_than_a_slot(pool: WorkerPool) -> None:
    """A row, or a batch, that no slot of shared memory can hold arrives all the same."""
    sql = "SELECT repeat(chr(97 + i::INTEGER), CASE WHEN i = 3 THEN 3000000 ELSE 300000 END) AS a FROM range(12) t(i)"
    table = await read(pool, make_job(sql))
    assert table.equals(expected(sql))


async def test_batches_outlive_their_pool(new_pool: PoolMaker) -> None:
    """What a reader was given is its own."""
    async with new_pool(workers=1) as pool:
        table = await read(pool, make_job(TYPES))
    assert table.equals(expected(TYPES))


async def test_statistics_count_jobs(pool: WorkerPool) -> None:
    """A pool tells what its workers have done and have open."""
    before = pool.statistics()
    await read(pool, make_job("SELECT 1"), worker=0)
    async with pool.run(make_job("SELECT i FROM range(1000000) t(i)"), worker=1):
        statistics = pool.statistics()
    assert statistics.kind == pool.kind
    done = [worker.done - earlier.done for worker, earlier in zip(statistics.workers, before.workers, strict=True)]
    assert ([worker.jobs for worker in statistics.workers], done) == ([0, 1], [1, 0])


async def test_a_job_goes_to_the_worker_with_least_to_do(pool: WorkerPool) -> None:
    """Open jobs are spread."""
    endless = make_job("SELECT i FROM range(10000000) t(i)")
    async with pool.run(endless), pool.run(endless):
        assert [worker.jobs for worker in pool.statistics().workers] == [1, 1]


@pytest.mark.parametrize("options", [{"worker": 2}, {"worker": -1}, {"credits": 0}])
async def test_what_cannot_be_asked(pool: WorkerPool, options: dict[str, Any]) -> None:
    """A worker that does not exist, and no credits, are refused."""
    with pytest.raises(ValueError, match="must be"):
        pool.run(make_job("SELECT 1"), **options)


async def test_memory_stays_flat_while_a_reader_stalls(pool: WorkerPool, tmp_path: Path) -> None:
    """A scan of many rows holds its granted batches, however long nobody reads."""
    table = pa.table({"a": pa.arange(0, 2_000_000), "b": pa.arange(0, 2_000_000)})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=122_880, use_dictionary=False)
    scan = make_job(f"SELECT a, b FROM read_parquet('{tmp_path}/a.parquet')")
    async with pool.run(scan, worker=0) as first, pool.run(scan, worker=1) as second:
        await anext(aiter(first))
        await anext(aiter(second))
        before = resident_bytes()
        for number in range(40):
            await read(pool, make_job("SELECT i FROM range(30000) t(i)"), worker=number % 2)
        # All rows are more than twice as much.
        assert resident_bytes() - before < 24 << 20
        assert await drain(first) + await drain(second) == 2 * (2_000_000 - 32_768)


def resident_bytes() -> int:
    """Add up the memory of this process and its workers."""
    process = psutil.Process()
    return int(sum(each.memory_info().rss for each in (process, *process.children())))
