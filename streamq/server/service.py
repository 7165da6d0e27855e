"""What all requests share: the database, the limits, who may come in, and what is being answered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol

import anyio

from streamq.config.service import Limits
from streamq.config.tokens import Caller, Tokens
from streamq.engine import EmbeddedDatabase
from streamq.errors import ConnectionLost, ResourceLimit, StreamqError
from streamq.execution.statistics import QueryStatistics
from streamq.metrics.requests import Requests
from streamq.server.rights import StatementRights

PIECE_BYTES = 512 << 10
"""What a server of HTTP is given to send at once. It copies it, and may not be able to stop in the middle of it. The memory of larger
pieces goes back to the system and comes again with each of them, unless the process is told to keep it."""


class Answer(Protocol):
    """A query that is being answered."""

    @property
    def caller(self) -> Caller:
        """Who asked."""

    def end(self, reason: StreamqError) -> None:
        """Stop: the client gets `reason` in place of what is left."""

    async def statistics(self) -> QueryStatistics | None:
        """Tell what the query has done, once it has started."""


@dataclass(frozen=True, slots=True)
class InStatement:
    """A query that a statement runs, whose result is nobody's: that of INSERT … SELECT or of EXPLAIN ANALYZE."""

    caller: Caller

    def end(self, reason: StreamqError) -> None:
        """Do nothing: it ends with its request."""

    async def statistics(self) -> None:
        """Have nothing to tell: the statement says what it did."""


class Service:
    """Made for one database, which is given or opened when the application starts.

    `tokens` are who may use it, None for everybody who calls it by one of `hosts` or by a name of this machine's own. They may be
    replaced at any time.
    """

    def __init__(self, database: EmbeddedDatabase | None, limits: Limits, tokens: Tokens | None = None, hosts: Iterable[str] = ()) -> None:
        self.limits = limits
        self.tokens = tokens
        self.hosts = frozenset(host.lower() for host in hosts)
        self.piece_bytes = PIECE_BYTES
        self.stopping = False
        self._database = database
        self._answers: dict[int, Answer] = {}
        self._queries: dict[str, Answer] = {}
        self._callers: Counter[str] = Counter()
        self.requests = Requests()
        self.rights = StatementRights()
        # One that is as large as it may be always has room.
        self._upload_bytes = max(limits.max_upload_bytes, limits.max_insert_bytes, limits.max_register_bytes)
        self._work: set[anyio.CancelScope] = set()
        self._changed = anyio.Event()

    @property
    def database(self) -> EmbeddedDatabase:
        """The database.

        Raises:
            ConnectionLost: it is not open yet, or no longer.
        """
        if self._database is None:
            raise ConnectionLost("the service has not opened its database")
        return self._database

    @database.setter
    def database(self, database: EmbeddedDatabase | None) -> None:
        self._database = database

    @property
    def ready(self) -> bool:
        """Requests are welcome."""
        return self._database is not None and not self.stopping

    @property
    def running(self) -> int:
        """How many requests are being worked for."""
        return len(self._answers) + len(self._work)

    def answering(self, answer: Answer) -> _Answering:
        """Count a query from before its start until nothing of it is left, and give what is told its id.

        Raises:
            ConnectionLost: the service is shutting down.
            ResourceLimit: as many are being answered as may be.
        """
        return _Answering(self, answer)

    def begin(self, answer: Answer) -> None:
        """Begin to count a query. See `answering`."""
        if self.stopping:
            raise ConnectionLost("the service is shutting down")
        name = answer.caller.name
        self._check_number(name)
        self._answers[id(answer)] = answer
        self._callers[name] += 1

    def began(self, answer: Answer, query_id: str) -> None:
        """Know a query by its id from now on."""
        self._queries[query_id] = answer

    def ended(self, answer: Answer, query_id: str | None) -> None:
        """Forget a query."""
        if query_id is not None:
            del self._queries[query_id]
        del self._answers[id(answer)]
        self._callers -= Counter((answer.caller.name,))
        self._changed.set()

    @contextmanager
    def statement(self, caller: Caller, told: Callable[[str], None]) -> Iterator[EmbeddedDatabase]:
        """Give the database for one statement of a caller. The queries that it runs are counted until the block ends, their ids told.

        Raises:
            ConnectionLost, ResourceLimit: from the statement, as from `answering`.
        """
        with ExitStack() as counted:

            def begin(query_id: str) -> None:
                counted.enter_context(self.answering(InStatement(caller)))(query_id)
                told(query_id)

            yield self.database.as_used_by(begin, lambda query_id: self.sees(caller, query_id))

    @contextmanager
    def working(self) -> Iterator[anyio.CancelScope]:
        """Count a request that is no query. Its scope is cancelled where a shutdown has no more time for it."""
        with anyio.CancelScope() as scope:
            self._work.add(scope)
            try:
                yield scope
            finally:
                self._work.remove(scope)
                self._changed.set()

    @contextmanager
    def uploading(self) -> Iterator[Callable[[int], None]]:
        """Count the bytes that an upload holds in memory, and give what is told how many these are now.

        Raises:
            ResourceLimit: from that, where all uploads together hold as much as they may.
        """
        held = 0

        def hold(size: int) -> None:
            nonlocal held
            if size - held > self._upload_bytes:
                raise ResourceLimit(
                    f"other uploads hold the {self.limits.max_upload_bytes:,} bytes that this service has for them (max_upload_bytes); "
                    "try again later",
                    retryable=True,
                )
            self._upload_bytes -= size - held
            held = size

        try:
            yield hold
        finally:
            self._upload_bytes += held

    def answer(self, query_id: str) -> Answer | None:
        """Give a query that is being answered."""
        return self._queries.get(query_id)

    def sees(self, caller: Caller, query_id: str) -> bool:
        """Tell whether a query is a caller's own, or it may see those of others."""
        answer = self._queries.get(query_id)
        return caller.may("admin") or (answer is not None and answer.caller.name == caller.name)

    async def drain(self, grace_s: float) -> None:
        """Take nothing new, and wait until what runs is done. After `grace_s` it is ended, and the clients told."""
        self.stopping = True
        with anyio.move_on_after(grace_s):
            await self._wait_idle()
        for answer in list(self._answers.values()):
            answer.end(ConnectionLost("the service was shut down before the query had completed"))
        for scope in list(self._work):
            scope.cancel()
        with anyio.move_on_after(grace_s):
            await self._wait_idle()

    def _check_number(self, name: str) -> None:
        limits = self.limits
        if len(self._answers) >= limits.max_queries:
            raise ResourceLimit(
                f"{limits.max_queries} queries are being answered, which is the limit (max_queries); try again later", retryable=True
            )
        if limits.max_queries_per_token is not None and self._callers[name] >= limits.max_queries_per_token:
            raise ResourceLimit(
                f"{limits.max_queries_per_token} queries of this token are being answered, which is the limit (max_queries_per_token); "
                "try again when one of them has ended",
                retryable=True,
            )

    async def _wait_idle(self) -> None:
        while self._answers or self._work:
            self._changed = anyio.Event()
            await self._changed.wait()


class _Answering:
    """What `Service.answering` gives. A follower has one for as long as it follows."""

    __slots__ = ("_answer", "_query_id", "_service")

    def __init__(self, service: Service, answer: Answer) -> None:
        self._service = service
        self._answer = answer
        self._query_id: str | None = None

    def __enter__(self) -> Callable[[str], None]:
        self._service.begin(self._answer)
        return self._began

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._service.ended(self._answer, self._query_id)

    def _began(self, query_id: str) -> None:
        self._query_id = query_id
        self._service.began(self._answer, query_id)
