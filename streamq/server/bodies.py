"""The bodies of requests, as they come: what has been begun must go on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import anyio
from starlette.requests import Request

from streamq.server.refusals import Stalled, TooLarge


async def pieces_of(request: Request, stall_s: float, must_go_on: Callable[[], bool]) -> AsyncGenerator[bytes]:
    """Read a request's body piece by piece. Between what `must_go_on`, it may pause for as long as it likes.

    Raises:
        Stalled: nothing of it came for `stall_s`.
        ClientDisconnect: the client has left.
    """
    async with aclosing(request.stream()) as body:
        while True:
            with anyio.move_on_after(stall_s if must_go_on() else None) as patience:
                piece = await anext(body, None)
            if patience.cancelled_caught:
                raise Stalled(f"nothing more of what was being sent came for {stall_s} s (stall_s): send it again")
            if piece is None:
                return
            yield piece


async def read_body(request: Request, max_bytes: int, stall_s: float) -> bytes:
    """Read a request's body whole.

    Raises:
        TooLarge: it has more than `max_bytes`.
        Stalled: nothing of it came for `stall_s`.
        ClientDisconnect: the client has left.
    """
    pieces: list[bytes] = []
    size = 0
    async with aclosing(pieces_of(request, stall_s, lambda: True)) as body:
        async for piece in body:
            size += len(piece)
            if size > max_bytes:
                raise TooLarge(
                    f"the request is larger than the {max_bytes:,} bytes that this service takes (max_request_bytes): "
                    "send rows to /v1/relations/NAME/rows"
                )
            pieces.append(piece)
    return b"".join(pieces)
