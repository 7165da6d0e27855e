"""One suite for a database in this program and one behind a service: the same answers, the same errors."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import anyio
import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pytest

import streamq
from streamq.server import app
from tests.conftest import BACKENDS, Residue
from tests.service.conftest import PATIENCE_S, serving, wait_until_idle

pytestmark = pytest.mark.anyio
ROWS = 100_000
START = datetime(2026, 5, 1, 12)


EMBEDDED, REMOTE = "embedded", "remote"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give each fact both places, each on one of the two event loops, the next fact the other way round."""
    facts = [name for name in vars(metafunc.module) if name.startswith("test_")]
    places = (EMBEDDED, REMOTE) if facts.index(metafunc.function.__name__) % 2 else (REMOTE, EMBEDDED)
    # Loops in one order always: tests of the same one come together.
    loops = [BACKENDS[0], BACKENDS[-1]]
    cases = [pytest.param(*loop.values, place, id=f"{loop.id}-{place}") for loop, place in zip(loops, places, strict=True)]
    metafunc.parametrize(("anyio_backend", "place"), cases, indirect=["anyio_backend"], scope="module")


@pytest.fixture(scope="module")
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """The event loop of a fact."""
    backend: tuple[str, dict[str, Any]] = request.param
    return backend


@pytest.fixture(scope="module")
def nothing_left(anyio_backend: object) -> Iterator[None]:
    """Check that all tests of an event loop together leave nothing, once it has ended."""
    before = Residue.now()
    yield
    left = Residue.now().since(before)
    assert not left, f"left behind: {left}"


