"""Requests in JSON: the SQL, its parameters and the options that they may have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import anyio.to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request

from streamq.config.service import Limits
from streamq.server.bodies import read_body
from streamq.server.refusals import TooLarge
from streamq.server.responses import INLINE_BYTES

JSON = "application/json"

Options = Mapping[str, type]
EXECUTE_OPTIONS: Options = {}
EXPLAIN_OPTIONS: Options = {"analyze": bool}
STREAM_OPTIONS: Options = {"timeout": float, "batch_rows": int, "epoch_rows": int, "partitions": int, "progress": bool}
QUERY_OPTIONS: Options = {**STREAM_OPTIONS, "snapshot": bool}
"""The options of each kind of request, by name, with the types of their values."""

_SAID: Mapping[type, str] = {bool: "true or false", int: "a whole number", float: "a number"}
_STATEMENT = frozenset({"sql", "params", "params_arrow", "params_named"})


def content_type(request: Request) -> str:
    """Give the type of a request's body, without its parameters.

    Raises:
        HTTPException: the body is compressed. How large it is would be known too late.
    """
    if request.headers.get("content-encoding", "identity") != "identity":
        raise HTTPException(415, "send the body as it is: compressed ones are not taken")
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def asked(request: Request, limits: Limits, options: Options) -> dict[str, Any]:
    """Read a request in JSON: `sql`, parameters, and options of these types.

    Raises:
        HTTPException, ValueError: it is none, or has other members.
        TooLarge: it is larger than the service takes, or its SQL is.
        Stalled: it stopped in the middle.
    """
    if content_type(request) != JSON:
        sent = content_type(request) or "none"
        raise HTTPException(415, f'send {{"sql": "…", "params": […]}} with the content type {JSON}, not {sent}')
    body = await read_body(request, limits.max_request_bytes, limits.stall_s)
    said = await anyio.to_thread.run_sync(_object, body) if len(body) > INLINE_BYTES else _object(body)
    length = len(said["sql"].encode())
    if length > limits.max_sql_bytes:
        raise TooLarge(
            f"the SQL has {length:,} bytes, and this service takes {limits.max_sql_bytes:,} (max_sql_bytes): "
            "send rows to /v1/relations/NAME/rows, and values as params"
        )
    unknown = said.keys() - _STATEMENT - options.keys()
    if unknown:
        known = ", ".join(("sql", "params", *options))
        raise ValueError(f"the request has unknown members: {', '.join(sorted(unknown))}; it may have {known}")
    for name, kind in options.items():
        value = said.get(name)
        fits = isinstance(value, int | float if kind is float else kind) and isinstance(value, bool) == (kind is bool)
        if value is not None and not fits:
            raise ValueError(f"{name} must be {_SAID[kind]}, not {value!r}")
    return said


def _object(body: bytes) -> dict[str, Any]:
    try:
        said = json.loads(body)
        # JSON can name half of a surrogate pair, which is no character: nothing behind here could write it.
        json.dumps(said, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the request is no JSON: {error}") from None
    if not isinstance(said, dict) or not isinstance(said.get("sql"), str):
        raise ValueError('the request is no object with the member "sql", a text')
    return said
