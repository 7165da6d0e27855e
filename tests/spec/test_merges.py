"""What reaches the reader from several shards is one answer: order, limits, aggregates and IN over hot and stored rows."""

from __future__ import annotations

from pathlib import Path

import anyio
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import streamq

pytestmark = [pytest.mark.anyio, pytest.mark.by_turns]


async def source_of(db: streamq.Database, name: str, values: list[int | None], shards: int = 4) -> None:
    await db.execute(f"CREATE SOURCE {name} (v BIGINT, tie BIGINT) WITH (shards = {shards})")
    for number, value in enumerate(values):
        await db.insert(name, {"v": value, "tie": number})


async def test_limit_and_offset_apply_to_the_merged_rows(db: streamq.Database) -> None:
    """LIMIT 2 OFFSET 1 over 10, 20, 30, 40 in four shards gives the second and third, two rows; every shard may hold them."""
    await source_of(db, "four", [40, 10, 30, 20])
    async with db.query("SELECT v FROM four ORDER BY v LIMIT 2 OFFSET 1", partitions=4) as stream:
        assert (await stream.read_all())["v"].to_pylist() == [20, 30]
        assert (await stream.statistics()).rows_out == 2
    for limit, offset, rows in [(0, 0, 0), (4, 0, 4), (9, 0, 4), (2, 3, 1), (5, 4, 0), (1, 100, 0)]:
        answer = await db.fetch(f"SELECT v FROM four LIMIT {limit} OFFSET {offset}", partitions=4)
        assert answer.num_rows == rows
        assert len(set(answer["v"].to_pylist())) == rows


@pytest.mark.parametrize(
    ("order", "key"),
    [
        ("v", lambda row: (row[0] is None, row[0] or 0)),
        ("v DESC", lambda row: (row[0] is None, -(row[0] or 0))),
        ("v NULLS FIRST", lambda row: (row[0] is not None, row[0] or 0)),
        ("v DESC NULLS FIRST, tie DESC", lambda row: (row[0] is not None, -(row[0] or 0), -row[1])),
        ("v NULLS LAST, tie", lambda row: (row[0] is None, row[0] or 0, row[1])),
    ],
)
async def test_an_ordered_merge_keeps_the_order(db: streamq.Database, order: str, key: object) -> None:
    """Ascending, descending, NULLs at either end, ties and several keys come out in order, in full and up to a limit."""
    values = [None if n % 11 == 0 else n * 17 % 7 for n in range(60)]
    name = f"ordered_{sum(map(ord, order))}"
    await source_of(db, name, values)
    rows = sorted(zip(values, range(60), strict=True), key=key)  # type: ignore[call-overload] # the keys differ
    positions = 1 if "tie" not in order else 2
    expected = [row[:positions] for row in rows]
    for limit in ("", "LIMIT 7", "LIMIT 9 OFFSET 50"):
        answer = (await db.fetch(f"SELECT v, tie FROM {name} ORDER BY {order} {limit}", partitions=4)).to_pylist()
        wanted = {"": expected, "LIMIT 7": expected[:7], "LIMIT 9 OFFSET 50": expected[50:59]}[limit]
        assert [(row["v"], row["tie"])[:positions] for row in answer] == wanted


