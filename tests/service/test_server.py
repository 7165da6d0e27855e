"""The service as programs see it that are no client of streamq: bodies, statuses, and what becomes of who leaves."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import anyio
import httpx
import pyarrow as pa
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import Message

import streamq
from streamq.server import Limits, app, listen, serve
from streamq.wire import arrow
from tests.service.conftest import PATIENCE_S, serving, wait_until_idle
from tests.waiting import pause

pytestmark = pytest.mark.anyio
ROWS = 2_000_000
WIDE = "SELECT n, n + 1 AS a, n + 2 AS b, n + 3 AS c FROM numbers"
"""64 MB: more than all buffers on the way hold."""


@pytest.fixture
async def http(url: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE_S, trust_env=False) as client:
        yield client


@pytest.fixture
async def numbers(home: streamq.Database) -> None:
    await home.register("numbers", pa.table({"n": pa.arange(0, ROWS)}))


async def ask(http: httpx.AsyncClient, sql: str, accept: str = "*/*", **more: Any) -> httpx.Response:
    return await http.post("/v1/query", json={"sql": sql, **more}, headers={"accept": accept})


# Results


async def test_any_arrow_reader_reads_a_result(http: httpx.AsyncClient) -> None:
    """It is the default, and a plain Arrow IPC stream."""
    response = await ask(http, "SELECT unnest([1, 2, 3]) AS n")
    assert response.headers["content-type"] == arrow.CONTENT_TYPE
    assert pa.ipc.open_stream(response.content).read_all().column("n").to_pylist() == [1, 2, 3]


async def test_json_lines(http: httpx.AsyncClient) -> None:
    """A row each, and a last line that says that these were all, or why not."""
    response = await ask(http, "SELECT n FROM (VALUES (1), (NULL)) t(n)", "application/x-ndjson")
    assert [json.loads(line) for line in response.text.splitlines()] == [{"n": 1}, {"n": None}, {"streamq": "end", "rows": 2}]


async def test_an_error_after_the_start(http: httpx.AsyncClient) -> None:
    """It is the last line, and the body has no end in HTTP either."""
    request = http.build_request("POST", "/v1/query", json={"sql": "SELECT 1 // 0 AS n"}, headers={"accept": "application/x-ndjson"})
    response = await http.send(request, stream=True)
    body = b""
    with pytest.raises(httpx.RemoteProtocolError):
        async for data in response.aiter_raw():
            body += data
    await response.aclose()
    last = json.loads(body.splitlines()[-1])
    assert (last["streamq"], last["class"], last["retryable"]) == ("error", "DataError", False)


async def test_events(http: httpx.AsyncClient) -> None:
    """Server-sent events: what the query is, its rows, the end."""
    response = await ask(http, "SELECT 'a\nb' AS text", "text/event-stream")
    events = [event.split("\n") for event in response.text.strip().split("\n\n")]
    assert [event[0] for event in events] == ["event: query", "event: rows", "event: end"]
    assert json.loads(events[1][1].removeprefix("data: "))["rows"] == [{"text": "a\nb"}]


# Requests


async def test_refusals(http: httpx.AsyncClient) -> None:
    """What is wrong with a request is a status and an error in JSON."""
    rows = "/v1/relations/nowhere/rows"
    cases = [
        (await ask(http, "SELECT 1", "image/png"), 406, "StreamqError"),
        (await ask(http, "SELECT x"), 400, "BindError"),
        (await ask(http, "SELECT 1", colour="red"), 400, "ValueError"),
        (await ask(http, "SELECT 1", batch_rows="many"), 400, "ValueError"),
        (await http.post("/v1/query", content=b"{", headers={"content-type": "application/json"}), 400, "ValueError"),
        (await http.post("/v1/query", content=b"[" * 100_000, headers={"content-type": "application/json"}), 400, "ValueError"),
        (await http.post("/v1/query", content=b"SELECT 1"), 415, "StreamqError"),
        (await http.post("/v1/execute", json={"sql": "SELECT 1"}), 400, "UnsupportedError"),
        (await http.post(rows, content=b'{"n": 1}', headers={"content-type": "application/x-ndjson"}), 404, "SourceError"),
        (await http.post(rows, content=b"n", headers={"content-type": "image/png"}), 415, "StreamqError"),
        (await http.post(rows, content=b"n" * 99, headers={"content-type": arrow.CONTENT_TYPE}), 404, "SourceError"),
        (await http.put("/v1/relations/nowhere", content=b"n" * 99, headers={"content-type": arrow.CONTENT_TYPE}), 422, "SourceError"),
        (await http.get("/v1/relations/nowhere"), 404, "SourceError"),
        (await http.delete("/v1/queries/q77"), 404, "StreamqError"),
        (await http.get("/nowhere"), 404, "StreamqError"),
        (await http.get("/v1/query"), 405, "StreamqError"),
    ]
    assert [(response.status_code, response.json()["class"]) for response, _, _ in cases] == [(status, name) for _, status, name in cases]
    error = cases[1][0].json()
    assert (error["line"], error["column"], error["retryable"]) == (1, 8, False)


@pytest.mark.parametrize("limits", [Limits(max_request_bytes=1_000, max_insert_bytes=1_000, max_register_bytes=1_000, max_queries=1)])
async def test_limits(http: httpx.AsyncClient, home: streamq.Database) -> None:
    """Too large is 413 or a ResourceLimit; too many queries are told to come again."""
    await home.execute("CREATE SOURCE events (n BIGINT)")
    assert (await ask(http, "SELECT 1 -- " + "x" * 2_000)).status_code == 413
    body = pa.BufferOutputStream()
    table = pa.table({"n": pa.arange(0, 10_000)})
    with pa.ipc.new_stream(body, table.schema) as writer:
        writer.write_table(table)
    put = await http.put("/v1/relations/more", content=body.getvalue().to_pybytes(), headers={"content-type": arrow.CONTENT_TYPE})
    assert (put.status_code, put.json()["class"]) == (413, "ResourceLimit")
    request = http.build_request("POST", "/v1/query", json={"sql": "SELECT n FROM events EMIT CHANGES"})
    follower = await http.send(request, stream=True)
    try:
        second = await ask(http, "SELECT 1")
        assert (second.status_code, second.json()["class"]) == (429, "ResourceLimit")
    finally:
        await follower.aclose()
    await wait_until_idle(home)


async def test_uploads(http: httpx.AsyncClient, home: streamq.Database) -> None:
    """JSON lines and CSV become rows of the relation's types; an error says how many went in."""
    await home.execute("CREATE SOURCE events (n BIGINT, word VARCHAR, at TIMESTAMP)")
    lines = b'{"n": 1, "word": "2026-05-01", "at": "2026-05-01T12:00:00"}\n\n{"n": 2}'
    said = await http.post("/v1/relations/events/rows", content=lines, headers={"content-type": "application/x-ndjson"})
    assert said.json() == {"rows": 2, "first_offset": 0, "last_offset": 1}
    text = b'word,n,at\r\n"a, ""b""\nc",3,2026-05-01 12:00:00\r\n,4,\r\n'
    said = await http.post("/v1/relations/events/rows", content=text, headers={"content-type": "text/csv"})
    assert said.json() == {"rows": 2, "first_offset": 2, "last_offset": 3}
    words = (await home.fetch("SELECT word FROM events ORDER BY n")).column("word").to_pylist()
    assert words == ["2026-05-01", None, 'a, "b"\nc', None]
    said = await http.post("/v1/relations/events/rows", content=b'{"n": 1}\n{"n": ', headers={"content-type": "application/x-ndjson"})
    assert said.status_code == 422
    assert "line 2 is no JSON" in said.json()["message"]


