"""Snapshots of continuous queries: what is in them, and how a query goes on from one. That it goes on right is for the law to show."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pyarrow as pa
import pytest

import streamq
from streamq.errors import StorageError
from streamq.streaming.query import ContinuousQuery
from streamq.streaming.resume import resumed
from streamq.streaming.snapshots import MANIFEST, read_snapshot, write_snapshot
from tests.waiting import pause

pytestmark = [pytest.mark.anyio, pytest.mark.by_turns, pytest.mark.usefixtures("no_residue")]
TOTALS = "SELECT shop, count(*) AS n, sum(amount) AS total FROM orders GROUP BY shop EMIT CHANGES"
FIRST = [{"id": 1, "shop": "a", "amount": 10}, {"id": 2, "shop": "b", "amount": 20}]
SECOND = [{"id": 3, "shop": "a", "amount": 30}, {"id": 4, "shop": "c", "amount": 40}]
Row = tuple[Any, ...]


@pytest.fixture
async def db(anyio_backend: object) -> AsyncIterator[streamq.Database]:
    async with streamq.connect(executor="thread", workers=1, target_partitions=2) as db:
        await db.execute("CREATE SOURCE orders (id BIGINT, shop VARCHAR, amount BIGINT)")
        yield db


async def next_rows(stream: streamq.QueryBatchStream) -> list[Row]:
    with anyio.fail_after(20):
        return [tuple(row.values()) for row in (await anext(stream)).to_pylist()]


async def snapshot(db: streamq.Database, stream: streamq.QueryBatchStream, directory: Path) -> None:
    query = db._host._queries[stream.query_id]
    assert isinstance(query, ContinuousQuery)
    with anyio.fail_after(20):
        await query.snapshot(directory)


async def left_after(db: streamq.Database, sql: str, directory: Path, partitions: int | None = None) -> list[list[Row]]:
    """Run a query over the first rows, and leave a snapshot of it; gives what it gave."""
    await db.insert("orders", FIRST)
    async with db.query(sql, partitions=partitions, progress=True) as stream:
        given = [await next_rows(stream)]
        await snapshot(db, stream, directory)
    return given


def resume(db: streamq.Database, sql: str, directory: Path, **options: Any) -> streamq.QueryBatchStream:
    return resumed(db._host, db._catalog, db._planner, sql, None, directory, **options)


@pytest.mark.parametrize("partitions", [1, 2, 5])
async def test_a_query_goes_on_in_any_number_of_partitions(db: streamq.Database, tmp_path: Path, partitions: int) -> None:
    """The next epoch has the next number, and changes what the query gave before."""
    await left_after(db, TOTALS, tmp_path / "s", partitions=3)
    await db.insert("orders", SECOND)
    async with resume(db, TOTALS, tmp_path / "s", partitions=partitions) as stream:
        assert sorted(await next_rows(stream)) == [("a", 2, 40, "update"), ("c", 1, 40, "insert")]
        assert (stream.progress.epoch, stream.progress.positions) == (2, {"orders": 4})
        continuous = (await stream.statistics()).continuous
        assert continuous is not None
        assert [node.rows_in for node in continuous.operators if node.kind == "aggregate"] == [4]


async def test_a_query_that_is_snapshotted_goes_on(db: streamq.Database, tmp_path: Path) -> None:
    """A snapshot is nothing that its reader sees, and several can be written."""
    await db.insert("orders", FIRST)
    async with db.query(TOTALS) as stream:
        await next_rows(stream)
        await snapshot(db, stream, tmp_path / "one")
        await db.insert("orders", SECOND)
        await next_rows(stream)
        await snapshot(db, stream, tmp_path / "two")
    numbers = [record.number for name in ("one", "two") if (record := read_snapshot(tmp_path / name).record) is not None]
    assert numbers == [1, 2]


async def test_a_snapshot_is_arrow_files_and_a_manifest(db: streamq.Database, tmp_path: Path) -> None:
    """Every instance's tables are files with the values of keys, which need nothing of this program to be read."""
    await left_after(db, TOTALS, tmp_path / "s", partitions=2)
    manifest = json.loads((tmp_path / "s" / MANIFEST).read_text())
    assert (manifest["format"], manifest["routing"], manifest["epoch"]["number"]) == (1, 1, 1)
    (instances,) = (instances for node, instances in manifest["nodes"].items() if node.endswith("aggregate"))
    assert len(instances) == 2
    shops: list[str] = []
    for instance in instances:
        with pa.OSFile(str(tmp_path / "s" / instance["groups"]), "rb") as file:
            shops += pa.ipc.open_file(file).read_all().column("shop").to_pylist()
    assert sorted(shops) == ["a", "b"]


async def test_another_query_is_refused(db: streamq.Database, tmp_path: Path) -> None:
    """The message says what differs."""
    await left_after(db, TOTALS, tmp_path / "s")
    for sql, what in (
        (TOTALS.replace("sum", "max"), "node query/aggregate is another one"),
        ("SELECT id FROM orders EMIT CHANGES", "changelog was upsert and is append"),
        (TOTALS + " WITH (state_ttl = 1h)", "state_ttl was none and is 3600 s"),
    ):
        with pytest.raises(StorageError, match=what):
            await resume(db, sql, tmp_path / "s").start()


