"""Requests that nobody should send: each gets a 4xx that says what is wrong, and the next good one gets its answer."""

from __future__ import annotations

import errno
import gzip
import json
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import streamq
from streamq.server import Limits
from streamq.wire import arrow
from tests.conftest import BACKENDS
from tests.service.background import Service, in_background
from tests.service.conftest import PATIENCE_S

JSON = "application/json"
LINES = "application/x-ndjson"
ROWS = "/v1/relations/events/rows"
INSERT_BYTES = 8 << 20


@pytest.fixture(scope="module")
def served() -> Iterator[Service]:
    with in_background(limits=Limits(max_insert_bytes=INSERT_BYTES, max_register_bytes=INSERT_BYTES)) as service:
        service.portal.call(service.database.execute, "CREATE SOURCE events (n BIGINT, word VARCHAR)")
        service.portal.call(service.database.register, "numbers", pa.table({"n": range(10)}))
        yield service


@pytest.fixture(scope="module")
def http(served: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=served.url, timeout=PATIENCE_S, trust_env=False) as client:
        yield client


def send(http: httpx.Client, method: str, path: str, content: bytes, kind: str = "", **headers: str) -> httpx.Response:
    return http.request(method, path, content=content, headers={**({"content-type": kind} if kind else {}), **headers})


def check_refused(http: httpx.Client, response: httpx.Response, *, statuses: range = range(400, 500)) -> None:
    """Check that a request was refused for a reason, and that the service is none the worse."""
    assert response.status_code in statuses, (response.status_code, response.text[:200])
    error = response.json()
    assert len(error["message"]) > 10
    assert "Traceback" not in response.text
    check_alive(http)


def check_alive(http: httpx.Client) -> None:
    response = http.post("/v1/query", json={"sql": "SELECT 42 AS n"}, headers={"accept": LINES})
    assert response.text.splitlines() == ['{"n":42}', '{"streamq":"end","rows":1}']


# SQL

DEEP: dict[str, str] = {
    "parentheses": "SELECT " + "(" * 3_000 + "1" + ")" * 3_000,
    "not closed": "SELECT " + "(" * 3_000,
    "lists": "SELECT " + "[" * 1_200 + "]" * 1_500,
    "sums": "SELECT 1" + "+1" * 1_200,
    "conditions": "SELECT true" + " AND true" * 1_200,
    "texts": "SELECT 'a'" + "||'a'" * 1_200,
    "signs": "SELECT " + "- " * 1_200 + "1",
    "not": "SELECT " + "NOT " * 1_200 + "true",
    "names": "SELECT a" + ".a" * 1_200,
    "casts": "SELECT 1" + "::INT" * 1_200,
    "calls": "SELECT " + "abs(" * 1_200 + "1" + ")" * 1_200,
    "cases": "SELECT " + "CASE WHEN true THEN " * 1_000 + "1" + " END" * 1_000,
    "subqueries": "SELECT * FROM " + "(SELECT * FROM " * 200 + "numbers" + ")" * 200,
    "exists": "SELECT " + "EXISTS (SELECT " * 200 + "1" + ")" * 200,
    "unions": "SELECT 1" + " UNION ALL SELECT 1" * 1_000,
    "joins": "SELECT 1 FROM numbers" + ", numbers" * 1_100,
    "windows": "SELECT * FROM " + "TUMBLE(" * 300 + "numbers" + ", n, INTERVAL '1' DAY)" * 300,
    "types": "SELECT NULL::" + "STRUCT(a " * 1_000 + "INT" + ")" * 1_000,
    "arrays": "SELECT NULL::INT" + "[]" * 1_200,
    "explain": "EXPLAIN " * 1_200 + "SELECT 1",
    "watermark": "CREATE SOURCE s (ts TIMESTAMP, WATERMARK FOR ts AS " + "(" * 1_200 + "ts" + ")" * 1_200 + ")",
    "view": "CREATE VIEW v AS SELECT 1" + "+1" * 1_200,
    "materialized view": "CREATE MATERIALIZED VIEW v AS SELECT n" + "+1" * 1_200 + " AS n FROM events",
    "insert": "INSERT INTO events SELECT 1" + "+1" * 1_200,
    "continuous": "SELECT n" + "+1" * 1_200 + " AS n FROM events EMIT CHANGES",
    "a large parameter": "SELECT $99999999999999999999",
    "a long parameter": "SELECT $" + "9" * 5_000,
    "parameter 0": "SELECT $0",
    "comment": "SELECT 1 " + "/*" * 10_000,
    "quotes": "'" * 10_001,
    "half a pair": "SELECT '\ud800'",
    "long": "SELECT '" + "x" * 1_000_000 + "'",
    "semicolons": ";" * 20_000,
    "empty": "",
}


