"""Requests to a service, and what becomes of them as errors of streamq."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any

import httpx

from streamq.errors import ConnectionLost, StreamqError
from streamq.wire import arrow
from streamq.wire.errors import error_of

CONNECT_TIMEOUT_S = 10.0
KEEP_ALIVE_S = 5.0
"""Shorter than servers keep an idle connection: none is reused that is just being closed."""


class Transport:
    """The connections to one service."""

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url.rstrip("/")
        headers = {"accept": f"{arrow.CONTENT_TYPE}, application/json"}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        self._client = _client(self.url, headers, kept=20)
        # Each upload has a connection of its own, see `_Body`.
        self._uploads = _client(self.url, headers, kept=0)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._client.aclose()
        await self._uploads.aclose()

    async def call(
        self,
        method: str,
        path: str,
        *,
        asked: Mapping[str, Any] | None = None,
        body: AsyncGenerator[bytes] | None = None,
        params: Mapping[str, str] | None = None,
        may_be_absent: bool = False,
    ) -> Any:
        """Make a request, and give its answer. `asked` is sent as JSON, `body` as an Arrow stream.

        With `may_be_absent` None says that there is nothing of this name.

        Raises:
            StreamqError: what the service refused the request with.
            ConnectionLost: no answer came.
        """
        response = await self.send(method, path, asked=asked, body=body, params=params, may_be_absent=may_be_absent)
        try:
            with self.failures():
                return None if response.is_error else json.loads(await response.aread())
        finally:
            await response.aclose()

    async def send(
        self,
        method: str,
        path: str,
        *,
        asked: Mapping[str, Any] | None = None,
        body: AsyncGenerator[bytes] | None = None,
        params: Mapping[str, str] | None = None,
        may_be_absent: bool = False,
    ) -> httpx.Response:
        """Do what `call()` does, but give the answer to be read as it comes; the caller closes it."""
        headers = {"content-type": arrow.CONTENT_TYPE} if body is not None else None
        request = self._client.build_request(method, path, json=asked, content=body, params=params, headers=headers)
        with self.failures():
            response = await self._client.send(request, stream=True) if body is None else await self._upload(request, body)
            if not response.is_error or (may_be_absent and response.status_code == httpx.codes.NOT_FOUND):
                return response
            try:
                text = await response.aread()
            finally:
                await response.aclose()
        raise _refusal(response.status_code, text)

    async def _upload(self, request: httpx.Request, body: AsyncGenerator[bytes]) -> httpx.Response:
        async with aclosing(body):
            request.stream = sent = _Body(body)
            request.extensions["trace"] = sent.notice_connection
            return await self._uploads.send(request, stream=True)

    @contextmanager
    def failures(self, doing: str = "") -> Iterator[None]:
        """Raise what goes wrong with a connection as ConnectionLost. `doing` says what is lost with it."""
        try:
            yield
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise ConnectionLost(f"cannot connect to {self.url}: {str(error) or 'no answer in time'}") from error
        except (httpx.TransportError, httpx.StreamError, json.JSONDecodeError) as error:
            raise ConnectionLost(f"the connection to {self.url} broke{doing}: {str(error) or type(error).__name__}") from error


class _Body(httpx.AsyncByteStream):
    """A body that is sent as it is made, until the service answers: it then wants no more, and says why."""

    def __init__(self, pieces: AsyncGenerator[bytes]) -> None:
        self._pieces = pieces
        self._connection: Any = None

    async def notice_connection(self, event: str, info: Mapping[str, Any]) -> None:
        """Be told by httpcore what it does."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._connection = info["return_value"]

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._connection is not None and self._connection.get_extra_info("is_readable"):
            raise StopAsyncIteration
        return await anext(self._pieces)


def _client(url: str, headers: Mapping[str, str], *, kept: int) -> httpx.AsyncClient:
    """Make a client that keeps so many idle connections."""
    return httpx.AsyncClient(
        base_url=url,
        headers=headers,
        # No limit on time: a query may have nothing to say for days, and an insert waits as long as its rows find no room.
        timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=kept, keepalive_expiry=KEEP_ALIVE_S),
        trust_env=False,
    )


def _refusal(status: int, text: bytes) -> Exception:
    try:
        record = json.loads(text)
    except (UnicodeDecodeError, json.JSONDecodeError):
        record = None
    if isinstance(record, dict) and "class" in record:
        return error_of(record)
    return StreamqError(f"the service answered with status {status}, not as streamq does")
