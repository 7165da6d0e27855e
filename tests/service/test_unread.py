"""Requests that are answered before they were read to their end."""

from __future__ import annotations

import anyio
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Message

from streamq.server.unread import ReadToTheEnd
from tests.service.conftest import PATIENCE_S

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("leaves", [False, True])
async def test_a_server_that_waits_for_the_rest_to_be_read(leaves: bool) -> None:
    """It can be given each part of the answer all the same, whether the client waits for that or has left."""
    rest: list[Message] = [{"type": "http.request", "body": b"x", "more_body": place > 0 or leaves} for place in range(20)]
    sent: list[Message] = []
    all_read, left = anyio.Event(), anyio.Event()

    async def receive() -> Message:
        if rest:
            return rest.pop()
        all_read.set()
        if not leaves:
            await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        await all_read.wait()
        sent.append(message)

    with anyio.fail_after(PATIENCE_S):
        await ReadToTheEnd(PlainTextResponse("no"))({"type": "http", "method": "POST"}, receive, send)
    assert b"".join(message.get("body", b"") for message in sent) == b"no"
