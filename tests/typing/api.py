"""Uses of the public interface that type checkers must understand. Checked, never run."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, assert_type

import pyarrow as pa

import streamq


async def connecting() -> None:
    async with streamq.connect() as db:
        assert_type(db, streamq.Database)
    async with streamq.connect(executor="process", workers=2, target_partitions=8):
        pass
    async with streamq.connect("https://host:8471", token="…", tls=ssl.create_default_context()) as remote:
        assert_type(remote, streamq.Database)


async def reading(db: streamq.Database) -> None:
    stream = db.query("SELECT 1 AS one")
    assert_type(stream, streamq.QueryBatchStream)
    await stream.start()
    assert_type(stream.query_id, str)
    assert_type(stream.key, tuple[str, ...] | None)
    assert_type(stream.progress, streamq.Progress)
    async with db.query("SELECT ? AS a", [1], timeout=5, batch_rows=100, partitions=3) as stream:
        schema: pa.Schema = stream.schema
        async for batch in stream:
            rows: pa.RecordBatch = batch
        assert_type(await stream.statistics(), streamq.QueryStatistics)
    async for row in db.query("SELECT $name AS a", {"name": "x"}).rows():
        assert_type(row, dict[str, Any])
    whole: pa.Table = await stream.read_all()
    table: pa.Table = await db.fetch("SELECT $1 AS a", (1,), timeout=0.5)
    del schema, rows, whole, table
    await stream.cancel()
    await stream.aclose()


async def writing(db: streamq.Database) -> None:
    result = await db.execute("CREATE SOURCE s (n INTEGER)")
    assert_type(result, streamq.ExecuteResult)
    assert_type(result.kind, str)
    assert_type(result.rows, int)
    inserted = await db.insert("s", [{"n": 1}])
    assert_type(inserted, streamq.InsertResult)
    assert_type(inserted.rows, int)
    await db.insert("s", batches())
    await db.insert("s", pa.table({"n": [1]}))
    await db.finish("s")


async def registering(db: streamq.Database) -> None:
    await db.register("files", "data/*.parquet")
    await db.register("file", Path("data.parquet"), watermark="ts - INTERVAL '1' HOUR")
    await db.register("rows", pa.table({"n": [1]}))
    await db.unregister("rows")


async def observing(db: streamq.Database) -> None:
    assert_type(await db.explain("SELECT 1", analyze=True), str)
    assert_type(await db.queries(), tuple[streamq.QueryStatistics, ...])
    assert_type(await db.cancel("q1"), bool)
    statistics = await db.statistics()
    assert_type(statistics, streamq.DatabaseStatistics)
    assert_type(statistics.outcomes, Mapping[str, int])


async def failing(db: streamq.Database) -> None:
    try:
        await db.fetch("SELECT")
    except streamq.SqlError as error:
        assert_type(error.line, int | None)
        assert_type(error.hint, str | None)
    except streamq.ShardError as error:
        assert_type(error.shard, str)
    except streamq.StreamqError as error:
        assert_type(error.retryable, bool)


async def batches() -> AsyncIterator[pa.RecordBatch]:
    yield pa.record_batch({"n": [1]})


async def following(db: streamq.Database) -> None:
    stream = db.query("SELECT k, count(*) AS c FROM s GROUP BY k EMIT CHANGES", epoch_rows=1, progress=True)
    await stream.start()
    table: pa.Table = stream.schema.empty_table().drop_columns(["_op"])
    async for batch in stream:
        table = streamq.apply_changes(table, batch, key=stream.key)
    statistics = (await stream.statistics()).continuous
    assert_type(statistics, streamq.ContinuousStatistics | None)
    if statistics is not None:
        assert_type(statistics.held_back_by, tuple[str, int] | None)
        assert_type(statistics.watermark_lag_s, float | None)
        assert_type(statistics.operators, tuple[streamq.OperatorStatistics, ...])
