"""`/openapi.json` is true: schemathesis makes requests of it, and every answer has a status, a type and a form that it tells of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from streamq.config.tokens import make_token, read_tokens
from streamq.server.openapi import OPERATIONS, document
from streamq.server.routes import ROUTES
from streamq.wire import arrow
from tests.service.background import Service, in_background
from tests.service.conftest import PATIENCE_S

EXAMPLES = 6
CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
ROWS = pa.table({"n": [1, 2]})


def written(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    stream: bytes = sink.getvalue().to_pybytes()
    return stream


LINES = st.sampled_from([b'{"n": 1}\n', b"n", b""])
for kind, bodies in (
    (arrow.CONTENT_TYPE, st.sampled_from([written(ROWS), written(ROWS)[:-20], b""])),
    ("application/x-ndjson", LINES),
    ("application/jsonl", LINES),
    ("application/jsonlines", LINES),
    ("text/csv", st.sampled_from([b"n\n1\n", b"m\n1\n", b""])),
):
    schemathesis.openapi.media_type(kind, bodies)


@schemathesis.serializer(arrow.CONTENT_TYPE, "application/x-ndjson", "application/jsonl", "application/jsonlines", "text/csv")
def as_it_is(_: Any, value: Any) -> bytes:
    """Send rows as they are."""
    return value if isinstance(value, bytes) else str(value).encode()


schema = schemathesis.openapi.from_dict(document(ROUTES, has_tokens=False))


@pytest.fixture(scope="module")
def served() -> Iterator[Service]:
    with in_background() as service:
        service.portal.call(service.database.execute, "CREATE SOURCE events (n BIGINT)")
        yield service


@schema.parametrize()
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
def test_answers(case: Any, served: Service) -> None:
    """Whatever is asked, good or bad, the document says what comes back."""
    case.call_and_validate(base_url=served.url, checks=CHECKS, timeout=PATIENCE_S)


def test_every_route(served: Service) -> None:
    """What is served is the document, and it has all routes, no more."""
    with httpx.Client(base_url=served.url, trust_env=False) as http:
        said = http.get("/openapi.json").json()
    assert said == schema.raw_schema
    assert {operation["operationId"] for path in said["paths"].values() for operation in path.values()} == OPERATIONS.keys()


SUCCESSES: list[tuple[str, str, dict[str, Any], int]] = [
    ("POST", "/v1/query", {"json": {"sql": "SELECT n FROM words"}, "headers": {"accept": "text/event-stream"}}, 200),
    ("POST", "/v1/execute", {"json": {"sql": "SHOW RELATIONS"}}, 200),
    ("POST", "/v1/explain", {"json": {"sql": "SELECT n FROM words", "analyze": True}}, 200),
    ("POST", "/v1/relations/words/rows", {"content": b"n\n1\n", "headers": {"content-type": "text/csv"}}, 200),
    ("GET", "/v1/relations", {}, 200),
    ("GET", "/v1/relations/words", {}, 200),
    ("GET", "/v1/queries", {}, 200),
    ("GET", "/v1/queries/q1", {}, 200),
    ("GET", "/v1/statistics", {}, 200),
    ("DELETE", "/v1/queries/q1", {}, 200),
    ("POST", "/v1/relations/words/finish", {}, 200),
    ("DELETE", "/v1/relations/nowhere", {}, 404),
    ("POST", "/v1/execute", {"json": {"sql": "INSERT INTO words (n) SELECT 1 // 0"}}, 422),
    ("POST", "/v1/explain", {"json": {"sql": "SELECT 1 // 0", "analyze": True}}, 422),
]


def test_successes() -> None:
    """Answers of a service that has something to tell have the form that is told: queries that run, watermarks, statistics."""
    with in_background() as service, httpx.Client(base_url=service.url, trust_env=False) as http:
        execute = service.portal.call
        execute(service.database.execute, "CREATE SOURCE words (n BIGINT, ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)")
        asked = {"sql": "SELECT n, count(*) AS c FROM TUMBLE(words, ts, INTERVAL '1' MINUTE) GROUP BY n, window_start EMIT CHANGES"}
        execute(service.database.insert, "words", [{"n": 1, "ts": "2026-05-01T12:00:00"}])
        with http.stream("POST", "/v1/query", json=asked, headers={"accept": "text/event-stream"}) as follower:
            events = follower.iter_text()
            assert next(events).startswith("event: query")
            for method, path, more, status in SUCCESSES:
                response = http.request(method, path, **more)
                assert response.status_code == status, (path, response.text)
                name = path.replace("/words", "/{name}").replace("/nowhere", "/{name}").replace("/q1", "/{id}")
                schema[name][method].validate_response(schemathesis.Response.from_any(response))


def test_tokens(tmp_path: Path) -> None:
    """With tokens the document says which right each route needs, and what comes without."""
    token, line = make_token("reader", "read")
    (tmp_path / "tokens").write_text(line)
    with in_background(tokens=read_tokens(tmp_path / "tokens")) as service, httpx.Client(base_url=service.url, trust_env=False) as http:
        said = http.get("/openapi.json").json()
        assert said["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
        for path, operations in said["paths"].items():
            for method, operation in operations.items():
                is_open = "security" not in operation
                there = path.format(name="x", id="q7")
                assert (http.request(method, there).status_code == 401) != is_open
                with_token = http.request(method, there, headers={"authorization": f"Bearer {token}"}).status_code
                assert (with_token == 403) == (operation.get("x-streamq-right") in ("write", "admin"))
                assert is_open or {"401", "403"} <= operation["responses"].keys()
