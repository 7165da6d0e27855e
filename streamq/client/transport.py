"""Requests to a service, and what becomes of them as errors of streamq."""

from __future__ import annotations

import json
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from functools import lru_cache, partial
from typing import Any

import anyio
import httpx

from streamq.client.connections import Connections
from streamq.errors import ConnectionLost, StreamqError
from streamq.execution.freed_memory import expect_blocks
from streamq.flow.scopes import raising_one
from streamq.wire import arrow
from streamq.wire.errors import error_of

CONNECT_TIMEOUT_S = 5.0
BLOCK_BYTES = 8 << 20
"""The message of a batch of usual size, and what it is put together from, are no larger."""
MOST_ADDRESSES = 32
"""So many addresses are kept as they are taken apart."""
READING_TIMEOUT_S = 60.0
"""What only reads what a service knows is answered at once. Queries and writes may take days."""


class Transport:
    """The connections to one service.

    Raises:
        ValueError: `url` is no address of a service, `token` no token.
    """

    def __init__(self, url: str, token: str | None, tls: ssl.SSLContext | None = None) -> None:
        self.url = service = _checked(url)
        # To take one apart takes as long as to make the rest of a request.
        self._address = lru_cache(MOST_ADDRESSES)(lambda path: httpx.URL(service + path))
        if tls is None and self.url.startswith("https:"):
            tls = httpx.create_ssl_context(trust_env=False)
        self._headers = {"accept": f"{arrow.CONTENT_TYPE}, application/json", "user-agent": "streamq"}
        if token is not None:
            self._headers["authorization"] = f"Bearer {_checked_token(token)}"
        expect_blocks(BLOCK_BYTES)
        # Without httpx's client around them: what a client adds (redirects, cookies, sessions) no service of streamq asks for.
        self._connections = Connections(tls, kept=20, gathers=True)
        # Each upload has a connection of its own, see `_Body`.
        self._uploads = Connections(tls, kept=0)
        self._new_connection = partial(Connections, tls, kept=1)

    async def aclose(self) -> None:
        """Close every connection."""
        try:
            await self._connections.aclose()
        finally:
            await self._uploads.aclose()

    async def read(self, path: str, *, may_be_absent: bool = False) -> Any:
        """Ask for something that changes nothing, and ask once more where the connection breaks.

        Raises:
            StreamqError: what the service refused the request with.
            ConnectionLost: no answer came.
        """
        try:
            return await self.call("GET", path, may_be_absent=may_be_absent, timeout_s=READING_TIMEOUT_S)
        except ConnectionLost as error:
            if isinstance(error.__cause__, httpx.ConnectError | httpx.TimeoutException):
                raise
            return await self.call("GET", path, may_be_absent=may_be_absent, timeout_s=READING_TIMEOUT_S)

    async def call(self, method: str, path: str, *, lost: str = "", **request: Any) -> Any:
        """Make a request as `send()` does, and give its answer.

        Raises:
            StreamqError: what the service refused the request with.
            ConnectionLost: no answer came.
        """
        response = await self.send(method, path, lost=lost, **request)
        try:
            with self.failures(lost):
                if response.is_error:
                    return None
                text = await response.aread()
        finally:
            await response.aclose()
        try:
            return json.loads(text)
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise StreamqError(f"{self.url} answers, but not as streamq does: {error}") from error

    async def send(
        self,
        method: str,
        path: str,
        *,
        asked: Mapping[str, Any] | None = None,
        body: AsyncGenerator[bytes] | None = None,
        params: Mapping[str, str] | None = None,
        may_be_absent: bool = False,
        lost: str = "",
        timeout_s: float | None = None,
    ) -> httpx.Response:
        """Make a request, and give its answer to be read as it comes; the caller closes it. `asked` is sent as JSON, `body` as Arrow.

        With `may_be_absent` there may be nothing of this name: the answer is then an error. `lost` says what becomes of the request where
        the connection breaks.

        Raises:
            StreamqError: what the service refused the request with.
            ConnectionLost: no answer came.
        """
        content = _json(asked) if body is None else body
        request = self._request(method, path, content, params=params, timeout_s=timeout_s)
        with self.failures(lost):
            response = await self._connections.handle_async_request(request) if body is None else await self._upload(request, body)
            if not response.is_error or (may_be_absent and response.status_code == httpx.codes.NOT_FOUND):
                return response
            try:
                text = await response.aread()
            finally:
                await response.aclose()
        raise self._refusal(response.status_code, text)

    def _request(
        self,
        method: str,
        path: str,
        content: bytes | AsyncGenerator[bytes] = b"",
        *,
        params: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
    ) -> httpx.Request:
        extensions = {"timeout": httpx.Timeout(timeout_s, connect=CONNECT_TIMEOUT_S).as_dict()}
        headers = self._headers
        if content:
            headers = headers | {"content-type": "application/json" if isinstance(content, bytes) else arrow.CONTENT_TYPE}
        request = httpx.Request(method, self._address(path), params=params, headers=headers, content=content, extensions=extensions)
        if content and isinstance(content, bytes):
            request.stream = _Whole(content)
        return request

    async def _upload(self, request: httpx.Request, body: AsyncGenerator[bytes]) -> httpx.Response:
        responses: list[httpx.Response] = []
        with raising_one():
            async with aclosing(body), anyio.create_task_group() as tasks:
                request.stream = sent = _Body(body)
                tasks.start_soon(sent.watch, name="streamq: answer to an upload")
                responses.append(await self._send_watched(request, sent))
                tasks.cancel_scope.cancel()
        return responses[0]

    async def _send_watched(self, request: httpx.Request, sent: _Body) -> httpx.Response:
        if not self.url.startswith("https:"):
            request.extensions["trace"] = sent.notice_connection
            return await self._uploads.handle_async_request(request)
        # What a server sends of its own accord behind a handshake is no answer. It is read with the answer to another request.
        async with self._new_connection() as connection:
            first = await _read_whole(connection, self._request("GET", "/healthz", timeout_s=READING_TIMEOUT_S))
            sent.connected(first.extensions["network_stream"])
            request.extensions["trace"] = sent.notice_other_connection
            return await _read_whole(connection, request)

    @contextmanager
    def failures(self, lost: str = "") -> Iterator[None]:
        """Raise what goes wrong with a connection as ConnectionLost. `lost` says what is lost with it."""
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            reason = _reason(error) or "no answer in time"
            raise ConnectionLost(f"cannot connect to {self.url}: {reason}; is `streamq serve` running there?") from error
        except httpx.ReadTimeout as error:
            raise ConnectionLost(f"{self.url} did not answer within {READING_TIMEOUT_S:g} s") from error
        except (httpx.TransportError, httpx.StreamError) as error:
            reason = _reason(error) or type(error).__name__
            raise ConnectionLost(f"the connection to {self.url} broke{lost and f', and {lost}'}: {reason}") from error

    def _refusal(self, status: int, text: bytes) -> Exception:
        try:
            record = json.loads(text)
        except (UnicodeDecodeError, json.JSONDecodeError):
            record = None
        if isinstance(record, dict) and "class" in record:
            return error_of(record)
        return StreamqError(f"{self.url} answers with status {status}, and not as streamq does")