@pytest.mark.parametrize("name", DEEP)
def test_sql(http: httpx.Client, name: str) -> None:
    """Nothing is too deep or too long to be refused."""
    path = "/v1/query" if DEEP[name].startswith("SELECT") else "/v1/execute"
    check_refused(http, send(http, "POST", path, json.dumps({"sql": DEEP[name]}).encode(), JSON), statuses=range(400, 414))


WORDS = [
    "SELECT",
    "FROM",
    "(",
    ")",
    ",",
    "*",
    "numbers",
    "events",
    "n",
    "1",
    "'a",
    "'a'",
    "EMIT CHANGES",
    "WHERE",
    "--",
    ";",
    "$1",
    "?",
    "\x00",
    "é",
]
WORDS += [
    "GROUP BY",
    "TUMBLE(events, n,",
    "JOIN",
    "WITH",
    "AS",
    "OVER",
    "[",
    "]",
    "{",
    "INTERVAL",
    "CREATE",
    "SOURCE",
    "x'",
    "::",
    "1e999",
    "LIMIT",
]


@given(words=st.lists(st.sampled_from(WORDS), max_size=12))
def test_words(http: httpx.Client, words: list[str]) -> None:
    """Words in any order are a statement or an error, never a failure."""
    sql = " ".join(words)
    for path in ("/v1/explain", "/v1/execute"):
        response = send(http, "POST", path, json.dumps({"sql": sql}).encode(), JSON)
        assert response.status_code in (200, 400), (sql, response.text[:200])


# Requests in JSON