async def test_half_a_snapshot_is_none(db: streamq.Database, tmp_path: Path) -> None:
    """Without its manifest, or with a file cut off, nothing is taken from it; a name that is taken is refused, and nothing is left."""
    await left_after(db, TOTALS, tmp_path / "s")
    saved = read_snapshot(tmp_path / "s")
    with pytest.raises(StorageError, match="already"):
        write_snapshot(saved, tmp_path / "s")
    assert os.listdir(tmp_path) == ["s"]
    cut = next((tmp_path / "s").glob("*.arrow"))
    cut.write_bytes(cut.read_bytes()[:-20])
    with pytest.raises(StorageError, match="the snapshot"):
        read_snapshot(tmp_path / "s")
    (tmp_path / "s" / MANIFEST).unlink()
    with pytest.raises(StorageError, match=r"manifest\.json is missing"):
        read_snapshot(tmp_path / "s")


async def test_another_version_is_refused(db: streamq.Database, tmp_path: Path) -> None:
    """A snapshot whose keys were routed in another way would have rows in the wrong places."""
    await left_after(db, TOTALS, tmp_path / "s")
    path = tmp_path / "s" / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | {"routing": 0}))
    with pytest.raises(StorageError, match="version 0 of the routing"):
        read_snapshot(tmp_path / "s")


async def test_a_limit_counts_what_came_before(db: streamq.Database, tmp_path: Path) -> None:
    """A query with a LIMIT ends after as many rows as without a restart."""
    sql = "SELECT id FROM orders LIMIT 3 EMIT CHANGES"
    await left_after(db, sql, tmp_path / "s")
    await db.insert("orders", SECOND)
    with anyio.fail_after(20):
        async with resume(db, sql, tmp_path / "s") as stream:
            assert (await stream.read_all()).column("id").to_pylist() == [3]


async def test_what_every_holds_back_is_in_the_snapshot(db: streamq.Database, tmp_path: Path) -> None:
    """Changes that were computed and not yet emitted are emitted by the next run, once."""
    sql = TOTALS + " EVERY 1h"
    await db.insert("orders", FIRST)
    async with db.query(sql, epoch_rows=1) as stream:
        await next_rows(stream)
        with anyio.fail_after(20):
            while (await stream.statistics()).continuous.epochs < 2:  # type: ignore[union-attr]
                await pause()
        await snapshot(db, stream, tmp_path / "s")
    assert read_snapshot(tmp_path / "s").waiting is not None
    async with resume(db, sql, tmp_path / "s") as stream:
        assert await next_rows(stream) == [("b", 1, 20, "insert")]


async def test_late_rows_and_watermarks_go_on(db: streamq.Database, tmp_path: Path) -> None:
    """A window that has closed stays closed, and late rows are counted on."""
    await db.execute("CREATE SOURCE clicks (ts TIMESTAMP, WATERMARK FOR ts AS ts)")
    sql = "SELECT window_start, count(*) AS n FROM TUMBLE(clicks, ts, INTERVAL '10' SECOND) GROUP BY 1 EMIT FINAL"

    async def click(*seconds: int) -> None:
        await db.insert("clicks", [{"ts": f"2024-01-01 00:00:{second:02}"} for second in seconds])

    await click(1, 12, 2)
    async with db.query(sql) as stream:
        assert [n for _, n in await next_rows(stream)] == [1]
        await snapshot(db, stream, tmp_path / "s")
    await click(3, 13, 25)
    async with resume(db, sql, tmp_path / "s") as stream:
        assert [n for _, n in await next_rows(stream)] == [2]
        continuous = (await stream.statistics()).continuous
        assert continuous is not None
        assert continuous.late_rows == 2


async def test_a_view_is_followed_on(db: streamq.Database, tmp_path: Path) -> None:
    """What a materialized view has become by then is the first change of the next run."""
    await db.execute("CREATE MATERIALIZED VIEW totals AS SELECT shop, count(*) AS n FROM orders GROUP BY shop")
    sql = "SELECT shop, n FROM totals WHERE n > 1 EMIT CHANGES"
    await left_after(db, sql, tmp_path / "s")
    await db.insert("orders", SECOND)
    assert (await db.fetch("SELECT count(*) AS n FROM totals")).to_pylist() == [{"n": 3}]
    async with resume(db, sql, tmp_path / "s") as stream:
        rows = await next_rows(stream)
    assert [row[:2] for row in rows] == [("a", 2)]


async def test_a_query_that_has_ended_has_no_snapshot(db: streamq.Database, tmp_path: Path) -> None:
    """Between epochs there must still be one to come."""
    await db.insert("orders", FIRST)
    await db.finish("orders")
    async with db.query(TOTALS) as stream:
        query = db._host._queries[(await _started(stream)).query_id]
        with anyio.fail_after(20):
            await stream.read_all()
        assert isinstance(query, ContinuousQuery)
        with pytest.raises(streamq.StreamClosed):
            await query.snapshot(tmp_path / "s")
    assert os.listdir(tmp_path) == []


async def test_a_query_that_waits_for_its_reader_after_the_last_epoch_has_no_snapshot(db: streamq.Database, tmp_path: Path) -> None:
    """Who asks for one is told so, and does not wait until all has been read."""
    await db.insert("orders", FIRST)
    await db.finish("orders")
    async with db.query(TOTALS) as stream:
        with pytest.raises(streamq.StreamClosed):
            while True:  # before the last epoch there still is one
                await snapshot(db, stream, tmp_path / "s")
        assert len(await next_rows(stream)) == 2


async def _started(stream: streamq.QueryBatchStream) -> streamq.QueryBatchStream:
    await stream.start()
    return stream
