"""Materialized views through the public interface: kept, read at a cut, followed, built on each other, dropped."""

from __future__ import annotations

import datetime as dt

import anyio
import pyarrow as pa
import pytest

import streamq
from streamq.storage.view_feed import BACKLOG_BYTES

pytestmark = [pytest.mark.anyio, pytest.mark.by_turns]
PATIENCE_S = 30


@pytest.fixture
async def db(db: streamq.Database) -> streamq.Database:
    await db.execute("CREATE SOURCE s (k BIGINT, n BIGINT)")
    return db


async def rows(db: streamq.Database, sql: str) -> list[dict[str, object]]:
    with anyio.fail_after(PATIENCE_S):
        answer: list[dict[str, object]] = (await db.fetch(sql)).to_pylist()
    return answer


async def show(db: streamq.Database, sql: str) -> list[dict[str, object]]:
    table = (await db.execute(sql)).table
    assert table is not None
    shown: list[dict[str, object]] = table.to_pylist()
    return shown


async def next_rows(stream: streamq.QueryBatchStream) -> list[dict[str, object]]:
    with anyio.fail_after(PATIENCE_S):
        changes: list[dict[str, object]] = (await anext(stream)).to_pylist()
    return changes


async def read_until(stream: streamq.QueryBatchStream, folded: pa.Table, wanted: list[dict[str, object]]) -> pa.Table:
    """Fold changes until they are the wanted rows, in the order of their first column."""
    with anyio.fail_after(PATIENCE_S):
        while folded.sort_by(folded.column_names[0]).to_pylist() != wanted:
            folded = streamq.apply_changes(folded, await anext(stream), key=stream.key)
    return folded


def nothing(stream: streamq.QueryBatchStream) -> pa.Table:
    return pa.schema([field for field in stream.schema if field.name != "_op"]).empty_table()


# Kept and read


async def test_a_view_has_all_that_was_inserted_before(db: streamq.Database) -> None:
    """A snapshot that names a view waits until it has every write before; what was there when it was created is in it too."""
    await db.insert("s", [{"k": 1, "n": 1}])
    made = await db.execute("CREATE MATERIALIZED VIEW v AS SELECT k, count(*) AS c FROM s GROUP BY k")
    assert (made.kind, made.rows) == ("create materialized view", 0)
    assert await rows(db, "SELECT * FROM v") == [{"k": 1, "c": 1}]
    for n in range(10):
        await db.insert("s", [{"k": 1, "n": n}])
        assert await rows(db, "SELECT c FROM v") == [{"c": n + 2}]


async def test_a_bag_is_kept_as_it_is(db: streamq.Database) -> None:
    """A result without a key has every row as often as the query gives it, and loses those that are withdrawn."""
    await db.execute("CREATE TABLE t (id BIGINT PRIMARY KEY, x BIGINT)")
    await db.execute("CREATE MATERIALIZED VIEW v AS SELECT x FROM t WHERE x > 0")
    await db.execute("INSERT INTO t VALUES (1, 5), (2, 5), (3, 0), (4, NULL), (5, 6)")
    assert await rows(db, "SELECT x FROM v ORDER BY x") == [{"x": 5}, {"x": 5}, {"x": 6}]
    await db.execute("DELETE FROM t WHERE id IN (2, 5)")
    assert await rows(db, "SELECT x FROM v") == [{"x": 5}]


async def test_a_global_aggregate_has_its_row_from_the_start(db: streamq.Database) -> None:
    """Before any row there is the answer over none."""
    await db.execute("CREATE MATERIALIZED VIEW v AS SELECT count(*) AS c, sum(n)::BIGINT AS n FROM s")
    assert await rows(db, "SELECT * FROM v") == [{"c": 0, "n": None}]
    await db.insert("s", [{"n": 2}, {"n": 3}])
    assert await rows(db, "SELECT * FROM v") == [{"c": 2, "n": 5}]