NOT_ASKED: dict[str, tuple[bytes, int]] = {
    "nothing": (b"", 400),
    "cut": (b'{"sql": "SELECT 1"', 400),
    "list": (b'["SELECT 1"]', 400),
    "number": (b'{"sql": 1}', 400),
    "deep list": (b"[" * 200_000, 400),
    "deep object": (b'{"sql": "SELECT 1", "params": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}", 400),
    "deep params": (b'{"sql": "SELECT ?", "params": [' + b"[" * 500 + b"]" * 500 + b"]}", 400),
    "digits": (b'{"sql": "SELECT 1", "batch_rows": ' + b"9" * 10_000 + b"}", 400),
    "large number": (b'{"sql": "SELECT 1", "batch_rows": 99999999999999999999999}', 400),
    "large epochs": (b'{"sql": "SELECT 1", "epoch_rows": 99999999999999999999999}', 400),
    "negative": (b'{"sql": "SELECT 1", "batch_rows": -1}', 400),
    "infinite": (b'{"sql": "SELECT 1", "timeout": -Infinity}', 400),
    "not a number": (b'{"sql": "SELECT 1", "timeout": NaN}', 400),
    "longer than clocks go": (b'{"sql": "SELECT 1", "timeout": 1' + b"0" * 400 + b"}", 400),
    "no list": (b'{"sql": "SELECT ?", "params": "x"}', 400),
    "no arrow": (b'{"sql": "SELECT ?", "params_arrow": "AAAA"}', 400),
    "latin": ('{"sql": "SELECT \'é\'"}'.encode("latin-1"), 400),
    "half a pair in params": (b'{"sql": "SELECT ?", "params": ["\\ud800"]}', 400),
    "unknown": (b'{"sql": "SELECT 1", "\\u0000": 1}', 400),
    "too large": (b'{"sql": "' + b" " * (5 << 20) + b'"}', 413),
}


@pytest.mark.parametrize("name", NOT_ASKED)
def test_requests(http: httpx.Client, name: str) -> None:
    """What is no request is told so."""
    content, status = NOT_ASKED[name]
    check_refused(http, send(http, "POST", "/v1/query", content, JSON), statuses=range(status, status + 1))


HEADERS: dict[str, tuple[dict[str, str], int]] = {
    "no type": ({}, 415),
    "another type": ({"content-type": "text/html"}, 415),
    "no type at all": ({"content-type": ";;;,"}, 415),
    "compressed": ({"content-type": JSON, "content-encoding": "gzip"}, 415),
    "unknown encoding": ({"content-type": JSON, "content-encoding": "zip, br"}, 415),
    "nothing accepted": ({"content-type": JSON, "accept": "image/png"}, 406),
    "nothing of weight": ({"content-type": JSON, "accept": "*/*;q=0"}, 406),
    "no weight": ({"content-type": JSON, "accept": ",;q=,;;q=nan,text/html;q=x"}, 406),
    "another site": ({"content-type": JSON, "origin": "http://example.org"}, 403),
    "no site": ({"content-type": JSON, "origin": "http://[::1"}, 403),
    "another host": ({"content-type": JSON, "host": "example.org"}, 421),
    "no host": ({"content-type": JSON, "host": "[::1"}, 421),
}


@pytest.mark.parametrize("name", HEADERS)
def test_headers(http: httpx.Client, name: str) -> None:
    """A good request with a wrong header is none."""
    headers, status = HEADERS[name]
    bomb = gzip.compress(b'{"sql": "SELECT 1"}' + b" " * (64 << 20)) if "content-encoding" in headers else b'{"sql": "SELECT 1"}'
    check_refused(http, http.post("/v1/query", content=bomb, headers=headers), statuses=range(status, status + 1))


PATHS = ["/v1", "//v1/query", "/v1/query/", "/v1/relations/", "/v1/relations/%00", "/v1/relations/%ff%fe", "/v1/relations/../../etc/passwd"]
PATHS += [
    "/v1/relations/%2e%2e%2frows",
    "/v1/queries/%0d%0aX: y",
    "/console/%2e%2e/app.py",
    "/console/",
    "/" + "x" * 20_000,
    "/v1/relations/a/b/c",
]


def test_paths_and_methods(http: httpx.Client) -> None:
    """No path leads out of the service, and no method does what it is not for."""
    for path in PATHS:
        response = http.get(path, follow_redirects=True)
        assert 400 <= response.status_code < 500, (path, response.status_code, response.text[:100])
    for method in ("PATCH", "OPTIONS", "TRACE", "PROPFIND", "get", "X" * 500):
        check_refused(http, http.request(method, "/v1/query"), statuses=range(405, 406))
    check_refused(http, http.delete("/v1/statistics"), statuses=range(405, 406))


# Rows


def stream_of(batch: pa.RecordBatch, said: Mapping[str, str] | None = None, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_batch(batch, custom_metadata=said)
    written: bytes = sink.getvalue().to_pybytes()
    return written


MANY = 100_000_000
TEXT = b"x" * 1_000_000
VIEWS = np.array([[len(TEXT), 0x78787878, 0, 0]] * 3_000, np.int32).tobytes()
BOMBS: dict[str, Callable[[], bytes]] = {
    "nulls": lambda: stream_of(pa.record_batch({"n": pa.nulls(MANY)})),
    "runs": lambda: stream_of(
        pa.record_batch({"n": pa.RunEndEncodedArray.from_arrays(pa.array([MANY], pa.int32()), pa.array([1], pa.int64()))})
    ),
    "dictionary": lambda: stream_of(
        pa.record_batch({"word": pa.DictionaryArray.from_arrays(np.zeros(3_000, np.int32), pa.array([TEXT.decode()]))})
    ),
    "views": lambda: stream_of(
        pa.record_batch({"word": pa.Array.from_buffers(pa.string_view(), 3_000, [None, pa.py_buffer(VIEWS), pa.py_buffer(TEXT)])})
    ),
    "shared lists": lambda: stream_of(
        pa.record_batch(
            {"word": pa.ListViewArray.from_arrays(np.zeros(3_000, np.int32), np.ones(3_000, np.int32), pa.array([TEXT.decode()]))}
        )
    ),
    "compressed": lambda: stream_of(pa.record_batch({"n": np.zeros(1_000_000, np.int64)}), compression="zstd"),
    "no columns": lambda: stream_of(pa.RecordBatch.from_struct_array(pa.array([{}] * 2_000_000, pa.struct([])))),
}


@pytest.mark.parametrize("name", BOMBS)
def test_bombs(http: httpx.Client, name: str) -> None:
    """Few bytes that come to very many are refused before they do."""
    body = BOMBS[name]()
    check_refused(http, send(http, "POST", ROWS, body, arrow.CONTENT_TYPE))
    check_refused(http, send(http, "POST", f"{ROWS}?whole=true", body, arrow.CONTENT_TYPE))
    check_refused(http, send(http, "PUT", "/v1/relations/bomb", body, arrow.CONTENT_TYPE))


ROWS_OF_EVENTS = pa.record_batch({"n": [1, 2, 3], "word": ["a", "bc", None]})
GOOD = stream_of(ROWS_OF_EVENTS)


def test_cut_rows(http: httpx.Client) -> None:
    """Of a cut Arrow stream the sender hears, wherever it was cut."""
    for length in range(0, len(GOOD), 24):
        check_refused(http, send(http, "POST", ROWS, GOOD[:length], arrow.CONTENT_TYPE))


@given(place=st.integers(0, len(GOOD) - 1), value=st.integers(0, 255), insert=st.booleans())
def test_damaged_rows(http: httpx.Client, place: int, value: int, insert: bool) -> None:
    """An Arrow stream with a wrong byte is another one, or an error."""
    damaged = GOOD[:place] + bytes([value]) + GOOD[place + (not insert) :]
    response = send(http, "POST", ROWS, damaged, arrow.CONTENT_TYPE)
    assert response.status_code in (200, 413, 422), response.text[:200]


NOT_ROWS: dict[str, tuple[str, bytes]] = {
    "no JSON": (LINES, b'{"n": 1}\nnot json'),
    "deep JSON": (LINES, b'{"n": ' + b"[" * 100_000),
    "deep value": (LINES, b'{"word": ' + b"[" * 300 + b"]" * 300 + b"}"),
    "a number": (LINES, b"1"),
    "nothing first": (LINES, b'null\n{"n": 1}\n'),
    "half a pair": (LINES, b'{"word": "\\ud800"}'),
    "large number": (LINES, b'{"n": ' + b"9" * 5_000 + b"}"),
    "beyond": (LINES, b'{"n": 99999999999999999999}'),
    "fraction": (LINES, b'{"n": 1.5}'),
    "no UTF-8": (LINES, b'{"word": "\xff\xfe"}'),
    "UTF-16": (LINES, '{"n": 1}\n{"n": 2}'.encode("utf-16")),
    "unknown column": (LINES, b'{"m": 1}'),
    "long line": (LINES, b'{"word": "' + b"x" * (9 << 20) + b'"}'),
    "no columns": ("text/csv", b"\n1\n"),
    "no column": ("text/csv", b"\n"),
    "no line feed": ("text/csv", b"n\r1\r2\r"),
    "open quotes first": ("text/csv", b'n"\n1\n2\n'),
    "too many fields": ("text/csv", b"n,word\n1,a,b\n"),
    "open quotes": ("text/csv", b'n,word\n1,"a\n'),
    "no number": ("text/csv", b"n\nx\n"),
    "twice": ("text/csv", b"n,n\n1,2\n"),
    "no text": ("text/csv", b"n,word\n1,\xff\xfe\n"),
    "nul": ("text/csv", b"\x00\x00\x00\n\x00"),
    "no Arrow": (arrow.CONTENT_TYPE, b"n" * 100),
    "a file": (arrow.CONTENT_TYPE, b"ARROW1\x00\x00" + GOOD),
    "a large head": (arrow.CONTENT_TYPE, b"\xff\xff\xff\xff\xff\xff\xff\x7f" + b"x" * 100),
    "twice a schema": (arrow.CONTENT_TYPE, GOOD[:-8] + GOOD),
    "two streams": (arrow.CONTENT_TYPE, GOOD + GOOD),
    "a deep error": (arrow.CONTENT_TYPE, stream_of(ROWS_OF_EVENTS, {"streamq.error": "[" * 100_000})),
    "no error": (arrow.CONTENT_TYPE, stream_of(ROWS_OF_EVENTS, {"streamq.error": "[1]"})),
    "a picture": ("image/png", b"\x89PNG"),
}


@pytest.mark.parametrize("name", NOT_ROWS)
def test_rows(http: httpx.Client, name: str) -> None:
    """What are no rows of the relation are told so."""
    kind, content = NOT_ROWS[name]
    response = send(http, "POST", ROWS, content, kind)
    check_refused(http, response)
    assert hasattr(streamq.errors, response.json()["class"])


def test_unusual_rows(http: httpx.Client) -> None:
    """All of them go in: of CSV with one column an empty line is a row, and a writer of Arrow may say of a batch what it likes."""
    for kind, content, rows in [
        ("text/csv", b"n\r\n10\r\n\r\n\r\n11", 4),
        ("text/csv", b"word\n\n", 1),
        ("text/csv", b"n\n10\r11\r", 2),
        (arrow.CONTENT_TYPE, stream_of(ROWS_OF_EVENTS, {"origin": "sensor 7"}), 3),
    ]:
        response = send(http, "POST", ROWS, content, kind)
        assert response.json().get("rows") == rows, response.text[:200]


def test_long_rows(http: httpx.Client) -> None:
    """A row may be as long as the service takes, whatever is in its quotes: it is looked at once, not from its start with every piece."""
    word = "\n" * (5 << 20)
    response = send(http, "POST", ROWS, f'n,word\n-1,"{word}"\n-2,b\n'.encode(), "text/csv")
    assert response.json()["rows"] == 2, response.text[:200]
    lines = send(
        http, "POST", "/v1/query", json.dumps({"sql": "SELECT length(word) AS l FROM events WHERE n = -1"}).encode(), JSON, accept=LINES
    )
    assert lines.text.splitlines()[0] == f'{{"l":{len(word)}}}'


# Sockets

GARBAGE: dict[str, bytes] = {
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "a line": b"hello\r\n\r\n",
    "no end": b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X: " + b"y" * 200_000,
    "many headers": b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 30_000 + b"\r\n",
    "two lengths": b"POST /v1/query HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "no length": b"POST /v1/query HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
    "negative length": b"POST /v1/query HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "no chunks": b"POST /v1/query HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "smuggled": b"POST /v1/query HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    b"GET /x HTTP/1.1\r\n\r\n",
    "pipelined": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50 + b"\x00\xff" * 1_000,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 500,
    "an upgrade": b"GET /v1/query HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\n\r\n",
    "no version": b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("backend", [backend.id for backend in BACKENDS])
def test_garbage(backend: str, caplog: pytest.LogCaptureFixture) -> None:
    """What is no HTTP gets a 4xx or nothing, and leaves the others alone; no log has a traceback of it."""
    with in_background(str(backend)) as service, httpx.Client(base_url=service.url, timeout=PATIENCE_S, trust_env=False) as http:
        host, port = service.url.removeprefix("http://").split(":")
        for name, garbage in GARBAGE.items():
            answer = answer_to(garbage, host, int(port))
            firsts = [line for line in answer.split(b"\r\n") if line.startswith(b"HTTP/")]
            assert all(line.split()[1][:1] in b"24" or line.split()[1] == b"101" for line in firsts), (name, firsts)
            check_alive(http)
    assert [record for record in caplog.records if record.exc_info] == []


HUNG_UP = (errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN)


def answer_to(data: bytes, host: str, port: int) -> bytes:
    """Send bytes, and give all that comes back. Whoever is hung up on while it sends has its answer too."""
    answer = b""
    with socket.create_connection((host, port), timeout=PATIENCE_S) as opened:
        try:
            opened.sendall(data)
            opened.shutdown(socket.SHUT_WR)
            while piece := opened.recv(65_536):
                answer += piece
        except OSError as error:
            if error.errno not in HUNG_UP:
                raise
    return answer
