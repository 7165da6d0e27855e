"""The event loop's side of a service that a worker hosts."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import anyio

from streamq.errors import QueryCancelled, StreamqError
from streamq.execution.jobs import JobResult


class PooledService:
    """A service on a worker. `tell` gets every answer, pickled, and at last why it ended; it must not block."""

    def __init__(self, worker: int, send: Callable[[bytes], None], tell: Callable[[bytes | StreamqError], None]) -> None:
        self.worker = worker
        self.ended = anyio.Event()
        self._send = send
        self._tell = tell
        self._reason: StreamqError | None = None

    def call(self, request: object) -> None:
        """Ask something. May be called from any thread; answers come in the order of the calls."""
        self._send(pickle.dumps(request, pickle.HIGHEST_PROTOCOL))

    async def wait_ended(self) -> StreamqError:
        """Wait until the worker is done with it, and tell why."""
        await self.ended.wait()
        assert self._reason is not None
        return self._reason

    def answer(self, payload: bytes) -> None:
        self._tell(payload)

    def end(self, outcome: JobResult | StreamqError) -> None:
        self._reason = outcome if isinstance(outcome, StreamqError) else QueryCancelled("the service ended")
        self._tell(self._reason)
        self.ended.set()