async def test_a_cut_upload(http: httpx.AsyncClient, home: streamq.Database) -> None:
    """The batches that had come are in, and the sender is told."""
    await home.execute("CREATE SOURCE events (n BIGINT)")
    encoder = arrow.ArrowEncoder(pa.schema([("n", pa.int64())]))
    body = encoder.encode(pa.record_batch({"n": [1, 2]})) + encoder.encode(pa.record_batch({"n": [3]}))[:-8]
    said = await http.post("/v1/relations/events/rows", content=body, headers={"content-type": arrow.CONTENT_TYPE})
    assert said.status_code == 422
    assert "(2 rows had gone in before)" in said.json()["message"]


async def test_a_refused_upload_is_read_no_further(http: httpx.AsyncClient, url: str, home: streamq.Database) -> None:
    """However much the client would still send, it is told why, and the service is free for others."""
    await home.execute("CREATE SOURCE events (n BIGINT)")
    await home.finish("events")

    async def rows() -> AsyncIterator[pa.Table]:
        for _ in range(200):
            yield pa.table({"n": pa.arange(0, 100_000)})

    async with streamq.connect(url) as remote:
        with pytest.raises(streamq.SourceError, match="finished"):
            await remote.insert("events", rows())
    assert (await http.get("/healthz")).text == "ok\n"


