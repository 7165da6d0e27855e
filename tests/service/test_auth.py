"""Who may use the service: tokens and their rights, the names that it answers to, pages of other sites."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pyarrow as pa
import pytest

import streamq
from streamq.config.tokens import Tokens, WrongTokens, make_token, read_tokens
from streamq.server import app, check_reach, listen, serve
from tests.service.conftest import serving

pytestmark = pytest.mark.anyio
ROWS = {"content-type": "application/x-ndjson"}
PASSWORDS = {right: make_token(f"{right}er", right) for right in ("read", "write", "admin")}


@pytest.fixture(scope="module")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Who may come in does not depend on the event loop."""
    return "asyncio", {"debug": False}


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    path = tmp_path / "tokens"
    path.write_text("# who\n\n" + "\n".join(line for _, line in PASSWORDS.values()))
    return read_tokens(path)


@pytest.fixture
async def url(home: streamq.Database, tokens: Tokens) -> AsyncIterator[str]:
    """The address of a service of `home` that asks for tokens."""
    await home.execute("CREATE SOURCE events (n BIGINT)")
    async with serving(app(home, tokens=tokens)) as address:
        yield address


def client(url: str, right: str | None = None) -> httpx.AsyncClient:
    headers = {} if right is None else {"authorization": f"Bearer {PASSWORDS[right][0]}"}
    return httpx.AsyncClient(base_url=url, headers=headers, trust_env=False)


# Tokens