async def test_pushed_and_stored_rows_are_one_result(db: streamq.Database, tmp_path: Path) -> None:
    """Rows in memory and rows in files appear once each, also where a query reads both at once."""
    pq.write_table(pa.table({"v": range(100, 200), "tie": range(100)}), tmp_path / "cold.parquet", row_group_size=9)
    await db.register("cold", tmp_path / "cold.parquet")
    await source_of(db, "hot", list(range(20)))
    both = "SELECT v, tie FROM hot UNION ALL SELECT v, tie FROM cold"
    expected = [*range(20), *range(100, 200)]
    assert sorted((await db.fetch(both, partitions=4))["v"].to_pylist()) == expected
    ordered = await db.fetch(f"SELECT v FROM ({both}) AS b ORDER BY v DESC LIMIT 105 OFFSET 3", partitions=4)
    assert ordered["v"].to_pylist() == expected[::-1][3:108]
    await db.unregister("cold")


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        ("count(*)", 40),
        ("count(v)", 36),
        ("sum(v)", sum(n for n in range(40) if n % 10)),
        ("avg(v)", sum(n for n in range(40) if n % 10) / 36),
        ("min(v)", 1),
        ("max(v)", 39),
        ("count(DISTINCT v % 7)", 7),
        ("median(v)", 20.0),
        ("string_agg(tie, ',' ORDER BY tie DESC)", ",".join(str(n) for n in range(39, -1, -1))),
        ("array_agg(tie ORDER BY tie)[:3]", [0, 1, 2]),
        ("first(tie ORDER BY tie)", 0),
        ("bool_and(tie < 40)", True),
    ],
)
async def test_aggregates_of_all_shards_are_one_number(db: streamq.Database, select: str, expected: object) -> None:
    """Partial results of shards merge into what one shard with all rows would give; NULLs count where SQL counts them."""
    await db.execute("CREATE SOURCE IF NOT EXISTS numbers (v BIGINT, tie BIGINT) WITH (shards = 5)")
    if not (await db.fetch("SELECT count(*) AS c FROM numbers"))["c"][0].as_py():
        for n in range(40):
            await db.insert("numbers", {"v": n if n % 10 else None, "tie": n})
    assert (await db.fetch(f"SELECT {select} AS a FROM numbers", partitions=4)).to_pylist() == [{"a": expected}]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("v IN (1, 5, 99)", [1, 5]),
        ("v NOT IN (0, 1, 2, 3)", [4, 5, 6]),
        ("v IN (1, NULL)", [1]),
        ("v NOT IN (1, NULL)", []),
        ("name IN ('n2', 'n''3')", [2]),
        ("price IN (0.5, 1.5)", [1, 3]),
        ("flag IN (true)", [0, 2, 4, 6]),
        ("(v, name) IN ((1, 'n1'), (2, 'n1'))", [1]),
        ("v IN (SELECT v + 1 FROM choices WHERE v < 2)", [1, 2]),
        ("v NOT IN (SELECT v FROM choices WHERE v < 5)", [5, 6]),
        ("v IN (3) OR name IN ('n6')", [3, 6]),
        ("v IN (1, 2, 3) AND name NOT IN ('n2')", [1, 3]),
        ("day IN (DATE '2024-01-02')", [1]),
        ("v IN (SELECT v FROM choices WHERE false)", []),
    ],
)
async def test_in_lists(db: streamq.Database, where: str, expected: list[int]) -> None:
    """IN and NOT IN, over numbers, text, dates, booleans, rows and subqueries, treat NULL as SQL does."""
    if not (
        await db.execute("CREATE SOURCE IF NOT EXISTS choices (v INT, name VARCHAR, price DOUBLE, flag BOOLEAN, day DATE)")
    ).kind.endswith("(exists)"):
        await db.execute("INSERT INTO choices SELECT i, 'n' || i, i / 2, i % 2 = 0, DATE '2024-01-01' + i::INT FROM range(7) AS r(i)")
    answer = await db.fetch(f"SELECT v FROM choices WHERE {where} ORDER BY v", partitions=4)
    assert answer["v"].to_pylist() == expected


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT v, tie FROM both_ways WHERE v > 3 ORDER BY v, tie",
        "SELECT v, count(*) AS c, sum(tie)::BIGINT AS s FROM both_ways GROUP BY v ORDER BY v",
        "SELECT v, row_number() OVER (PARTITION BY v ORDER BY tie) AS n FROM both_ways ORDER BY v, n",
    ],
)
async def test_a_stream_adds_up_to_the_whole(db: streamq.Database, sql: str) -> None:
    """Reading batch by batch, row by row or all at once gives the same rows in the same order."""
    await db.execute("CREATE SOURCE IF NOT EXISTS both_ways (v BIGINT, tie BIGINT) WITH (shards = 3)")
    if not (await db.fetch("SELECT count(*) AS c FROM both_ways"))["c"][0].as_py():
        await db.insert("both_ways", pa.table({"v": [n % 9 for n in range(300)], "tie": range(300)}))
    whole = (await db.fetch(sql, partitions=4)).to_pylist()
    async with db.query(sql, batch_rows=7, partitions=2) as stream:
        batches = [batch async for batch in stream]
    assert max(batch.num_rows for batch in batches) <= 7
    assert [row for batch in batches for row in batch.to_pylist()] == whole
    async with db.query(sql, partitions=1) as stream:
        assert [row async for row in stream.rows()] == whole


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("v = 1 OR v = 28", [1, 28]),
        ("v < 2 OR v > 27 AND name <> 'WHERE'", [0, 1, 28, 29]),
        ("name = 'n7 LIMIT 1'", [7]),
        ("name = 'x'' OR ''1''=''1'", []),
        ('"order by" = 3 OR "order by" = 29', [3, 29]),
        ("v IN (2, 29) -- WHERE v = 5 LIMIT 1", [2, 29]),
        ("NOT (v > 0 AND v < 29)", [0, 29]),
    ],
)
async def test_conditions_keep_their_meaning_in_every_task(db: streamq.Database, tmp_path: Path, where: str, expected: list[int]) -> None:
    """OR, words of SQL in strings, in names and in comments: what a task adds to a condition never changes it."""
    rows = pa.table({"v": range(30), "name": [f"n{n} LIMIT 1" for n in range(30)], "order by": range(30)})
    pq.write_table(rows, tmp_path / "words.parquet", row_group_size=4)
    await db.register("words", tmp_path / "words.parquet")
    answer = await db.fetch(f"SELECT v FROM words WHERE {where}", partitions=4)
    assert sorted(answer["v"].to_pylist()) == expected
    await db.unregister("words")


async def test_one_partition_keeps_the_order_of_arrival(db: streamq.Database) -> None:
    """A source of one shard that is read in one partition comes in the order in which it was filled."""
    values: list[int | None] = [n * 7 % 50 for n in range(50)]
    await source_of(db, "one_by_one", values, shards=1)
    assert (await db.fetch("SELECT v FROM one_by_one", partitions=1))["v"].to_pylist() == values


async def test_all_tasks_of_a_join_read_one_version_of_a_table(db: streamq.Database) -> None:
    """While every row of a small table is changed at once, again and again, no join sees an old row beside a new one."""
    await db.execute("CREATE TABLE version (v BIGINT PRIMARY KEY, number BIGINT)")
    await db.insert("version", pa.table({"v": range(8), "number": [0] * 8}))
    await source_of(db, "readings", [n % 8 for n in range(64)])
    ended = False

    async def change() -> None:
        number = 0
        while not ended:
            number += 1
            if number % 2:
                await db.execute("UPDATE version SET number = $n", {"n": number})
            else:
                await db.insert("version", pa.table({"v": range(8), "number": [number] * 8}))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(change)
        for _ in range(15):
            answer = await db.fetch("SELECT r.tie, t.number FROM readings AS r LEFT JOIN version AS t ON r.v = t.v", partitions=4)
            assert answer.num_rows == 64
            assert len(set(answer["number"].to_pylist())) == 1
        ended = True