async def test_what_others_watch(http: httpx.AsyncClient, home: streamq.Database) -> None:
    """Health, readiness, metrics, relations with their columns."""
    await home.execute("CREATE TABLE users (id BIGINT, name VARCHAR, PRIMARY KEY (id))")
    assert (await http.get("/healthz")).status_code == (await http.get("/readyz")).status_code == 200
    assert "streamq_queries_running{" in (await http.get("/metrics")).text
    (users,) = (await http.get("/v1/relations")).json()
    assert (users["name"], users["kind"], users["primary_key"]) == ("users", "table", ["id"])
    assert users["columns"][0] == {"name": "id", "type": "BIGINT", "nullable": False}
    assert (await http.get("/v1/statistics")).json()["relations"][0]["name"] == "users"


async def test_what_nobody_thought_of(home: streamq.Database, caplog: pytest.LogCaptureFixture) -> None:
    """It is a 500 to clients, logs and metrics, and what went wrong is in the log alone."""

    async def broken(_: Request) -> Response:
        raise ZeroDivisionError("of a secret")

    application = app(home)
    application.router.routes.append(Route("/broken", broken))
    async with serving(application) as url, httpx.AsyncClient(base_url=url, timeout=PATIENCE_S, trust_env=False) as http:
        with caplog.at_level("INFO", "streamq.server"):
            answer = await http.get("/broken")
        assert (answer.status_code, answer.json()["class"], "secret" in answer.text) == (500, "StreamqError", False)
        assert 'streamq_http_requests_total{code="500",route="broken"} 1.0' in (await http.get("/metrics")).text
    failed, answered = (record for record in caplog.records if getattr(record, "path", "") == "/broken")
    assert failed.exc_info is not None
    assert isinstance(failed.exc_info[1], ZeroDivisionError)
    assert answered.__dict__["status"] == 500


async def test_mounted(home: streamq.Database) -> None:
    """In another application it is a part of it."""
    async with serving_mounted(home) as url, streamq.connect(f"{url}/sql") as remote:
        assert (await remote.fetch("SELECT 42 AS answer")).to_pylist() == [{"answer": 42}]


def serving_mounted(home: streamq.Database) -> Any:
    inner = app(home)
    outer = Starlette(routes=[Mount("/sql", inner)])
    outer.state.service = inner.state.service
    return serving(outer)


async def test_it_opens_its_own_database(anyio_backend: object, no_residue: None) -> None:
    """For an ASGI server the application is all there is."""
    async with serving(app(executor="thread")) as url, streamq.connect(url) as remote:
        assert (await remote.fetch("SELECT 42 AS answer")).to_pylist() == [{"answer": 42}]


# Who leaves


@pytest.mark.usefixtures("numbers")
async def test_a_client_that_leaves(url: str, home: streamq.Database) -> None:
    """Before the answer, in the middle of it and at its end: nothing of the query is left."""
    host, port = url.removeprefix("http://").split(":")
    body = json.dumps({"sql": WIDE}).encode()
    head = f"POST /v1/query HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    for sent, read in [(head[:20], 0), (head, 0), (head + body[:5], 0), (head + body, 0), (head + body, 1), (head + body, 5_000_000)]:
        async with await anyio.connect_tcp(host, int(port)) as stream:
            await stream.send(sent)
            got = 0
            while got < read:
                got += len(await stream.receive())
        await wait_until_idle(home)
    assert (await home.statistics()).dropped_streams == 0


async def test_a_client_that_leaves_at_once(home: streamq.Database) -> None:
    """Nobody is told that its query did not start."""
    heard = [{"type": "http.request", "body": json.dumps({"sql": "SELECT 1"}).encode()}]
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
    sent: list[Message] = []

    async def receive() -> Message:
        return heard.pop() if heard else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/v1/query", "query_string": b"", "headers": headers, "http_version": "1.1"}
    await app(home)(scope, receive, send)
    assert sent == []
    await wait_until_idle(home)


@pytest.mark.parametrize("whole", ["false", "true"])
async def test_a_sender_that_leaves(home: streamq.Database, whole: str) -> None:
    """Its rows do not wait without it until others have read what would make room."""
    await home.execute("CREATE SOURCE events (n BIGINT) WITH (retention_rows = 1)")
    encoder = arrow.ArrowEncoder(pa.schema([("n", pa.int64())]))
    body = encoder.encode(pa.record_batch({"n": pa.arange(0, 100_000)})) + encoder.end()
    request = f"POST /v1/relations/events/rows?whole={whole} HTTP/1.1\r\nHost: localhost\r\n"
    request += f"Content-Type: {arrow.CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\n\r\n"
    application = app(home)
    with anyio.fail_after(PATIENCE_S):
        async with serving(application) as url, home.query("SELECT n FROM events EMIT CHANGES"):
            host, port = url.removeprefix("http://").split(":")
            waits = False
            while not waits:
                async with await anyio.connect_tcp(host, int(port)) as sender:
                    await sender.send(request.encode() + body)
                    with anyio.move_on_after(0.2) as patience:
                        assert (await sender.receive()).startswith(b"HTTP/1.1 200")
                    waits = patience.cancelled_caught
            while application.state.service.running:
                await pause()