async def test_nothing_without_a_token(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """None, a wrong one and none at all get the same answer, whatever they ask for; only whether it lives is open. Logs know no tokens."""
    caplog.set_level(logging.DEBUG, "streamq")
    good = PASSWORDS["admin"][0]
    given = [None, "Bearer", "Bearer x", f"Basic {good}", f"Bearer {good[:-1]}", f"Bearer {good}x", "Bearer é".encode(), good]
    asked = [("GET", "/v1/relations"), ("POST", "/v1/query"), ("GET", "/metrics"), ("GET", "/nowhere"), ("OPTIONS", "/v1/query")]
    async with client(url) as http:
        for value in given:
            headers = {} if value is None else {b"authorization": value if isinstance(value, bytes) else value.encode()}
            answers = [await http.request(method, path, headers=headers) for method, path in asked]
            assert {(answer.status_code, answer.headers["www-authenticate"]) for answer in answers} == {(401, 'Bearer realm="streamq"')}
            assert {answer.text for answer in answers} == {
                '{"class":"Unauthorized","message":"the service needs a token that it knows, '
                'as in the header `Authorization: Bearer streamq_…`","retryable":false}'
            }
        assert [(await http.get(path)).status_code for path in ("/healthz", "/readyz")] == [200, 200]
    assert "request_refused" in {getattr(record, "event", None) for record in caplog.records}
    assert not any(good[:-1] in str(vars(record)) for record in caplog.records)


async def test_rights(url: str, home: streamq.Database) -> None:
    """Each right has what it says and what those before it have; the rest is 403, and says which right is missing."""
    rows = json.dumps({"n": 1}).encode()
    cases = [
        ("read", "POST", "/v1/query", "SELECT count(*) AS n FROM events"),
        ("write", "POST", "/v1/query", "SELECT n FROM events EMIT CHANGES LATE ROWS INTO late"),
        ("read", "POST", "/v1/explain", "SELECT n FROM events"),
        ("read", "POST", "/v1/execute", "SHOW RELATIONS"),
        ("read", "POST", "/v1/execute", "DESCRIBE events"),
        ("read", "POST", "/v1/execute", "EXPLAIN SELECT n FROM events"),
        ("write", "POST", "/v1/execute", "INSERT INTO events SELECT 1"),
        ("write", "POST", "/v1/execute", "EXPLAIN ANALYZE SELECT n FROM events EMIT CHANGES LATE ROWS INTO late"),
        ("admin", "POST", "/v1/execute", "CREATE TABLE users (id BIGINT, PRIMARY KEY (id))"),
        ("admin", "POST", "/v1/execute", "DROP TABLE IF EXISTS users"),
        ("write", "POST", "/v1/relations/events/rows", None),
        ("write", "POST", "/v1/relations/events/finish", None),
        ("write", "PUT", "/v1/relations/more", None),
        ("admin", "DELETE", "/v1/relations/more", None),
        ("read", "GET", "/v1/relations", None),
        ("read", "GET", "/v1/queries", None),
        ("read", "GET", "/v1/statistics", None),
        ("read", "GET", "/metrics", None),
        ("admin", "DELETE", "/nowhere", None),
    ]
    order = ["read", "write", "admin"]
    for right in order:
        async with client(url, right) as http:
            for needed, method, path, sql in cases:
                if sql is None:
                    answer = await http.request(method, path, content=rows if method == "POST" else b"", headers=ROWS)
                else:
                    answer = await http.request(method, path, json={"sql": sql})
                refused = order.index(needed) > order.index(right)
                assert (answer.status_code == 403) is refused, (right, method, path, sql, answer.text)
                if refused:
                    said = answer.json()
                    assert said["class"] == "Unauthorized"
                    assert said["message"] == f"this needs the right {needed}: the token '{right}er' has the right {right}"


async def test_own_queries_and_those_of_others(url: str, home: streamq.Database) -> None:
    """Whoever may read sees and ends what was asked with the same token, and finds no other; who may do anything, all."""
    async with (
        streamq.connect(url, token=PASSWORDS["read"][0]) as reader,
        streamq.connect(url, token=PASSWORDS["write"][0]) as writer,
        streamq.connect(url, token=PASSWORDS["admin"][0]) as admin,
    ):
        async with reader.query("SELECT n FROM events EMIT CHANGES") as stream:
            for one, seen in ((reader, [stream.query_id]), (writer, []), (admin, [stream.query_id])):
                assert [query.query_id for query in await one.queries()] == seen
                shown = (await one.execute("SHOW QUERIES")).table
                assert shown is not None
                assert [row["query_id"] for row in shown.to_pylist()] == seen
            async with client(url, "write") as http:
                for method in ("GET", "DELETE"):
                    others, nobodys = [await http.request(method, f"/v1/queries/{name}") for name in (stream.query_id, "q77")]
                    assert (others.status_code, nobodys.status_code) == (404, 404)
                    assert others.text == nobodys.text.replace("q77", stream.query_id)
            assert not await writer.cancel(stream.query_id)
            assert await reader.cancel(stream.query_id)
        async with reader.query("SELECT n FROM events EMIT CHANGES") as stream, client(url, "admin") as http:
            secrets = [secret for token, line in PASSWORDS.values() for secret in (token, line.rpartition(":")[2])]
            for path in ("/metrics", "/v1/queries", f"/v1/queries/{stream.query_id}", "/v1/statistics", "/v1/relations", "/openapi.json"):
                answer = await http.get(path)
                assert (answer.status_code, any(secret in answer.text for secret in secrets)) == (200, False)
            assert await admin.cancel(stream.query_id)
            with pytest.raises(streamq.QueryCancelled):
                await anext(stream)


async def test_the_client(url: str) -> None:
    """A token that the service does not know is Unauthorized, and one that is none is refused before anything is sent."""
    async with streamq.connect(url, token=PASSWORDS["read"][0]) as db:
        assert (await db.fetch("SELECT 42 AS answer")).to_pylist() == [{"answer": 42}]
        with pytest.raises(streamq.Unauthorized, match="needs the right write"):
            await db.insert("events", [{"n": 1}])
        with pytest.raises(streamq.Unauthorized, match="needs the right admin"):
            await db.execute("DROP SOURCE events")
    for token in (None, "streamq_wrong"):
        async with streamq.connect(url, token=token) as db:
            with pytest.raises(streamq.Unauthorized, match="needs a token"):
                await db.fetch("SELECT 1")
            with pytest.raises(streamq.Unauthorized):
                await db.insert("events", pa.table({"n": [1]}))
    for token in ("se\ncret", "sé", ""):
        with pytest.raises(ValueError, match="a token is") as wrong:
            streamq.connect(url, token=token)
        assert not token or token not in str(wrong.value)


# The file


async def test_token_files(tmp_path: Path) -> None:
    """What is wrong is said with the line, but never what is in it."""
    path = tmp_path / "tokens"
    token, line = make_token("ops", "read")
    for text, message in [
        ("", "has no token"),
        (f"ops:read:{token}", "line 1 is not NAME:RIGHTS:HASH"),
        (line.replace(":read:", ":root:"), "line 1 is not"),
        (line.replace("ops", "o ps"), "line 1 is not"),
        (f"{line}\n{line}", "line 2: there is another token 'ops'"),
    ]:
        path.write_text(text)
        with pytest.raises(WrongTokens, match=message) as wrong:
            read_tokens(path)
        assert str(path) in str(wrong.value)
        assert token not in str(wrong.value)
    path.write_text(line)
    tokens = read_tokens(path)
    assert (tokens.find(token), tokens.find(token + "x"), tokens.find("")) == (tokens._tokens[0].caller, None, None)
    assert line[-64:] not in repr(tokens._tokens)
    with pytest.raises(ValueError, match="the name of a token"):
        make_token("o:ps", "read")


# Browsers


async def test_pages_of_other_sites(home: streamq.Database) -> None:
    """Neither a form of theirs nor a name of theirs for this machine gets through; the service's own pages and programs do."""
    async with serving(app(home, hosts=["sql.example"])) as url, client(url) as http:
        port = url.rpartition(":")[2]
        answers = [
            ({"origin": "https://evil.example"}, 403),
            ({"origin": "null"}, 403),
            ({"sec-fetch-site": "cross-site"}, 403),
            ({"sec-fetch-site": "same-site", "origin": url}, 403),
            ({"origin": url, "sec-fetch-site": "same-origin"}, 200),
            ({"origin": url}, 200),
            ({"sec-fetch-site": "none"}, 200),
            ({"host": f"evil.example:{port}", "sec-fetch-site": "same-origin"}, 421),
            ({"host": "127.0.0.1.evil.example"}, 421),
            ({"host": f"localhost:{port}"}, 200),
            ({"host": f"[::1]:{port}"}, 200),
            ({"host": "SQL.example"}, 200),
        ]
        for headers, status in answers:
            answer = await http.post("/v1/query", json={"sql": "SELECT 1 AS one"}, headers=headers)
            assert (answer.status_code, headers) == (status, headers)
        # A link of another site may lead to what is open.
        assert (await http.get("/healthz", headers={"sec-fetch-site": "cross-site", "host": "evil.example"})).status_code == 200
        # Nobody is told that other sites may read.
        assert "access-control-allow-origin" not in (await http.get("/v1/relations", headers={"origin": url})).headers


async def test_with_a_token_any_name_will_do(url: str) -> None:
    """A page that was given another name has no token."""
    async with client(url, "read") as http:
        assert (await http.get("/v1/relations", headers={"host": "db.example"})).status_code == 200


# Other machines


async def test_only_this_machine_without_tokens_and_encryption(home: streamq.Database, tokens: Tokens) -> None:
    """What else is refused says what it needs."""
    for host in ("localhost", "127.0.0.1", "::1"):
        check_reach(host, has_tokens=False, has_tls=False, insecure=False)
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org", ""):
        with pytest.raises(ValueError, match="without tokens: `streamq token"):
            check_reach(host, has_tokens=False, has_tls=True, insecure=True)
        with pytest.raises(ValueError, match=r"without HTTPS, .* --insecure"):
            check_reach(host, has_tokens=True, has_tls=False, insecure=False)
        check_reach(host, has_tokens=True, has_tls=True, insecure=False)
        check_reach(host, has_tokens=True, has_tls=False, insecure=True)
    for application, message in [(app(home), "without tokens"), (app(home, tokens=tokens), "without HTTPS")]:
        with listen("0.0.0.0", 0) as listener, pytest.raises(ValueError, match=message):
            await serve(application, listener)
    with anyio.fail_after(60):
        await serve(app(home, tokens=tokens), listen("0.0.0.0", 0), insecure=True, until=anyio.lowlevel.checkpoint)