async def test_a_final_view_has_what_is_final(db: streamq.Database) -> None:
    """With EMIT FINAL a window is in the view once it has closed."""
    await db.execute("CREATE SOURCE e (ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '0' SECOND)")
    await db.execute(
        "CREATE MATERIALIZED VIEW v AS "
        "SELECT window_start AS w, count(*) AS c FROM TUMBLE(e, ts, INTERVAL '1' MINUTE) GROUP BY w EMIT FINAL"
    )
    start = dt.datetime(2024, 1, 1)
    await db.insert("e", [{"ts": start}, {"ts": start + dt.timedelta(seconds=30)}])
    assert await rows(db, "SELECT * FROM v") == []
    await db.insert("e", [{"ts": start + dt.timedelta(seconds=90)}])
    assert await rows(db, "SELECT * FROM v") == [{"w": start, "c": 2}]
    await db.finish("e")
    assert len(await rows(db, "SELECT * FROM v")) == 2


async def test_parameters_are_bound_when_the_view_is_created(db: streamq.Database) -> None:
    """They belong to the view from then on."""
    await db.execute("CREATE MATERIALIZED VIEW v AS SELECT n FROM s WHERE n > ?", [5])
    await db.insert("s", [{"n": 5}, {"n": 6}])
    assert await rows(db, "SELECT n FROM v") == [{"n": 6}]


async def test_views_are_read_by_every_statement(db: streamq.Database) -> None:
    """INSERT … SELECT, EXPLAIN ANALYZE and queries with parameters wait for a view as any query does."""
    await db.execute("CREATE MATERIALIZED VIEW v AS SELECT k, count(*) AS c FROM s GROUP BY k")
    await db.execute("CREATE TABLE t (k BIGINT PRIMARY KEY, c BIGINT)")
    await db.insert("s", [{"k": 1}, {"k": 2}])
    assert (await db.execute("INSERT INTO t SELECT * FROM v")).rows == 2
    await db.insert("s", [{"k": 1}])
    assert "v" in await db.explain("SELECT * FROM v", analyze=True)
    assert (await db.fetch("SELECT c FROM v WHERE k = ?", [1])).to_pylist() == [{"c": 2}]


async def test_a_stale_answer_may_be_good_enough(db: streamq.Database) -> None:
    """`max_staleness` allows an answer that lacks the newest writes; its value is a length of time."""
    await db.execute("CREATE MATERIALIZED VIEW v AS SELECT count(*) AS c FROM s")
    await db.insert("s", [{"n": 1}])
    assert await rows(db, "SELECT c FROM v") == [{"c": 1}]
    await db.insert("s", [{"n": 1}])
    assert (await rows(db, "SELECT c FROM v WITH (max_staleness = INTERVAL '1' HOUR)"))[0]["c"] in (1, 2)
    assert await rows(db, "SELECT c FROM v WITH (max_staleness = INTERVAL '0' SECOND)") == [{"c": 2}]
    with pytest.raises(streamq.BindError, match="max_staleness is a length of time"):
        await db.fetch("SELECT c FROM v WITH (max_staleness = 5)")


# One cut


async def write_pairs(db: streamq.Database, times: int) -> None:
    """Insert two rows at once, again and again."""
    for n in range(times):
        await db.insert("s", [{"k": n % 7, "n": n}, {"k": n % 5, "n": -n}])


async def test_views_and_sources_are_seen_at_one_cut(db: streamq.Database) -> None:
    """While rows go in, a view, views above it and what they are made of agree in every snapshot, and no write is seen in part."""
    await db.execute("CREATE MATERIALIZED VIEW a AS SELECT k, count(*) AS c FROM s GROUP BY k")
    await db.execute("CREATE MATERIALIZED VIEW b AS SELECT sum(c)::BIGINT AS c FROM a")
    await db.execute("CREATE MATERIALIZED VIEW d AS SELECT (SELECT c FROM b) AS b, (SELECT count(*) FROM s) AS s")
    sql = "SELECT (SELECT count(*) FROM s) AS s, (SELECT sum(c)::BIGINT FROM a) AS a, (SELECT c FROM b) AS b, d.b AS db, d.s AS ds FROM d"
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write_pairs, db, 150)
        for _ in range(15):
            (row,) = await rows(db, sql)
            values = {value or 0 for value in row.values()}
            assert len(values) == 1, row
            assert values <= set(range(0, 301, 2))


