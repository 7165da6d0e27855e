"""What all requests share: the database, the limits, and the queries that are being answered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import anyio

from streamq.database import Database
from streamq.errors import ConnectionLost, ResourceLimit, StreamqError
from streamq.execution.stream import QueryBatchStream


@dataclass(frozen=True, slots=True)
class Limits:
    """What one service takes.

    `max_request_bytes` bounds a request in JSON, `max_insert_bytes` the rows that are written at once (a batch, or the table of an insert
    that is atomic), `max_register_bytes` an uploaded relation. `max_queries` are answered at a time.
    """

    max_request_bytes: int = 4 << 20
    max_insert_bytes: int = 256 << 20
    max_register_bytes: int = 1 << 30
    max_queries: int = 2_000

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")


class Answer(Protocol):
    """A query that is being answered."""

    stream: QueryBatchStream
    query_id: str | None
    """Known once the query has started."""

    def end(self, reason: StreamqError) -> None:
        """Stop: the client gets `reason` in place of what is left."""


class Service:
    """Made for one database, which is given or opened when the application starts."""

    def __init__(self, database: Database | None, limits: Limits) -> None:
        self.limits = limits
        self._database = database
        self._answers: dict[int, Answer] = {}
        self._stopping = False
        self._changed = anyio.Event()

    @property
    def database(self) -> Database:
        """The database.

        Raises:
            ConnectionLost: it is not open yet, or no longer.
        """
        if self._database is None:
            raise ConnectionLost("the service has not opened its database")
        return self._database

    @database.setter
    def database(self, database: Database | None) -> None:
        self._database = database

    @property
    def ready(self) -> bool:
        """Requests are welcome."""
        return self._database is not None and not self._stopping

    @contextmanager
    def answering(self, answer: Answer) -> Iterator[None]:
        """Count a query from before its start until nothing of it is left.

        Raises:
            ConnectionLost: the service is shutting down.
            ResourceLimit: as many are being answered as may be.
        """
        if self._stopping:
            raise ConnectionLost("the service is shutting down")
        if len(self._answers) >= self.limits.max_queries:
            raise ResourceLimit(f"{self.limits.max_queries} queries are being answered, which is the limit (max_queries); try again later")
        self._answers[id(answer)] = answer
        try:
            yield
        finally:
            del self._answers[id(answer)]
            self._changed.set()

    def stream(self, query_id: str) -> QueryBatchStream | None:
        """Give the stream of a query that is being answered."""
        return next((answer.stream for answer in self._answers.values() if answer.query_id == query_id), None)

    async def drain(self, grace_s: float) -> None:
        """Take no more queries, and wait until those that run are answered. After `grace_s` they are ended, and their clients told."""
        self._stopping = True
        with anyio.move_on_after(grace_s):
            await self._wait_idle()
        for answer in list(self._answers.values()):
            answer.end(ConnectionLost("the service was shut down before the query had completed"))
        with anyio.move_on_after(grace_s):
            await self._wait_idle()

    async def _wait_idle(self) -> None:
        while self._answers:
            self._changed = anyio.Event()
            await self._changed.wait()