class _Body(httpx.AsyncByteStream):
    """A body that is sent as it is made, until the service answers: it then wants no more, and says why.

    That is noticed at once, however long the next piece is still waited for.
    """

    def __init__(self, pieces: AsyncGenerator[bytes]) -> None:
        self._pieces = pieces
        self._connection: Any = None
        self._connected = anyio.Event()
        self._answered = False
        self._waiting = anyio.CancelScope()

    def connected(self, connection: Any) -> None:
        """Say which connection of httpcore's it is that the body is sent on."""
        self._connection = connection
        self._connected.set()

    async def notice_connection(self, event: str, info: Mapping[str, Any]) -> None:
        """Be told by httpcore what it does: it connects."""
        if event == "connection.connect_tcp.complete":
            self.connected(info["return_value"])

    async def notice_other_connection(self, event: str, info: Mapping[str, Any]) -> None:
        """Be told by httpcore that it takes another connection after all, of which is not known when there is an answer on it."""
        if event == "connection.connect_tcp.started":
            self._connection, self._answered = None, False

    async def watch(self) -> None:
        """Wait for the answer, and tell who waits for the next piece."""
        await self._connected.wait()
        connection = self._connection
        # A descriptor of its own: an event loop lets only one wait for each.
        descriptor = connection.get_extra_info("socket").dup()
        try:
            await anyio.wait_readable(descriptor)
        finally:
            descriptor.close()
        if connection is self._connection:
            self._answered = True
            self._waiting.cancel()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._answered:
            with anyio.CancelScope() as self._waiting:
                return await anext(self._pieces)
        raise StopAsyncIteration


class _Whole(httpx.AsyncByteStream):
    """A body that is there. httpx would make it a generator, and leave that without an end where the connection breaks."""

    def __init__(self, data: bytes) -> None:
        self._data = [data]

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._data:
            raise StopAsyncIteration
        return self._data.pop()


def _checked(url: str) -> str:
    """Give the address as requests want it."""
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"{url!r} is no address of a service: {error}") from None
    if address.userinfo:
        raise ValueError("an address has neither user nor password: what the service asks for is `token`")
    if not address.host:
        raise ValueError(f"{url!r} is no address of a service, such as http://127.0.0.1:8471")
    return url.rstrip("/")


def _reason(error: BaseException) -> str:
    """Say what is behind an error of a connection: layers between say nothing, such as of certificates under trio."""
    while not str(error) and (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return str(error)


def _checked_token(token: str) -> str:
    """Give a token that can be sent. What is wrong is said without it, which whoever sends it would not do."""
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError("a token is letters, digits and signs, as `streamq token` makes it: nothing else, no space and no line end")
    return token


def _json(asked: Mapping[str, Any] | None) -> bytes:
    return b"" if asked is None else json.dumps(asked, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


async def _read_whole(connection: Connections, request: httpx.Request) -> httpx.Response:
    """Make a request, and read all of its answer."""
    response = await connection.handle_async_request(request)
    try:
        await response.aread()
    finally:
        await response.aclose()
    return response