@pytest.mark.parametrize("epoch_rows", [None, 1])
async def test_followers_of_several_relations_go_from_cut_to_cut(db: streamq.Database, epoch_rows: int | None) -> None:
    """Every epoch of a query over views and their source is the answer at one cut, whatever it reads at a time."""
    await db.execute("CREATE MATERIALIZED VIEW a AS SELECT k, count(*) AS c FROM s GROUP BY k")
    await db.execute("CREATE MATERIALIZED VIEW b AS SELECT sum(c)::BIGINT AS c FROM a")
    sql = "SELECT (SELECT count(*) FROM s) AS s, (SELECT sum(c)::BIGINT FROM a) AS a, (SELECT c FROM b) AS b EMIT CHANGES"
    async with anyio.create_task_group() as tasks, db.query(sql, epoch_rows=epoch_rows) as stream:
        folded = nothing(stream)
        tasks.start_soon(write_pairs, db, 60)
        with anyio.fail_after(PATIENCE_S):
            async for batch in stream:
                folded = streamq.apply_changes(folded, batch, key=stream.key)
                if not stream.progress.epoch_complete:
                    continue
                (row,) = folded.to_pylist()
                values = {value or 0 for value in row.values()}
                assert len(values) == 1, row
                if values == {120}:
                    break


async def test_a_view_follows_the_views_and_tables_that_it_joins(db: streamq.Database) -> None:
    """A view over a view and a table changes with both."""
    await db.execute("CREATE TABLE names (k BIGINT PRIMARY KEY, name VARCHAR)")
    await db.execute("CREATE MATERIALIZED VIEW a AS SELECT k, count(*) AS c FROM s GROUP BY k")
    await db.execute("CREATE MATERIALIZED VIEW b AS SELECT names.k, name, c FROM a JOIN names ON a.k = names.k")
    await db.insert("s", [{"k": 1}, {"k": 1}, {"k": 2}])
    await db.execute("INSERT INTO names VALUES (1, 'one')")
    assert await rows(db, "SELECT * FROM b") == [{"k": 1, "name": "one", "c": 2}]
    await db.execute("UPDATE names SET name = 'ONE'")
    await db.insert("s", [{"k": 1}])
    assert await rows(db, "SELECT * FROM b") == [{"k": 1, "name": "ONE", "c": 3}]
    await db.execute("DELETE FROM names")
    assert await rows(db, "SELECT * FROM b") == []


async def test_views_may_read_plain_views(db: streamq.Database) -> None:
    """What a plain view stands for is kept; the plain view can then neither be dropped nor replaced."""
    await db.execute("CREATE VIEW big AS SELECT n FROM s WHERE n > 5")
    await db.execute("CREATE MATERIALIZED VIEW v AS SELECT count(*) AS c FROM big")
    await db.insert("s", [{"n": 5}, {"n": 6}])
    assert await rows(db, "SELECT c FROM v") == [{"c": 1}]
    with pytest.raises(streamq.BindError, match="'big' is read by v"):
        await db.execute("DROP VIEW big")
    with pytest.raises(streamq.BindError, match="read by the materialized view 'v'"):
        await db.execute("CREATE OR REPLACE VIEW big AS SELECT n FROM s")


# Followed


async def test_following_is_the_rows_then_every_change(db: streamq.Database) -> None:
    """A follower begins with the view as it is, and goes on without a gap; the view's key is the follower's."""
    await db.execute("CREATE MATERIALIZED VIEW v AS SELECT k, count(*) AS c FROM s GROUP BY k")
    await db.insert("s", [{"k": 1}, {"k": 2}])
    async with db.query("SELECT * FROM v EMIT CHANGES") as stream:
        assert (stream.changelog, stream.key) == ("upsert", ("k",))
        folded = await read_until(stream, nothing(stream), [{"k": 1, "c": 1}, {"k": 2, "c": 1}])
        await db.insert("s", [{"k": 2}, {"k": 3}])
        assert sorted((row["_op"], row["k"], row["c"]) for row in await next_rows(stream)) == [("insert", 3, 1), ("update", 2, 2)]
    assert folded.num_rows == 2


async def test_what_is_withdrawn_is_followed(db: streamq.Database) -> None:
    """A row that leaves the view leaves its followers, and views above it."""
    await db.execute("CREATE MATERIALIZED VIEW totals AS SELECT k, sum(n)::BIGINT AS n FROM s GROUP BY k")
    await db.execute("CREATE MATERIALIZED VIEW poor AS SELECT k, n FROM totals WHERE n < 0")
    async with db.query("SELECT * FROM poor EMIT CHANGES") as stream:
        await db.insert("s", [{"k": 1, "n": -1}])
        assert await next_rows(stream) == [{"k": 1, "n": -1, "_op": "insert"}]
        await db.insert("s", [{"k": 1, "n": 5}])
        assert await next_rows(stream) == [{"k": 1, "n": -1, "_op": "delete"}]


