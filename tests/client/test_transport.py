"""What the client does when the service does not answer: what is asked again, and what the errors say."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import anyio.abc
import pytest

import streamq

pytestmark = pytest.mark.by_turns

ANSWER = b"HTTP/1.1 %s OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"


@dataclass
class Broken:
    """A service that closes its first `breaks` connections once it was asked something, and then answers `body` to all."""

    breaks: int = 0
    status: bytes = b"200"
    body: bytes = b"[]"
    asked: list[str] = field(default_factory=list)

    async def __call__(self, client: anyio.abc.SocketStream) -> None:
        async with client:
            head = b""
            while b"\r\n\r\n" not in head:
                head += await client.receive()
            self.asked.append(head.split(b" HTTP")[0].decode())
            if len(self.asked) > self.breaks:
                await client.send(ANSWER % (self.status, len(self.body), self.body))


@asynccontextmanager
async def at(service: Callable[[anyio.abc.SocketStream], Awaitable[None]]) -> AsyncIterator[streamq.Database]:
    """Connect to a service of this kind."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, service)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with streamq.connect(f"http://127.0.0.1:{port}") as db:
            yield db
        tasks.cancel_scope.cancel()


Use = Callable[[streamq.Database], Awaitable[object]]
WRITES: list[tuple[str, Use, str]] = [
    ("execute", lambda db: db.execute("DELETE FROM t"), "broke, and whether it was done is not known"),
    ("finish", lambda db: db.finish("t"), "broke, and whether it was done is not known"),
    ("unregister", lambda db: db.unregister("t"), "broke, and whether it was done is not known"),
    ("query", lambda db: db.fetch("SELECT 1"), "broke, and the query, if it had begun, ends with it"),
]


@pytest.mark.anyio
@pytest.mark.parametrize("reading", ["relations", "queries"])
async def test_what_only_reads_is_asked_again_once(reading: str) -> None:
    """Where the connection breaks before there was an answer; a second break is an error."""
    for breaks, requests in ((1, 2), (2, 2)):
        service = Broken(breaks)
        async with at(service) as db:
            if breaks == 1:
                assert await getattr(db, reading)() == ()
            else:
                with pytest.raises(streamq.ConnectionLost, match="broke: "):
                    await getattr(db, reading)()
        assert service.asked == [f"GET /v1/{reading}"] * requests


@pytest.mark.anyio
@pytest.mark.parametrize("case", WRITES, ids=lambda case: case[0])
async def test_what_writes_is_asked_once(case: tuple[str, Use, str]) -> None:
    """It may have been done: the error says what is known."""
    _, use, message = case
    service = Broken(breaks=9)
    async with at(service) as db:
        with pytest.raises(streamq.ConnectionLost, match=message):
            await use(db)
    assert len(service.asked) == 1


@pytest.mark.anyio
@pytest.mark.parametrize(
    "case",
    [(b"200", b"<html>", "not as streamq does"), (b"502", b"<html>", "status 502, and not as streamq does")],
    ids=["success", "failure"],
)
async def test_another_service_is_not_taken_for_streamq(case: tuple[bytes, bytes, str]) -> None:
    """Nor for a connection that broke."""
    status, body, message = case
    async with at(Broken(status=status, body=body)) as db:
        with pytest.raises(streamq.StreamqError, match=message) as failed:
            await db.relations()
    assert not isinstance(failed.value, streamq.ConnectionLost)


@pytest.mark.anyio
@pytest.mark.parametrize("size", [10, 100_000])
async def test_a_request_is_sent_whole(size: int) -> None:
    """The head of a small one comes with what it asks, that of a large one before it; nothing is left out."""
    pieces: list[bytes] = []

    async def service(client: anyio.abc.SocketStream) -> None:
        async with client:
            pieces.append(await client.receive())
            while not pieces[-1].endswith(b"}"):
                pieces.append(await client.receive())
            await client.send(ANSWER % (b"200", 2, b"[]"))

    async with at(service) as db:
        with pytest.raises(streamq.StreamqError):
            await db.fetch("SELECT ?", ["x" * size])
    head, _, body = b"".join(pieces).partition(b"\r\n\r\n")
    assert json.loads(body)["params"] == ["x" * size]
    assert f"content-length: {len(body)}".encode() in head.lower()
    assert (len(pieces) == 1) is (size < 1_000)


@pytest.mark.anyio
async def test_nobody_there() -> None:
    """The error names the address, and what should be there."""
    with pytest.raises(streamq.ConnectionLost, match=r"cannot connect to http://127.0.0.1:1: .*is `streamq serve` running there"):
        async with streamq.connect("http://127.0.0.1:1") as db:
            await db.relations()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://", "no address of a service, such as"),
        ("http://a:b:c", "no address of a service"),
        ("http://me:secret@localhost:8471", "neither user nor password"),
    ],
)
def test_addresses(url: str, message: str) -> None:
    """What is none is refused at once; a password in one is not repeated."""
    with pytest.raises(ValueError, match=message) as refused:
        streamq.connect(url)
    assert "secret" not in str(refused.value)