@pytest.fixture(scope="module")
async def places(anyio_backend: object, nothing_left: None) -> AsyncIterator[dict[str, streamq.Database]]:
    """One database, as it is and through its service."""
    async with streamq.connect(executor="thread", workers=2, target_partitions=2) as home:
        await home.register("numbers", pa.table({"n": range(ROWS), "half": [n // 2 for n in range(ROWS)]}))
        async with serving(app(home)) as address, streamq.connect(address) as remote:
            yield {EMBEDDED: home, REMOTE: remote}


@pytest.fixture
async def home(places: dict[str, streamq.Database]) -> AsyncIterator[streamq.Database]:
    """The database itself. After a test no query of it runs, and it has nothing but its numbers again."""
    database = places[EMBEDDED]
    yield database
    await wait_until_idle(database)
    for relation in await database.relations():
        if relation.kind == "registered" and relation.name != "numbers":
            await database.unregister(relation.name)
        elif relation.kind != "registered":
            await database.execute(f"DROP {relation.kind} {relation.name}")


@pytest.fixture
async def db(places: dict[str, streamq.Database], place: str, home: streamq.Database) -> streamq.Database:
    """The database in the place that a test is about."""
    return places[place]


# Answers


async def test_every_row_once(db: streamq.Database, home: streamq.Database) -> None:
    """Batches have the announced schema and size; at the end nothing of the query is left."""
    async with db.query("SELECT n FROM numbers", batch_rows=10_000) as stream:
        assert stream.schema == pa.schema([("n", pa.int64())])
        assert (stream.changelog, stream.key) == ("append", None)
        seen: list[int] = []
        async for batch in stream:
            assert 0 < batch.num_rows <= 10_000
            assert batch.schema == stream.schema
            assert stream.progress.positions == {"numbers": ROWS}
            seen += batch.column("n").to_pylist()
        assert stream.progress.epoch_complete
    assert sorted(seen) == list(range(ROWS))
    assert (await stream.statistics()).outcome == "completed"
    assert await home.queries() == ()


PARAMETERS: list[tuple[str, Any, object]] = [
    ("SELECT ? + 1 AS a", [41], 42),
    ("SELECT $x AS a", {"x": "text"}, "text"),
    ("SELECT $x AS a", {"x": START}, START),
    ("SELECT ? AS a", [START.replace(tzinfo=UTC)], START.replace(tzinfo=UTC)),
    ("SELECT ? AS a", [date(2026, 5, 1)], date(2026, 5, 1)),
    ("SELECT ? AS a", [Decimal("1.50")], Decimal("1.50")),
    ("SELECT ? AS a", [b"\x00\xff"], b"\x00\xff"),
    ("SELECT ? AS a", [float("inf")], float("inf")),
    ("SELECT ? AS a", [np.array([1, 2])], [1, 2]),
    ("SELECT ?::VARCHAR AS a", [2**100], str(2**100)),
    ("SELECT NULL AS a", None, None),
]


async def test_parameters(db: streamq.Database, home: streamq.Database) -> None:
    """Values of every type arrive as they are."""
    for sql, params, answer in PARAMETERS:
        table = await db.fetch(sql, params)
        assert table == await home.fetch(sql, params)
        assert table.column("a").to_pylist() == [answer]


WRONG_PARAMETERS: list[tuple[str, Any, bool]] = [
    ("SELECT ? AS a", "x", True),
    ("SELECT ? AS a", b"x", True),
    ("SELECT ? AS a", 5, True),
    ("SELECT ? AS a", {5}, True),
    ("SELECT ? AS a", [np.int64(5)], True),
    ("SELECT ? AS a", [object()], True),
    ("SELECT ? AS a", [{1, 2}], True),
    ("SELECT $a AS a", {1: 5}, True),
    ("SELECT $a AS a", {1: b"x"}, True),
    ("SELECT $1 AS a", {1: 5}, True),
    ("SELECT '\ud800' AS a", None, True),
    ("SELECT ? AS a", ["\ud800"], False),
    ("SELECT $a AS a", {"a": 1, "\ud800": 1}, False),
    ("SELECT ? AS a", [10**5000], False),
]
"""The last say whether the text of the error is the same too."""


async def test_wrong_parameters(db: streamq.Database, home: streamq.Database) -> None:
    """What is no value is an error in the SQL, never one of what carries it."""
    for sql, params, same in WRONG_PARAMETERS:
        errors = []
        for database in (home, db):
            with pytest.raises(streamq.SqlError) as caught:
                await database.fetch(sql, params)
            errors.append(caught.value)
        assert type(errors[0]) is type(errors[1])
        assert not same or str(errors[0]) == str(errors[1])


async def test_types(db: streamq.Database) -> None:
    """What a column is does not depend on where the reader is."""
    sql = """SELECT {'a': 1, 'b': ['x']} AS s, MAP {'k': 1.5} AS m, 'a'::ENUM('a', 'b') AS e, 1::HUGEINT AS h, INTERVAL '1' DAY AS i,
             uuid '00000000-0000-0000-0000-000000000001' AS u, TIMESTAMPTZ '2026-05-01 12:00:00+00' AS t"""
    table = await db.fetch(sql)
    assert table.num_rows == 1
    assert table.column("s").to_pylist() == [{"a": 1, "b": ["x"]}]
    assert table.column("e").to_pylist() == ["a"]
    async with db.query(sql) as stream:
        assert stream.schema == table.schema


async def test_a_detached_stream(db: streamq.Database, home: streamq.Database) -> None:
    """Nothing runs before the first read; dropping the last reference ends the query."""
    stream = db.query("SELECT * FROM numbers")
    assert await home.queries() == ()
    with pytest.raises(streamq.StreamNotStarted):
        _ = stream.schema
    await anext(stream)
    del stream
    gc.collect()
    await wait_until_idle(home)


async def test_rows_and_the_end(db: streamq.Database) -> None:
    """Rows are dicts; a stream at its end stays there."""
    stream = db.query("SELECT n FROM numbers ORDER BY n LIMIT 3")
    assert [row async for row in stream.rows()] == [{"n": 0}, {"n": 1}, {"n": 2}]
    assert (await stream.read_all()).num_rows == 0


async def test_explain_and_show(db: streamq.Database) -> None:
    """Tables and texts come through."""
    assert "numbers" in await db.explain("SELECT * FROM numbers")
    assert "rows" in await db.explain("SELECT count(*) FROM numbers", analyze=True)
    shown = await db.execute("SHOW RELATIONS")
    assert shown.table is not None
    assert shown.table.column("name").to_pylist() == ["numbers"]
    assert [(relation.name, relation.kind) for relation in await db.relations()] == [("numbers", "registered")]


# Errors


@pytest.mark.parametrize(
    ("sql", "kind", "line", "column"),
    [
        ("SELECT\n  nope FROM numbers", streamq.BindError, 2, 3),
        ("SELEC 1", streamq.SqlSyntaxError, 1, 1),
        ("SELECT * FROM nowhere", streamq.BindError, 1, 15),
        ("SELECT n FROM numbers ORDER BY n EMIT CHANGES", streamq.BindError, None, None),
    ],
)
async def test_sql_errors(
    db: streamq.Database, home: streamq.Database, sql: str, kind: type[Exception], line: object, column: object
) -> None:
    """They have the class, the text, the place and the hint that they have in this program."""
    with pytest.raises(kind) as here:
        await home.query(sql).start()
    with pytest.raises(kind) as there:
        await db.query(sql).start()
    assert str(there.value) == str(here.value)
    assert vars(there.value) == vars(here.value)
    assert isinstance(there.value, streamq.SqlError)
    if line is not None:
        assert (there.value.line, there.value.column) == (line, column)


async def test_an_error_in_the_middle(db: streamq.Database, home: streamq.Database) -> None:
    """A failure on a late row reaches the reader as itself."""
    with pytest.raises(streamq.DataError, match="zero"):
        await db.fetch("SELECT 1 // (n - 99999) AS x FROM numbers")
    assert await home.queries() == ()


async def test_fetch_refuses_what_has_no_end(db: streamq.Database) -> None:
    """As `snapshot` does."""
    await db.execute("CREATE SOURCE events (n BIGINT)")
    with pytest.raises(streamq.UnsupportedError, match="no one answer"):
        await db.fetch("SELECT n FROM events EMIT CHANGES")


async def test_a_timeout(db: streamq.Database) -> None:
    """It is the reader's error."""
    await db.execute("CREATE SOURCE events (n BIGINT)")
    with pytest.raises(streamq.QueryTimeout):
        await db.query("SELECT n FROM events EMIT CHANGES", timeout=0.3).read_all()


async def test_wrong_options(db: streamq.Database) -> None:
    """They are refused before anything is asked."""
    for options in ({"batch_rows": 0}, {"timeout": 0}, {"epoch_rows": 0}):
        with pytest.raises(ValueError, match="must be"):
            db.query("SELECT 1", **options)  # type: ignore[arg-type]


OUTSIDE = ["SELECT * FROM read_csv('/etc/passwd')", "SELECT * FROM '/etc/passwd'", "SELECT getenv('HOME')", "SELECT * FROM glob('/*')"]
STATEMENTS = ["COPY numbers TO '/tmp/x'", "ATTACH '/tmp/x'", "INSTALL httpfs", "LOAD httpfs", "SET threads = 1"]


async def test_only_relations_can_be_named(db: streamq.Database) -> None:
    """Files, the environment and the settings of the service are none."""
    for sql in OUTSIDE:
        with pytest.raises(streamq.SqlError):
            await db.fetch(sql)
    for sql in STATEMENTS:
        with pytest.raises(streamq.SqlError):
            await db.execute(sql)


# Inserts


async def rows_in_steps(*steps: Any) -> AsyncIterator[Any]:
    for step in steps:
        if isinstance(step, Exception):
            raise step
        yield step


ROWS_OF_ALL_FORMS: list[tuple[Callable[[], object], int]] = [
    (lambda: {"n": 1}, 1),
    (lambda: [{"n": 1, "at": START}, {"at": "2026-05-01T12:00:00"}], 2),
    (lambda: {"n": [1, 2, 3]}, 3),
    (lambda: pa.table({"n": [1, 2]}), 2),
    (lambda: pa.table({"n": pa.chunked_array([[1], [2, 3]], pa.int16())}), 3),
    (lambda: pa.record_batch({"at": pa.array([START])}), 1),
    (lambda: pa.table({"n": pa.array([], pa.int64())}), 0),
    (lambda: [], 0),
    (lambda: rows_in_steps({"n": 1}, pa.table({"n": [2, 3]}), [{"at": START}]), 4),
    (lambda: rows_in_steps(), 0),
]


async def test_insert(db: streamq.Database, home: streamq.Database) -> None:
    """Rows of any form go in, and are counted."""
    for number, (make, count) in enumerate(ROWS_OF_ALL_FORMS):
        await db.execute(f"CREATE SOURCE events{number} (n BIGINT, at TIMESTAMP)")
        result = await db.insert(f"events{number}", make())
        assert (result.rows, result.first_offset, result.last_offset) == (count, 0, count - 1)
        assert (await db.fetch(f"SELECT count(*) AS c FROM events{number}")).to_pylist() == [{"c": count}]
    assert await db.insert("events0", rows_in_steps()) == await home.insert("events0", rows_in_steps())


WRONG_ROWS: list[tuple[str, Callable[[], object]]] = [
    ("events", lambda: [{"n": 1}, {"n": "x"}]),
    ("events", lambda: pa.table({"n": ["x"]})),
    ("events", lambda: {"m": 1}),
    ("events", lambda: pa.table({"m": [1]})),
    ("events", lambda: 7),
    ("numbers", lambda: {"n": 1}),
    ("events", lambda: [None, {"n": 1}]),
    ("nowhere", lambda: {"n": 1}),
    (".", lambda: pa.table({"n": [1]})),
    ("..", lambda: pa.table({"n": [1]})),
    ("nowhere", lambda: pa.table({"n": [1]})),
    ("events", lambda: rows_in_steps({"n": 1}, [{"n": 2}, {"n": 3}], {"n": "x"}, {"n": 5})),
    ("events", lambda: rows_in_steps({"n": 1}, pa.table({"m": [1]}))),
]


async def test_insert_errors(db: streamq.Database, home: streamq.Database) -> None:
    """They have the same text, and say of an async iterable how many rows went in."""
    await db.execute("CREATE SOURCE events (n BIGINT, at TIMESTAMP)")

    async def written() -> int:
        return int((await home.fetch("SELECT count(*) AS c FROM events")).column("c")[0].as_py())

    for relation, make in WRONG_ROWS:
        counts = [await written()]
        messages = []
        for database in (home, db):
            with pytest.raises(streamq.SourceError) as caught:
                await database.insert(relation, make())
            messages.append(str(caught.value))
            counts.append(await written())
        assert messages[0] == messages[1]
        assert counts[1] - counts[0] == counts[2] - counts[1]


async def test_the_error_of_an_iterable_passes(db: streamq.Database) -> None:
    """It is the user's own; what came before it went in."""
    await db.execute("CREATE SOURCE events (n BIGINT)")
    with pytest.raises(KeyError, match="mine"):
        await db.insert("events", rows_in_steps({"n": 1}, KeyError("mine")))


async def test_tables(db: streamq.Database) -> None:
    """Upserts, updates and deletes."""
    await db.execute("CREATE TABLE users (id BIGINT, name VARCHAR, PRIMARY KEY (id))")
    await db.insert("users", [{"id": 1, "name": "Ada"}, {"id": 2, "name": "Grace"}])
    assert (await db.execute("UPDATE users SET name = $name WHERE id = $id", {"id": 1, "name": "Lovelace"})).rows == 1
    assert (await db.execute("DELETE FROM users WHERE id = ?", [2])).rows == 1
    assert (await db.fetch("FROM users")).to_pylist() == [{"id": 1, "name": "Lovelace"}]


async def test_register(db: streamq.Database) -> None:
    """Objects with Arrow data and datasets get names, and lose them."""
    await db.register("words", pa.table({"w": ["a", "b"]}))
    await db.register("more words", pyarrow.dataset.dataset(pa.table({"w": ["c"]})))
    assert (await db.fetch('SELECT count(*) AS c FROM (FROM words UNION ALL FROM "more words")')).to_pylist() == [{"c": 3}]
    with pytest.raises(streamq.BindError, match="already"):
        await db.register("words", pa.table({"w": [1]}))
    with pytest.raises(streamq.SourceError, match="has no Arrow data"):
        await db.register("seven", 7)
    await db.unregister("words")
    with pytest.raises(streamq.SourceError, match="words"):
        await db.unregister("words")
    for name in ("", ".", "..", "a/b"):
        assert not await db.cancel(name)
        with pytest.raises(streamq.SourceError, match="there is no relation"):
            await db.finish(name)


# Continuous queries


async def test_a_changelog_is_the_same(db: streamq.Database, home: streamq.Database) -> None:
    """Every batch, its watermark and position are what the engine gives."""
    await home.execute("CREATE SOURCE events (k VARCHAR, n BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)")
    sql = "SELECT k, count(*) AS c, sum(n) AS s FROM events GROUP BY k EMIT CHANGES"
    async with home.query(sql) as here, db.query(sql) as there:
        assert (there.schema, there.key, there.changelog) == (here.schema, ("k",), "upsert")
        for step in range(5):
            await db.insert(
                "events", [{"k": "abc"[n % 3], "n": n, "ts": START + timedelta(seconds=n)} for n in range(step * 7)] or [{"k": "z"}]
            )
            expected, batch = await anext(here), await anext(there)
            assert batch.to_pylist() == expected.to_pylist()
            # Two queries may number their epochs differently: one may have begun before the first rows.
            assert replace(there.progress, epoch=0) == replace(here.progress, epoch=0)
        await db.finish("events")
        assert await there.read_all() == await here.read_all()


async def test_emit_final(db: streamq.Database) -> None:
    """Closed windows come as append batches, and the query ends with its source."""
    await db.execute("CREATE SOURCE events (n BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts)")
    async with db.query(
        "SELECT window_start, count(*) AS c FROM TUMBLE(events, ts, INTERVAL '1' HOUR) GROUP BY window_start EMIT FINAL"
    ) as stream:
        await db.insert("events", {"n": [1, 2, 3], "ts": [START, START, START + timedelta(hours=2)]})
        assert (await anext(stream)).to_pylist() == [{"window_start": START, "c": 2}]
        await db.finish("events")
        assert (await stream.read_all()).to_pylist() == [{"window_start": START + timedelta(hours=2), "c": 1}]
        assert stream.changelog == "append"


async def test_epochs_without_changes(db: streamq.Database) -> None:
    """With `progress` they give a batch without rows."""
    await db.execute("CREATE SOURCE events (n BIGINT)")
    async with db.query("SELECT n FROM events WHERE n > 5 EMIT CHANGES", progress=True, epoch_rows=1) as stream:
        await db.insert("events", {"n": [1, 9]})
        sizes = [(await anext(stream)).num_rows]
        while not sizes[-1]:
            sizes.append((await anext(stream)).num_rows)
        assert sizes[0] == 0
        assert stream.progress.positions == {"events": 2}


async def test_an_error_comes_behind_the_epochs_before(db: streamq.Database, home: streamq.Database) -> None:
    """A reader that comes when the query has failed gets all that complete epochs changed, then the error."""
    await db.execute("CREATE SOURCE events (n BIGINT)")
    await db.insert("events", {"n": [-2, -1, 0, 1]})
    async with db.query("SELECT n, 6 // n AS x FROM events EMIT CHANGES", epoch_rows=1) as stream:
        await wait_until_idle(home)
        seen: list[int] = []
        with pytest.raises(streamq.DataError, match="epoch 3: events row 2"):
            async for batch in stream:
                seen += batch.column("n").to_pylist()
                assert stream.progress.positions == {"events": len(seen)}
        assert seen == [-2, -1]
        assert (await stream.statistics()).outcome == "failed"


# Letting go


async def test_leaving_the_block(db: streamq.Database, home: streamq.Database) -> None:
    """After `break` nothing of the query is left, and the stream is closed."""
    async with db.query("SELECT * FROM numbers", batch_rows=1_000) as stream:
        async for _ in stream:
            break
    assert await home.queries() == ()
    assert (await stream.statistics()).outcome == "cancelled"
    with pytest.raises(streamq.StreamClosed):
        await anext(stream)


async def test_cancelled_by_another(db: streamq.Database, home: streamq.Database) -> None:
    """The reader gets QueryCancelled; a query that does not run cannot be cancelled."""
    await db.execute("CREATE SOURCE events (n BIGINT)")
    async with db.query("SELECT n FROM events EMIT CHANGES") as stream:
        assert [query.query_id for query in await db.queries()] == [stream.query_id]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(db.cancel, stream.query_id)
            with pytest.raises(streamq.QueryCancelled), anyio.fail_after(PATIENCE_S):
                await anext(stream)
    assert await home.queries() == ()
    assert not await db.cancel("q0")


async def test_a_cancelled_read_loses_nothing(db: streamq.Database) -> None:
    """A reader that is cancelled may go on."""
    await db.execute("CREATE SOURCE events (n BIGINT)")
    async with db.query("SELECT n FROM events EMIT CHANGES") as stream:
        with anyio.move_on_after(0.01):
            await anext(stream)
        await db.insert("events", {"n": 1})
        with anyio.fail_after(PATIENCE_S):
            assert (await anext(stream)).num_rows == 1


async def test_two_readers(db: streamq.Database) -> None:
    """The second one is refused."""
    await db.execute("CREATE SOURCE events (n BIGINT)")
    async with db.query("SELECT n FROM events EMIT CHANGES") as stream, anyio.create_task_group() as tasks:

        async def read() -> None:
            await anext(stream)

        tasks.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        with pytest.raises(streamq.StreamBusy):
            await anext(stream)
        tasks.cancel_scope.cancel()


async def test_statistics(db: streamq.Database, home: streamq.Database) -> None:
    """They are the database's, and a running query has its own."""
    await db.execute("CREATE SOURCE events (n BIGINT)")
    async with db.query("SELECT count(*) AS c FROM events EMIT CHANGES") as stream:
        await anext(stream)
        statistics = await stream.statistics()
        assert (statistics.query_id, statistics.kind, statistics.outcome) == (stream.query_id, "continuous", "running")
        assert statistics.continuous is not None
    assert await db.statistics() == await home.statistics()