async def test_a_follower_ends_with_the_sources_of_the_view(db: streamq.Database) -> None:
    """When all that a view reads has ended, so have the view's query and its followers; the rows stay."""
    await db.execute("CREATE MATERIALIZED VIEW v AS SELECT count(*) AS c FROM s")
    await db.execute("CREATE MATERIALIZED VIEW w AS SELECT c + 1 AS c FROM v")
    async with db.query("SELECT * FROM w EMIT CHANGES") as stream:
        await db.insert("s", [{"n": 1}, {"n": 2}])
        await db.finish("s")
        with anyio.fail_after(PATIENCE_S):
            changes = await stream.read_all()
    assert changes.to_pylist()[-1] == {"c": 3, "_op": "insert"}
    assert await rows(db, "SELECT c FROM w") == [{"c": 3}]
    assert await db.queries() == ()


async def test_twenty_followers_and_one_that_stalls(db: streamq.Database) -> None:
    """A follower that reads nothing delays nobody, and what waits for it is bounded by the view, not by what has happened."""
    await db.execute("CREATE TABLE t (id BIGINT PRIMARY KEY, n BIGINT, text VARCHAR)")
    await db.execute("CREATE MATERIALIZED VIEW v AS SELECT id, n, text FROM t")
    size, width, writes = 50, 40_000, 10

    async def write(n: int) -> None:
        await db.insert("t", pa.table({"id": range(size), "n": [n] * size, "text": [f"{n}" + "x" * width] * size}))

    async def follow(number: int, done: list[int]) -> None:
        async with db.query("SELECT max(n) AS n FROM v EMIT CHANGES", partitions=1) as stream:
            started.append(number)
            with anyio.fail_after(2 * PATIENCE_S):
                while writes not in (await anext(stream))["n"].to_pylist():
                    pass
        done.append(number)

    started: list[int] = []
    done: list[int] = []
    await write(0)
    async with db.query("SELECT * FROM v EMIT CHANGES", partitions=1) as stalled:
        folded = streamq.apply_changes(nothing(stalled), await anext(stalled), key=stalled.key)
        async with anyio.create_task_group() as tasks:
            for number in range(19):
                tasks.start_soon(follow, number, done)
            for n in range(1, writes + 1):
                await write(n)
                await rows(db, "SELECT max(n) FROM v")
                (view,) = [relation for relation in (await db.statistics()).relations if relation.name == "v"]
                # At most what waits before it is summed up, and one more change of the whole view.
                assert view.behind_bytes <= BACKLOG_BYTES + 3 * size * width
        assert (len(started), len(done)) == (19, 19)
        assert [(r.kind, r.followers) for r in (await db.statistics()).relations if r.name == "v"] == [("materialized view", 1)]
        with anyio.fail_after(PATIENCE_S):
            while set(folded["n"].to_pylist()) != {writes}:
                folded = streamq.apply_changes(folded, await anext(stalled), key=stalled.key)
    assert folded.num_rows == size


# Failing


async def test_a_view_whose_query_fails_says_so_until_it_is_dropped(db: streamq.Database) -> None:
    """Every read of it, every follower and every view above get the error, which names it; then it can be created again."""
    await db.execute("CREATE MATERIALIZED VIEW v AS SELECT 10 // n AS x FROM s")
    await db.execute("CREATE MATERIALIZED VIEW w AS SELECT count(*) AS c FROM v")
    async with db.query("SELECT * FROM v EMIT CHANGES") as stream:
        await db.insert("s", [{"n": 0}])
        with pytest.raises(streamq.DataError, match="materialized view v has failed"), anyio.fail_after(PATIENCE_S):
            await stream.read_all()
    for _ in range(2):
        with pytest.raises(streamq.DataError, match="materialized view v has failed"):
            await rows(db, "SELECT * FROM v")
    with pytest.raises(streamq.DataError, match=r"materialized view w has failed.*materialized view v has failed"):
        await rows(db, "SELECT * FROM w")
    with pytest.raises(streamq.DataError, match="materialized view v has failed"):
        async with db.query("SELECT * FROM v EMIT CHANGES") as stream:
            await next_rows(stream)
    await db.execute("DROP MATERIALIZED VIEW v CASCADE")
    await db.execute("CREATE MATERIALIZED VIEW v AS SELECT TRY(10 // n) AS x FROM s")
    assert await rows(db, "SELECT * FROM v") == [{"x": None}]


