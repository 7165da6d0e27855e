"""Answers that are held back: in which messages they go, whole or not."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from starlette.types import Message

from streamq.server.held import HOLD_BYTES, HeldBack

pytestmark = pytest.mark.anyio
START: Message = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"a/b")]}


class Sent:
    """What was sent."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)


def body(data: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def sent(messages: Sequence[Message], *, then_release: bool = False) -> list[Message]:
    """Give what is sent of these messages, at last or, with `then_release`, once it must be."""
    sent = Sent()
    held = HeldBack(sent)
    for message in messages:
        await held(message)
    if then_release:
        await held.release()
    return sent.messages


async def test_a_small_answer_goes_in_one_piece() -> None:
    """Once it is complete, with its length."""
    start = {**START, "headers": [*START["headers"], (b"content-length", b"3")]}
    assert await sent([START, body(b"a"), body(b"b"), body(b"c", more=False)]) == [start, body(b"abc", more=False)]
    assert await sent([START, body(b"a"), body(b"b")]) == []


async def test_what_is_released_is_not_held_back_again() -> None:
    """What there is goes at once, and then each message as it comes."""
    assert await sent([START, body(b"a"), body(b"b")], then_release=True) == [START, body(b"ab")]
    assert await sent([START], then_release=True) == [START]
    sent_on = Sent()
    held = HeldBack(sent_on)
    await held(START)
    await held.release()
    await held(body(b"a"))
    await held(body(b"", more=False))
    assert sent_on.messages == [START, body(b"a"), body(b"", more=False)]
    assert not held.holds


@pytest.mark.parametrize("more", [True, False])
async def test_much_goes_at_once(more: bool) -> None:
    """What has no room with what is held back is sent behind it, as it is."""
    large = body(b"x" * HOLD_BYTES, more=more)
    assert await sent([START, body(b"a"), large]) == [START, body(b"a"), large]
