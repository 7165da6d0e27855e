"""Reading pushed sources while they grow: every row once in every partitioning, order on request, cuts, and what is kept."""

from __future__ import annotations

import anyio
import pyarrow as pa
import pytest

import streamq

pytestmark = [pytest.mark.anyio, pytest.mark.by_turns]


def batch_of(first: int, rows: int) -> pa.Table:
    return pa.table({"id": pa.array(range(first, first + rows), pa.int64())})


@pytest.mark.parametrize(("shards", "batches"), [(1, 0), (1, 3), (3, 2), (3, 3), (7, 8), (8, 1), (2, 120), (256, 0), (256, 30)])
async def test_round_robin_loses_and_doubles_nothing(db: streamq.Database, shards: int, batches: int) -> None:
    """For any number of shards and of batches, with empty ones too, the rows that come out are those that went in."""
    name = f"s_{shards}_{batches}"
    await db.execute(f"CREATE SOURCE {name} (id BIGINT) WITH (shards = {shards})")
    for number in range(batches):
        await db.insert(name, batch_of(number * 2, 2 if number % 5 else 0))
    expected = [id for number in range(batches) if number % 5 for id in (number * 2, number * 2 + 1)]
    answer = await db.fetch(f"SELECT id, _partition AS p FROM {name} ORDER BY id", partitions=4)
    assert answer["id"].to_pylist() == expected
    assert (await db.fetch(f"SELECT count(*) AS c FROM {name}", partitions=4))["c"].to_pylist() == [len(expected)]
    await db.execute(f"DROP SOURCE {name}")


async def test_batches_go_round_the_shards(db: streamq.Database) -> None:
    """Small batches go to one shard after the other, so shards differ by a batch at most."""
    await db.execute("CREATE SOURCE dealt (id BIGINT) WITH (shards = 4)")
    for number in range(10):
        await db.insert("dealt", batch_of(number, 1))
    answer = await db.fetch("SELECT _partition AS p, count(*) AS c FROM dealt GROUP BY p ORDER BY p")
    assert answer["c"].to_pylist() == [3, 3, 2, 2]


@pytest.mark.parametrize(
    ("sql", "rows"),
    [
        ("SELECT id FROM empty_source", []),
        ("SELECT id FROM empty_source ORDER BY id LIMIT 3", []),
        ("SELECT id FROM empty_source LIMIT 3 OFFSET 1", []),
        ("SELECT count(*) AS c, sum(id) AS s FROM empty_source", [{"c": 0, "s": None}]),
        ("SELECT id, count(*) AS c FROM empty_source GROUP BY id", []),
        ("SELECT e.id FROM empty_source AS e JOIN few ON e.id = few.id", []),
        ("SELECT few.id, e.id AS other FROM few LEFT JOIN empty_source AS e ON e.id = few.id ORDER BY 1", [{"id": 1, "other": None}]),
        ("SELECT id FROM few ORDER BY id LIMIT 5", [{"id": 1}]),
        ("SELECT id FROM few LIMIT 5", [{"id": 1}]),
        ("SELECT rank() OVER (ORDER BY id) AS r FROM few", [{"r": 1}]),
    ],
)
async def test_idle_partitions_hang_nothing(db: streamq.Database, sql: str, rows: list[dict[str, object]]) -> None:
    """Where most or all shards have no rows, merges, aggregates, joins and LIMIT end, with the right schema."""
    for name in ("empty_source", "few"):
        await db.execute(f"CREATE SOURCE IF NOT EXISTS {name} (id BIGINT) WITH (shards = 16)")
    if not (await db.fetch("SELECT id FROM few")).num_rows:
        await db.insert("few", batch_of(1, 1))
    with anyio.fail_after(60):
        answer = await db.fetch(sql, partitions=8)
    assert answer.to_pylist() == rows
    if "id" in answer.column_names:
        assert answer.schema.field("id").type == pa.int64()