async def test_a_view_whose_query_is_cancelled_cannot_be_read(db: streamq.Database) -> None:
    """`cancel` ends the query of a view like any other; the view then says so."""
    await db.execute("CREATE MATERIALIZED VIEW v AS SELECT count(*) AS c FROM s")
    (query,) = await db.queries()
    assert query.view == "v"
    assert await db.cancel(query.query_id)
    with pytest.raises(streamq.QueryCancelled, match="materialized view v has failed: query"):
        await db.fetch("SELECT * FROM v")


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT nosuch FROM s", "nosuch"),
        ("SELECT n FROM s ORDER BY n", "ORDER BY"),
        ("SELECT random() AS r FROM s", "random"),
        ("SELECT n AS _op, k FROM s", "_op"),
        ("SELECT n, n FROM s", "called n"),
        ("SELECT count(*) FROM t EMIT FINAL", "EMIT FINAL would never"),
        ("SELECT * FROM v", "v"),
    ],
)
async def test_what_cannot_be_kept_leaves_nothing(db: streamq.Database, sql: str, message: str) -> None:
    """A view that cannot be created is an error of its text, and its name stays free."""
    await db.execute("CREATE TABLE t (id BIGINT PRIMARY KEY)")
    with pytest.raises(streamq.BindError, match=message):
        await db.execute(f"CREATE MATERIALIZED VIEW v AS {sql}")
    assert await db.queries() == ()
    assert [row["name"] for row in await show(db, "SHOW RELATIONS")] == ["s", "t"]
    await db.execute("CREATE MATERIALIZED VIEW v AS SELECT n FROM s")


# Created, shown, dropped


async def test_names_are_taken_once(db: streamq.Database) -> None:
    """IF NOT EXISTS leaves what is there; without it the name is an error."""
    await db.execute("CREATE MATERIALIZED VIEW v AS SELECT n FROM s")
    again = await db.execute("CREATE MATERIALIZED VIEW IF NOT EXISTS V AS SELECT k FROM s")
    assert again.kind == "create materialized view (exists)"
    with pytest.raises(streamq.BindError, match="there is a materialized view named"):
        await db.execute("CREATE MATERIALIZED VIEW v AS SELECT k FROM s")
    with pytest.raises(streamq.BindError, match="'v' is a materialized view, not a view"):
        await db.execute("CREATE OR REPLACE VIEW v AS SELECT k FROM s")
    assert len(await db.queries()) == 1


async def test_a_view_is_created_once(db: streamq.Database) -> None:
    """Of several that create it at once if it does not exist, one does, and the others find it."""
    kinds: list[str] = []

    async def create() -> None:
        kinds.append((await db.execute("CREATE MATERIALIZED VIEW IF NOT EXISTS v AS SELECT n FROM s")).kind)

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(create)
    assert sorted(kinds) == ["create materialized view", *["create materialized view (exists)"] * 2]
    assert len(await db.queries()) == 1


async def test_both_kinds_of_views_are_told_apart(db: streamq.Database) -> None:
    """SHOW, DESCRIBE, the queries and the statistics say which is which."""
    await db.execute("CREATE VIEW plain AS SELECT n FROM s")
    await db.execute("CREATE MATERIALIZED VIEW kept AS SELECT k, count(*) AS c FROM s GROUP BY k")
    await db.insert("s", [{"k": 1}, {"k": 2}])
    await rows(db, "SELECT * FROM kept")
    shown = await show(db, "SHOW VIEWS")
    assert [(row["name"], row["kind"], row["rows"], row["followers"]) for row in shown] == [
        ("plain", "view", None, None),
        ("kept", "materialized view", 2, 0),
    ]
    described = await show(db, "DESCRIBE kept")
    assert [(row["column"], row["key"]) for row in described] == [("k", True), ("c", False)]
    assert [(row["view"], row["kind"]) for row in await show(db, "SHOW QUERIES")] == [("kept", "continuous")]
    states = {relation.name: relation for relation in (await db.statistics()).relations}
    assert (states["s"].followers, states["kept"].kind, states["kept"].rows) == (1, "materialized view", 2)
    assert states["kept"].bytes > 0


