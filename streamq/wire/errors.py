"""Errors as JSON, and back as the class they were."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from streamq import errors
from streamq.errors import (
    ConnectionLost,
    DataError,
    QueryCancelled,
    QueryTimeout,
    ResourceLimit,
    ShardError,
    SourceError,
    SqlError,
    StreamError,
    StreamqError,
    StreamTruncated,
    Unauthorized,
    WorkerCrashed,
)

_STATUSES: tuple[tuple[type[Exception], int], ...] = (
    (SqlError, 400),
    (ValueError, 400),
    (StreamTruncated, 400),
    (Unauthorized, 401),
    (QueryCancelled, 409),
    (SourceError, 422),
    (DataError, 422),
    (QueryTimeout, 504),
    (WorkerCrashed, 503),
    (ConnectionLost, 503),
    (StreamError, 503),
)


def status_of(error: Exception) -> int:
    """Give the HTTP status of a request that ended with an error.

    >>> status_of(SourceError("rows do not fit")), status_of(StreamqError("no idea"))
    (422, 500)
    """
    if isinstance(error, ResourceLimit):
        # Others have to finish first; or there is no room, however often it is tried.
        return 429 if error.retryable else 507
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)


def error_record(error: Exception) -> dict[str, Any]:
    """Write an error as JSON can carry it. `message` is the text without its decoration."""
    record: dict[str, Any] = {"class": _class_name(error), "message": str(error), "retryable": getattr(error, "retryable", False)}
    match error:
        case SqlError():
            record |= {"message": error.message, "sql": error.sql, "line": error.line, "column": error.column, "hint": error.hint}
        case ShardError():
            record["shard"] = error.shard
    return record


def error_of(record: Mapping[str, Any]) -> Exception:
    """Make the error that a record tells of. A class that this version does not know is a plain StreamqError.

    >>> error_of({"class": "BindError", "message": "no column x", "line": 1, "column": 8})
    BindError('no column x')
    """
    name, message = record.get("class"), str(record.get("message", "the service gave no reason"))
    if name == "ValueError":
        return ValueError(message)
    kind = next((kind for kind in _tree(StreamqError) if kind.__name__ == name), StreamqError)
    if issubclass(kind, SqlError):
        return kind(message, **{key: record.get(key) for key in ("sql", "line", "column", "hint")})
    if issubclass(kind, ShardError):
        return kind(message, shard=str(record.get("shard")))
    if issubclass(kind, ResourceLimit):
        return kind(message, retryable=record.get("retryable") is True)
    return kind(message)


def _class_name(error: Exception) -> str:
    """Name the class that a client knows: the nearest one of `streamq.errors`, or ValueError."""
    known = (kind.__name__ for kind in type(error).__mro__ if kind.__module__ == errors.__name__ or kind is ValueError)
    return next(known, type(error).__name__)


def _tree(kind: type[StreamqError]) -> Iterator[type[StreamqError]]:
    """Walk the classes of `streamq.errors`, not those that others derived."""
    if kind.__module__ == errors.__name__:
        yield kind
        for child in kind.__subclasses__():
            yield from _tree(child)