async def test_offset_gives_the_order_of_arrival(db: streamq.Database) -> None:
    """ORDER BY _offset of one shard, and ORDER BY _partition, _offset of several, repeat the order of the inserts in each."""
    await db.execute("CREATE SOURCE ordered (id BIGINT) WITH (shards = 1)")
    await db.execute("CREATE SOURCE spread (id BIGINT) WITH (shards = 3)")
    ids = [(number * 37) % 101 for number in range(101)]
    for id in ids:
        await db.insert("ordered", {"id": id})
        await db.insert("spread", {"id": id})
    answer = await db.fetch("SELECT id FROM ordered ORDER BY _offset", partitions=4)
    assert answer["id"].to_pylist() == ids
    first = await db.fetch("SELECT id FROM ordered ORDER BY _offset LIMIT 5 OFFSET 2", partitions=4)
    assert first["id"].to_pylist() == ids[2:7]
    answer = await db.fetch("SELECT id FROM spread ORDER BY _partition, _offset", partitions=4)
    assert answer["id"].to_pylist() == ids[0::3] + ids[1::3] + ids[2::3]


async def test_the_cut_is_told(db: streamq.Database) -> None:
    """A stream says at which position of every relation it reads, and that position is what it gives, whatever is inserted since."""
    await db.execute("CREATE SOURCE cut_here (id BIGINT) WITH (shards = 2)")
    await db.insert("cut_here", batch_of(0, 5))
    async with db.query("SELECT id FROM cut_here") as stream:
        await db.insert("cut_here", batch_of(5, 5))
        assert stream.progress.positions == {"cut_here": 5}
        assert sorted((await stream.read_all())["id"].to_pylist()) == [0, 1, 2, 3, 4]
        assert stream.progress.epoch_complete


async def test_what_retention_dropped_can_be_seen(db: streamq.Database) -> None:
    """Statistics and `_offset` both tell that, and how many, rows are not there any more."""
    await db.execute("CREATE SOURCE recent (id BIGINT) WITH (shards = 1, retention_rows = 10)")
    for first in range(0, 30, 5):
        await db.insert("recent", batch_of(first, 5))
    (recent,) = [relation for relation in (await db.statistics()).relations if relation.name == "recent"]
    assert (recent.rows, recent.inserted) == (10, 30)
    answer = await db.fetch("SELECT min(_offset) AS first, max(_offset) AS last FROM recent")
    assert answer.to_pylist() == [{"first": 20, "last": 29}]


async def test_retention_takes_nothing_from_a_running_query(db: streamq.Database) -> None:
    """A source drops its oldest rows while a query reads them: the query still has every row of its cut, the next one the newest."""
    await db.execute("CREATE SOURCE rolling (id BIGINT) WITH (shards = 2, retention_rows = 50000)")
    await db.insert("rolling", batch_of(0, 50_000))
    async with db.query("SELECT id FROM rolling", batch_rows=1_000, partitions=2) as stream:
        found = (await anext(stream))["id"].to_pylist()
        await db.insert("rolling", batch_of(50_000, 50_000))
        found += (await stream.read_all())["id"].to_pylist()
    assert sorted(found) == list(range(50_000))
    assert (await db.fetch("SELECT min(id) AS low, count(*) AS c FROM rolling")).to_pylist() == [{"low": 50_000, "c": 50_000}]


async def test_a_full_source_without_retention_keeps_everything_and_refuses() -> None:
    """Up to `max_source_bytes` nothing is dropped; then an insert is refused whole, and says which limit it was."""
    async with streamq.connect(executor="thread", max_source_bytes=100_000) as db:
        await db.execute("CREATE SOURCE bounded (id BIGINT)")
        inserted = 0
        with pytest.raises(streamq.ResourceLimit, match=r"bounded.*max_source_bytes"):
            while inserted < 100_000:
                await db.insert("bounded", batch_of(inserted, 1_000))
                inserted += 1_000
        assert sorted((await db.fetch("SELECT id FROM bounded"))["id"].to_pylist()) == list(range(inserted))