@pytest.mark.parametrize(
    ("sql", "message", "hint"),
    [
        ("DROP VIEW v", "'v' is a materialized view, not a view", "use DROP MATERIALIZED VIEW v"),
        ("DROP TABLE v", "'v' is a materialized view, not a table", "use DROP MATERIALIZED VIEW v"),
        ("DROP MATERIALIZED VIEW plain", "'plain' is a view, not a materialized view", "use DROP VIEW plain"),
        ("DROP MATERIALIZED VIEW nosuch", "there is no relation 'nosuch'", None),
        ("INSERT INTO v VALUES (1)", "'v' is a materialized view, which cannot be written to", None),
        ("UPDATE v SET n = 1", "'v' is a materialized view", "only the rows of a table"),
        ("DELETE FROM v", "'v' is a materialized view", "only the rows of a table"),
    ],
)
async def test_a_view_is_neither_written_to_nor_dropped_as_something_else(
    db: streamq.Database, sql: str, message: str, hint: str | None
) -> None:
    """The error says what it is, and what to write."""
    await db.execute("CREATE VIEW plain AS SELECT n FROM s")
    await db.execute("CREATE MATERIALIZED VIEW v AS SELECT n FROM s")
    with pytest.raises(streamq.BindError, match=message) as raised:
        await db.execute(sql)
    assert hint is None or hint in str(raised.value)


async def test_pushing_into_a_view_is_an_error(db: streamq.Database) -> None:
    """Neither rows nor the end can be pushed into it."""
    await db.execute("CREATE MATERIALIZED VIEW v AS SELECT n FROM s")
    with pytest.raises(streamq.SourceError, match="is a materialized view, which cannot be written to"):
        await db.insert("v", [{"n": 1}])
    with pytest.raises(streamq.SourceError, match="is a materialized view"):
        await db.finish("v")
    with pytest.raises(streamq.SourceError, match="is a materialized view"):
        await db.unregister("v")


async def test_dropping_needs_cascade_where_views_depend(db: streamq.Database) -> None:
    """What is read by a view is dropped with it or not at all; with it end the queries that kept the views."""
    await db.execute("CREATE MATERIALIZED VIEW a AS SELECT n FROM s")
    await db.execute("CREATE MATERIALIZED VIEW b AS SELECT n FROM a")
    for sql in ("DROP SOURCE s", "DROP MATERIALIZED VIEW a"):
        with pytest.raises(streamq.BindError, match=r"is read by .*b") as raised:
            await db.execute(sql)
        assert "CASCADE" in str(raised.value)
    assert len(await db.queries()) == 2
    assert (await db.execute("DROP MATERIALIZED VIEW a CASCADE")).kind == "drop materialized view"
    assert await db.queries() == ()
    assert [row["name"] for row in await show(db, "SHOW RELATIONS")] == ["s"]
    assert (await db.execute("DROP MATERIALIZED VIEW IF EXISTS a")).kind == "drop materialized view (did not exist)"
    await db.execute("CREATE MATERIALIZED VIEW a AS SELECT n FROM s")
    await db.execute("DROP SOURCE s CASCADE")
    assert await db.queries() == ()


async def test_followers_of_a_dropped_view_are_told(db: streamq.Database) -> None:
    """They end with an error that says so."""
    await db.execute("CREATE MATERIALIZED VIEW v AS SELECT n FROM s")
    async with db.query("SELECT * FROM v EMIT CHANGES") as stream:
        await db.execute("DROP MATERIALIZED VIEW v")
        with pytest.raises(streamq.SourceError, match="v was dropped while a query"), anyio.fail_after(PATIENCE_S):
            await stream.read_all()


async def test_a_snapshot_goes_on_without_the_view(db: streamq.Database) -> None:
    """What a query has taken its cut of stays readable."""
    await db.insert("s", pa.table({"n": range(1000)}))
    await db.execute("CREATE MATERIALIZED VIEW v AS SELECT n FROM s")
    async with db.query("SELECT n FROM v", batch_rows=10) as stream:
        await db.execute("DROP MATERIALIZED VIEW v")
        assert (await stream.read_all()).num_rows == 1000