async def test_a_follower_that_leaves(url: str, home: streamq.Database) -> None:
    """Nothing is being sent to it: that it has gone is noticed all the same."""
    await home.execute("CREATE SOURCE events (n BIGINT)")
    async with streamq.connect(url) as remote:
        stream = remote.query("SELECT n FROM events EMIT CHANGES")
        await stream.start()
        assert len(await home.queries()) == 1
        query = stream._query
        assert query is not None
        await query._answer._response.aclose()  # type: ignore[attr-defined]
        await wait_until_idle(home)
        with pytest.raises((streamq.ConnectionLost, streamq.StreamTruncated)):
            await anext(stream)


@pytest.mark.usefixtures("numbers")
async def test_a_slow_client_slows_the_scan(url: str, home: streamq.Database) -> None:
    """While nobody reads, the channel is full and no more is read."""
    host, port = url.removeprefix("http://").split(":")
    body = json.dumps({"sql": WIDE, "batch_rows": 8_192}).encode()
    head = f"POST /v1/query HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    async with await anyio.connect_tcp(host, int(port)) as stream:
        stream.extra(anyio.abc.SocketAttribute.raw_socket).setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        await stream.send(head + body)
        with anyio.fail_after(PATIENCE_S):
            while not (running := await home.queries()) or not running[0].channel_bytes:
                await pause()
            before = -1
            while running[0].rows_out != before:
                before = running[0].rows_out
                await anyio.sleep(0.2)
                running = await home.queries()
        assert running[0].channel_bytes < 32 << 20
        assert running[0].rows_out < ROWS
    await wait_until_idle(home)


# The end of the service


async def test_shutdown_tells_every_client(home: streamq.Database) -> None:
    """Queries have their time of grace; who is still there then gets ConnectionLost, and no new one is taken."""
    await home.execute("CREATE SOURCE events (n BIGINT)")
    stop = anyio.Event()
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            url = await tasks.start(partial(serve, app(home), listen("127.0.0.1", 0), grace_s=0.2, until=stop.wait))
            async with streamq.connect(url) as remote, remote.query("SELECT n FROM events EMIT CHANGES") as stream:
                stop.set()
                with pytest.raises(streamq.ConnectionLost, match="shut down"):
                    await anext(stream)
                with pytest.raises(streamq.ConnectionLost):
                    await remote.fetch("SELECT 1")
    assert await home.queries() == ()


async def test_what_is_asked_wrongly(url: str) -> None:
    """Each refusal says what, and what would be right."""
    sql, rows = {"sql": "SELECT 1"}, "/v1/relations/events/rows"
    cases: list[tuple[int, str, str, str, dict[str, Any]]] = [
        (404, "there is nothing at /nowhere: /openapi.json says what there is", "GET", "/nowhere", {}),
        (404, "there is no relation 'x': /v1/relations lists those that there are", "GET", "/v1/relations/x", {}),
        (404, "there is no running query 'q7': /v1/queries lists those that there are", "DELETE", "/v1/queries/q7", {}),
        (405, "/v1/query takes POST, not GET", "GET", "/v1/query", {}),
        (405, "/v1/relations/x takes DELETE, GET, HEAD, PUT, not POST", "POST", "/v1/relations/x", {}),
        (406, "results are application/vnd.apache.arrow.stream, ", "POST", "/v1/query", {"json": sql, "headers": {"accept": "text/html"}}),
        (415, "with the content type application/json, not application/x-www-form-urlencoded", "POST", "/v1/query", {"data": sql}),
        (415, "application/x-ndjson (an object a line) or text/csv, not application/json", "POST", rows, {"json": [1]}),
        (400, "whole must be true or false, not '1'", "POST", rows, {"params": {"whole": "1"}, "json": [1]}),
        (400, "unknown members: parms; it may have sql, params, timeout, ", "POST", "/v1/query", {"json": {**sql, "parms": [1]}}),
        (400, "batch_rows must be a whole number, not '5'", "POST", "/v1/query", {"json": {**sql, "batch_rows": "5"}}),
    ]
    async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
        for status, message, method, path, request in cases:
            answer = await http.request(method, path, **request)
            assert (answer.status_code, message in answer.json()["message"]) == (status, True), answer.text


@pytest.mark.parametrize("seconds", [0.0001, 86_400.0, 1e300, float("inf")])
def test_any_patience_with_clients(seconds: float) -> None:
    """Where the system counts no further, or no finer, the socket has the nearest that it takes."""
    with listen("127.0.0.1", 0, stall_timeout_s=seconds) as listener:
        assert listener.getsockname()[1] > 0
