"""What the service bounds: requests, queries, results, time, stalled clients; what SQL reaches; what a shutdown ends."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import anyio.abc
import httpx
import pyarrow as pa
import pytest

import streamq
from streamq.config.tokens import Caller, Token, Tokens, make_token
from streamq.server import Limits, app, listen, serve
from streamq.wire import arrow
from streamq.wire.arrow import ArrowEncoder
from tests.service.conftest import PATIENCE_S, serving, wait_until_idle
from tests.waiting import pause

pytestmark = pytest.mark.anyio
on_one_loop = pytest.mark.parametrize("anyio_backend", [pytest.param(("asyncio", {"debug": False}), id="asyncio")])
"""For what does not depend on the event loop."""
WIDE = "SELECT a.n, b.n AS m FROM numbers a, numbers b"
"""A million million rows: nobody reads them all."""


@pytest.fixture
async def numbers(home: streamq.Database) -> None:
    await home.register("numbers", pa.table({"n": pa.arange(0, 1_000_000)}))


@asynccontextmanager
async def limited(home: streamq.Database, tokens: Tokens | None = None, **limits: Any) -> AsyncIterator[tuple[str, httpx.AsyncClient]]:
    """Serve `home` with limits; gives the address and a client."""
    async with (
        serving(app(home, limits=Limits(**limits), tokens=tokens)) as url,
        httpx.AsyncClient(base_url=url, timeout=PATIENCE_S, trust_env=False) as http,
    ):
        yield url, http


async def connected(url: str, sql: str, **options: Any) -> anyio.abc.SocketStream:
    """Ask a query on a socket that takes little at a time."""
    host, port = url.removeprefix("http://").split(":")
    body = json.dumps({"sql": sql, **options}).encode()
    head = f"POST /v1/query HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    stream = await anyio.connect_tcp(host, int(port))
    stream.extra(anyio.abc.SocketAttribute.raw_socket).setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    await stream.send(head.encode() + body)
    return stream


# Sizes and numbers


@on_one_loop
async def test_sizes(home: streamq.Database) -> None:
    """A request, a line, an upload that is too large is 413, and what the client gets is ResourceLimit."""
    await home.execute("CREATE SOURCE events (n BIGINT)")
    async with limited(home, max_request_bytes=1_000, max_insert_bytes=1_000, max_register_bytes=1_000) as (url, http):
        line = b'{"n": ' + b" " * 2_000_000 + b"1}"
        answers = [
            await http.post("/v1/query", json={"sql": "SELECT 1 -- " + "x" * 2_000}),
            await http.post("/v1/relations/events/rows", content=line, headers={"content-type": "application/x-ndjson"}),
        ]
        assert [(answer.status_code, answer.json()["class"]) for answer in answers] == [(413, "ResourceLimit")] * 2
        async with streamq.connect(url) as db:
            for call in (db.insert("events", pa.table({"n": range(1_000)})), db.register("more", pa.table({"n": range(1_000)}))):
                with pytest.raises(streamq.ResourceLimit, match=r"larger than the 1,000 bytes that this service takes") as limit:
                    await call
                assert not limit.value.retryable


@on_one_loop
async def test_uploads_at_a_time(home: streamq.Database) -> None:
    """Who would have more of them in memory than there may be is told to come again; the room is there again when the others have gone."""
    await home.execute("CREATE SOURCE events (n BIGINT)")
    encoder = arrow.ArrowEncoder(pa.schema([("n", pa.int64())]))
    body = encoder.encode(pa.record_batch({"n": range(1_000)})) + encoder.end()
    begun, go_on = anyio.Event(), anyio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        yield body[:8_000]
        begun.set()
        await go_on.wait()
        yield body[8_000:]

    async with limited(home, max_insert_bytes=9_000, max_register_bytes=9_000, max_upload_bytes=9_000) as (_, http):
        rows = partial(http.post, "/v1/relations/events/rows", headers={"content-type": arrow.CONTENT_TYPE})
        post = partial(rows, params={"whole": "true"})

        async def first() -> None:
            # Batch by batch, of which one is in memory until the rest of it comes.
            assert (await rows(content=slowly())).status_code == 200

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(first)
            await begun.wait()
            with anyio.fail_after(PATIENCE_S):
                while (answer := await post(content=body)).status_code == 200:
                    await pause()
            assert (answer.status_code, answer.json()["class"], answer.json()["retryable"]) == (429, "ResourceLimit", True)
            go_on.set()
        assert (await post(content=body)).status_code == 200


@on_one_loop
async def test_queries_at_a_time(home: streamq.Database) -> None:
    """More than the service, or one token, may have at a time are told to come again, which clients can tell from the error."""
    await home.execute("CREATE SOURCE events (n BIGINT)")
    (a, line_a), (b, line_b) = make_token("a", "read"), make_token("b", "read")
    tokens = Tokens(Token(Caller(line[0], "read"), bytes.fromhex(line[-64:])) for line in (line_a, line_b))
    async with (
        limited(home, tokens, max_queries=2, max_queries_per_token=1) as (url, http),
        streamq.connect(url, token=a) as one,
        streamq.connect(url, token=b) as other,
    ):
        follow = "SELECT n FROM events EMIT CHANGES"
        async with one.query(follow):
            with pytest.raises(streamq.ResourceLimit, match="max_queries_per_token") as limit:
                await one.fetch("SELECT 1")
            assert limit.value.retryable
            assert (await other.fetch("SELECT 1 AS n")).num_rows == 1
            async with other.query(follow):
                answer = await http.post("/v1/query", json={"sql": "SELECT 1"}, headers={"authorization": f"Bearer {a}"})
                assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
                assert "(max_queries)" in answer.json()["message"]
        assert (await one.fetch("SELECT 1 AS n")).num_rows == 1


@on_one_loop
@pytest.mark.usefixtures("numbers")
@pytest.mark.parametrize(
    ("path", "sql"),
    [
        ("/v1/execute", f"INSERT INTO events SELECT n FROM ({WIDE})"),
        ("/v1/execute", f"EXPLAIN ANALYZE {WIDE}"),
        ("/v1/explain", WIDE),
        ("/v1/explain", f"{WIDE} WHERE a.n < 0 EMIT CHANGES"),
    ],
)
async def test_queries_that_statements_run(home: streamq.Database, caplog: pytest.LogCaptureFixture, path: str, sql: str) -> None:
    """They count, are seen, named in the log, and can be cancelled as others; a cancelled one has done nothing."""
    caplog.set_level("INFO", "streamq.server")
    await home.execute("CREATE SOURCE events (n BIGINT)")
    (mine, my_line), (other, other_line) = make_token("mine", "write"), make_token("other", "write")
    tokens = Tokens(Token(Caller(line[:5].rstrip(":"), "write"), bytes.fromhex(line[-64:])) for line in (my_line, other_line))
    cancelled: list[httpx.Response] = []
    async with (
        limited(home, tokens, max_queries=1) as (url, http),
        streamq.connect(url, token=mine) as db,
        streamq.connect(url, token=other) as stranger,
    ):

        async def ask() -> None:
            analyze = {"analyze": True} if path == "/v1/explain" else {}
            cancelled.append(await http.post(path, json={"sql": sql, **analyze}, headers={"authorization": f"Bearer {mine}"}))

        with anyio.fail_after(PATIENCE_S):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask)
                while not (running := await db.queries()):
                    await pause()
                assert await stranger.queries() == ()
                insert = stranger.execute("INSERT INTO events SELECT 1")
                for refused in (db.fetch("SELECT 1"), insert, db.explain("SELECT 1", analyze=True)):
                    with pytest.raises(streamq.ResourceLimit, match="max_queries") as limit:
                        await refused
                    assert limit.value.retryable
                assert not await stranger.cancel(running[0].query_id)
                assert await db.cancel(running[0].query_id)
        assert [(answer.status_code, answer.json()["class"]) for answer in cancelled] == [(409, "QueryCancelled")]
        assert ("request", running[0].query_id) in {(getattr(one, "event", 0), getattr(one, "query_id", 0)) for one in caplog.records}
        assert (await db.execute("INSERT INTO events SELECT 1")).rows == 1
    assert (await home.fetch("SELECT n FROM events")).to_pylist() == [{"n": 1}]


@pytest.mark.usefixtures("numbers")
async def test_results_and_time(home: streamq.Database) -> None:
    """Snapshot queries, statements and EXPLAIN ANALYZE end where they give or take too much; continuous queries may go on for ever."""
    await home.execute("CREATE SOURCE events (n BIGINT)")
    # What the first continuous query imports takes long where others compute.
    async with home.query("SELECT n FROM events EMIT CHANGES"):
        pass
    async with limited(home, max_result_bytes=200_000, max_query_s=0.5) as (url, http), streamq.connect(url) as db:
        async with db.query("SELECT n FROM events EMIT CHANGES", batch_rows=1_000) as follower:
            assert (await db.fetch("SELECT n FROM numbers LIMIT 1000")).num_rows == 1_000
            with pytest.raises(streamq.ResourceLimit, match="max_result_bytes"):
                await db.fetch("SELECT n FROM numbers")

            async def is_ended(call: Awaitable[object]) -> None:
                with pytest.raises(streamq.QueryTimeout, match=r"0.5 s that this service allows"):
                    await call

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(is_ended, db.fetch(f"SELECT count(*) AS c FROM ({WIDE})"))
                tasks.start_soon(is_ended, db.execute(f"INSERT INTO events SELECT n FROM ({WIDE})"))
                tasks.start_soon(is_ended, db.explain(f"SELECT count(*) AS c FROM ({WIDE})", analyze=True))
                answer = await http.post("/v1/execute", json={"sql": f"EXPLAIN ANALYZE SELECT count(*) AS c FROM ({WIDE})"})
            assert (answer.status_code, answer.json()["class"]) == (504, "QueryTimeout")
            await db.insert("events", pa.table({"n": pa.arange(0, 100_000)}))
            read = 0
            while read < 100_000:
                read += (await anext(follower)).num_rows
        await wait_until_idle(home)


@on_one_loop
async def test_state(anyio_backend: object) -> None:
    """A bound of the database holds for every continuous query, whatever its text asks for."""
    async with (
        streamq.connect(executor="thread", workers=1, max_state_bytes=10_000) as home,
        limited(home) as (url, _),
        streamq.connect(url) as db,
    ):
        await db.execute("CREATE SOURCE events (n BIGINT)")
        await db.insert("events", pa.table({"n": pa.arange(0, 10_000)}))
        with pytest.raises(streamq.ResourceLimit, match=r"max_state_bytes allows \(10,000\)"):
            async with db.query("SELECT n, count(*) AS c FROM events GROUP BY n EMIT CHANGES WITH (max_state_bytes = 999999999)") as stream:
                await anext(stream)


# Clients that are slow to take or to send


@pytest.mark.usefixtures("numbers")
async def test_a_client_that_takes_nothing(home: streamq.Database) -> None:
    """After `stall_s` nothing of its query is left, though its connection is, on systems that do not end that by themselves."""
    service = app(home, limits=Limits(stall_s=0.2))
    async with anyio.create_task_group() as tasks:
        url = await tasks.start(partial(serve, service, listen("127.0.0.1", 0, stall_timeout_s=3_600), grace_s=0.2))
        async with await connected(url, WIDE):
            with anyio.fail_after(PATIENCE_S):
                while not await home.queries():
                    await pause()
            await wait_until_idle(home)
            async with streamq.connect(url) as db:
                assert (await db.fetch("SELECT 42 AS answer")).to_pylist() == [{"answer": 42}]
        tasks.cancel_scope.cancel()


ROWS = pa.record_batch({"n": [1, 2]})
ENCODER = ArrowEncoder(ROWS.schema)
WHOLE_BATCH = ENCODER.encode(ROWS)
INSERT = "/v1/relations/events/rows"
STALLED = [
    ("/v1/query", "application/json", b'{"sql"', 0),
    (INSERT, arrow.CONTENT_TYPE, WHOLE_BATCH[:-8], 0),
    (INSERT, arrow.CONTENT_TYPE, WHOLE_BATCH + ENCODER.end(), 2),
    (f"{INSERT}?whole=true", arrow.CONTENT_TYPE, b"", 0),
    (INSERT, "application/x-ndjson", b'{"n": 1}\n{"n', 0),
    (INSERT, "text/csv", b"n\n1", 0),
]


@pytest.mark.by_turns
@pytest.mark.parametrize(("path", "kind", "begun", "inserted"), STALLED)
async def test_a_client_that_stops_in_the_middle(home: streamq.Database, path: str, kind: str, begun: bytes, inserted: int) -> None:
    """What was begun and does not go on is given up: a request in JSON, a batch, a line, and the end of a body behind that of its rows."""
    await home.execute("CREATE SOURCE events (n BIGINT)")
    async with limited(home, stall_s=0.2) as (url, _):
        host, port = url.removeprefix("http://").split(":")
        async with await anyio.connect_tcp(host, int(port)) as stream:
            head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: 9999\r\n\r\n"
            await stream.send(head.encode() + begun)
            with anyio.fail_after(PATIENCE_S):
                assert (await stream.receive()).startswith(b"HTTP/1.1 408")
    assert (await home.fetch("SELECT n FROM events")).num_rows == inserted


async def test_a_client_that_pauses_between_batches(home: streamq.Database) -> None:
    """Who sends rows as they come is waited for, however long the next ones take."""
    await home.execute("CREATE SOURCE events (n BIGINT)")
    async with limited(home, stall_s=0.2) as (url, _), streamq.connect(url) as db:

        async def batches() -> AsyncIterator[pa.RecordBatch]:
            yield ROWS
            await anyio.sleep(0.4)
            yield ROWS

        await db.insert("events", batches())
    assert (await home.fetch("SELECT n FROM events")).num_rows == 4


async def test_a_quiet_follower_hears_that_all_is_well(home: streamq.Database) -> None:
    """Comments keep a server-sent stream alive, between events and never in one, and no row is lost to them."""
    await home.execute("CREATE SOURCE events (n BIGINT)")
    async with limited(home, keep_alive_s=0.02) as (_, http):
        ask = {"json": {"sql": "SELECT n FROM events EMIT CHANGES"}, "headers": {"accept": "text/event-stream"}}
        async with http.stream("POST", "/v1/query", **ask) as response:
            text, comments, inserted = "", 0, 0
            with anyio.fail_after(PATIENCE_S):
                async for piece in response.aiter_text():
                    text += piece
                    if text.count(":\n\n") > comments and inserted < 5:
                        comments = text.count(":\n\n")
                        await home.insert("events", [{"n": inserted}])
                        inserted += 1
                    if inserted == 5:
                        inserted += 1
                        await home.finish("events")
    events = [event for event in text.split("\n\n") if event and event != ":"]
    assert [event.partition("\n")[0] for event in (events[0], events[-1])] == ["event: query", "event: end"]
    rows = [row["n"] for event in events[1:-1] for row in json.loads(event.partition("data: ")[2])["rows"]]
    assert rows == [0, 1, 2, 3, 4]
    assert comments >= 5


# What SQL reaches

CLOSED = """\
SELECT * FROM read_csv('{file}')
SELECT * FROM read_text('{file}')
SELECT * FROM read_blob('{file}')
SELECT * FROM read_json('{file}')
SELECT * FROM read_parquet('{file}')
SELECT * FROM parquet_scan('{file}')
SELECT * FROM parquet_metadata('{file}')
SELECT * FROM sniff_csv('{file}')
SELECT * FROM glob('/*')
SELECT * FROM '{file}'
SELECT * FROM "{file}"
SELECT * FROM 's3://bucket/x.parquet'
SELECT * FROM 'https://example.org/x.csv'
SELECT (SELECT content FROM read_text('{file}'))
WITH x AS (SELECT * FROM read_text('{file}')) SELECT * FROM x
SELECT * FROM items, LATERAL read_text('{file}')
FROM read_text('{file}')
SELECT * FROM read_text('{file}') EMIT CHANGES
SELECT * FROM sqlite_scan('{file}', 't')
SELECT * FROM postgres_scan('', 'a', 'b')
SELECT * FROM delta_scan('{file}')
SELECT * FROM query('SELECT 1')
SELECT * FROM query_table('items')
SELECT * FROM json_execute_serialized_sql('{{}}')
SELECT * FROM duckdb_settings()
SELECT * FROM duckdb_secrets()
SELECT * FROM duckdb_extensions()
SELECT * FROM information_schema.tables
SELECT * FROM pragma_database_list()
SELECT getenv('HOME')
SELECT current_setting('temp_directory')
SELECT write_log('x')
PIVOT read_csv('{file}') ON a
DESCRIBE SELECT * FROM read_csv('{file}')
SUMMARIZE '{file}'
EXPLAIN SELECT * FROM read_text('{file}')
EXPLAIN ANALYZE SELECT * FROM read_text('{file}')
COPY (SELECT 1) TO '{file}.csv'
COPY items FROM '{file}'
EXPORT DATABASE '{file}'
IMPORT DATABASE '{file}'
ATTACH '{file}'
ATTACH '{file}' AS other
DETACH memory
INSTALL httpfs
FORCE INSTALL httpfs
LOAD httpfs
SET enable_external_access = true
RESET memory_limit
PRAGMA database_list
CALL pragma_version()
USE memory
CREATE SECRET s (TYPE s3)
CREATE MACRO f(x) AS read_text(x)
CREATE TABLE x AS SELECT * FROM read_text('{file}')
CREATE VIEW x AS SELECT * FROM read_text('{file}')
CREATE MATERIALIZED VIEW x AS SELECT * FROM read_text('{file}')
CREATE SOURCE x (n BIGINT) WITH (connector = 'file', path = '{file}')
CREATE SINK x AS SELECT n FROM items EMIT CHANGES WITH (connector = 'file', path = '{file}')
INSERT INTO items SELECT length(content) FROM read_text('{file}')
INSERT INTO items SELECT length(getenv('HOME'))
INSERT INTO items SELECT count(*) FROM duckdb_settings()
UPDATE items SET m = (SELECT length(content) FROM read_text('{file}'))
UPDATE items SET m = length(getenv('HOME'))
UPDATE items SET m = (SELECT count(*) FROM duckdb_settings())
DELETE FROM items WHERE n < (SELECT length(content) FROM read_text('{file}'))
DELETE FROM items WHERE n < (SELECT count(*) FROM duckdb_settings())
UPDATE items SET m = (SELECT count(*) FROM duckdb_secrets)
CREATE SOURCE x (t TIMESTAMP, WATERMARK FOR t AS t - to_seconds((SELECT count(*) FROM duckdb_settings())))
CREATE SOURCE x (t TIMESTAMP, WATERMARK FOR t AS t - to_seconds(length(getenv('HOME'))))
PREPARE x AS SELECT 1
VACUUM
SELECT 1; ATTACH '{file}'"""


@on_one_loop
async def test_sql_reads_registered_relations_and_nothing_else(home: streamq.Database, tmp_path: Any) -> None:
    """No file, setting, variable, extension, other database: each is refused with the reason, and nothing of the file is in it."""
    file = tmp_path / "secrets.csv"
    file.write_text("a,b\nhunter2,hunter3\n")
    await home.register("allowed", str(file))
    await home.execute("CREATE TABLE items (n BIGINT, m BIGINT, PRIMARY KEY (n))")
    await home.execute("INSERT INTO items VALUES (1, 1)")
    before = sorted(tmp_path.iterdir())
    async with limited(home) as (_, http):
        for text in CLOSED.splitlines():
            sql = text.format(file=file)
            for path in ("/v1/query", "/v1/execute", "/v1/explain"):
                answer = await http.post(path, json={"sql": sql})
                assert (400 <= answer.status_code < 500, answer.json()["class"] != "StreamqError") == (True, True), (sql, path, answer.text)
                assert "hunter" not in answer.text
        times = pa.BufferOutputStream()
        with pa.ipc.new_stream(times, pa.schema([("t", pa.timestamp("us"))])):
            pass
        for watermark in (
            "t - to_seconds((SELECT count(*) FROM duckdb_settings()))",
            "t), getenv('HOME'",
            "t) FROM items; LOAD httpfs; SELECT (t",
        ):
            put = partial(http.put, content=times.getvalue().to_pybytes(), headers={"content-type": arrow.CONTENT_TYPE})
            assert (await put("/v1/relations/x", params={"watermark": watermark})).status_code == 400
        assert (await http.post("/v1/query", json={"sql": "SELECT a FROM allowed"})).status_code == 200
    assert sorted(tmp_path.iterdir()) == before
    assert (await home.fetch("SELECT * FROM items")).to_pylist() == [{"n": 1, "m": 1}]
    assert {relation.name for relation in await home.relations()} == {"allowed", "items"}


# The end of the service


async def test_what_a_shutdown_waits_for_and_what_it_ends(home: streamq.Database) -> None:
    """What can be done within the time of grace is; nothing new is taken; who still sends then is told."""
    await home.execute("CREATE SOURCE events (n BIGINT)")
    await home.execute("CREATE SOURCE pushed (n BIGINT)")
    stop, sending = anyio.Event(), anyio.Event()

    async def rows() -> AsyncIterator[pa.Table]:
        yield pa.table({"n": [1]})
        sending.set()
        await anyio.sleep_forever()

    async def push(db: streamq.Database) -> None:
        with pytest.raises(streamq.ConnectionLost, match="the service was shut down before the request had completed"):
            await db.insert("pushed", rows())

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            url = await tasks.start(partial(serve, app(home), listen("127.0.0.1", 0), grace_s=1.0, until=stop.wait))
            async with (
                httpx.AsyncClient(base_url=url, trust_env=False) as http,
                streamq.connect(url) as db,
                anyio.create_task_group() as pushing,
                db.query("SELECT n FROM events EMIT CHANGES") as stream,
            ):
                pushing.start_soon(push, db)
                await sending.wait()
                stop.set()
                with pytest.raises(httpx.TransportError):
                    while True:
                        assert (await http.get("/readyz")).status_code in (200, 503)
                # What runs may complete: here, because its source ends.
                await home.insert("events", [{"n": 7}])
                await home.finish("events")
                assert (await stream.read_all()).to_pylist() == [{"n": 7}]
    assert (await home.fetch("SELECT n FROM pushed")).num_rows == 1


async def test_a_client_that_takes_nothing_of_the_end(home: streamq.Database, numbers: None, caplog: pytest.LogCaptureFixture) -> None:
    """Its connection is broken off, and the service ends as it would without it."""
    stop = anyio.Event()
    with anyio.fail_after(PATIENCE_S / 2):
        async with anyio.create_task_group() as tasks:
            run = partial(serve, app(home), listen("127.0.0.1", 0), grace_s=0.2, leaving_s=0.2, until=stop.wait)
            client = await connected(await tasks.start(run), WIDE)
            assert (await client.receive(100)).startswith(b"HTTP/1.1 200")
            while not (await home.statistics()).channel_batches:
                await pause()
            stop.set()
        assert await home.queries() == ()
        await client.aclose()
    assert "Traceback" not in caplog.text


async def test_who_is_told_that_it_listens_and_fails_ends_it(home: streamq.Database) -> None:
    """It does not go on without the one who waited for it."""

    def ready(url: str) -> None:
        raise BrokenPipeError(url)

    with anyio.fail_after(PATIENCE_S), pytest.raises(BrokenPipeError):
        await serve(app(home), listen("127.0.0.1", 0), ready=ready, grace_s=1.0)
