"""Holds the beginning of an answer back for a moment: one that is small and soon complete goes in one piece, with its length."""

from __future__ import annotations

from starlette.types import Message, Send

HOLD_BYTES = 64 << 10
"""More is sent at once: it is worth a message of its own."""
HOLD_S = 0.01
"""So long what has been held back may wait for what comes next."""


class HeldBack:
    """Sends an answer of ASGI. Until there is much of it, it is complete, or is told to be sent, nothing is sent."""

    __slots__ = ("_pieces", "_send", "_size", "_start", "holds")

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self.holds = True

    async def __call__(self, message: Message) -> None:
        """Take the next message. Later ones than those that were held back go straight on."""
        if self.holds and self._has_room(message):
            self._hold(message)
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                await self._send_whole()
            return
        await self.release()
        await self._send(message)

    async def release(self) -> None:
        """Send what is held back, and hold nothing back from now on."""
        # First of all, so that nothing is sent again by whoever stops this in the middle.
        self.holds = False
        start, self._start = self._start, None
        pieces, self._pieces = self._pieces, []
        if start is not None:
            await self._send(start)
        if pieces:
            await self._send({"type": "http.response.body", "body": b"".join(pieces), "more_body": True})

    def _has_room(self, message: Message) -> bool:
        return self._size + len(message.get("body", b"")) <= HOLD_BYTES

    def _hold(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
        else:
            self._pieces.append(message["body"])
            self._size += len(message["body"])

    async def _send_whole(self) -> None:
        assert self._start is not None, "an answer begins with its status"
        self.holds = False
        headers = [*self._start["headers"], (b"content-length", str(self._size).encode())]
        await self._send({**self._start, "headers": headers})
        await self._send({"type": "http.response.body", "body": b"".join(self._pieces), "more_body": False})
