"""The log of a service: a record for each request that was answered or refused, and how records are written.

Records have the path of a request without what follows it, and never a header: nothing secret is in them. What a query did is in the
records ``query_started`` and ``query_…`` of the database, under the same `query_id`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from starlette.types import Scope

from streamq.config.service import LogFormat, LogLevel
from streamq.metrics.logs import JsonFormatter

LOGGER = logging.getLogger("streamq.server")
STATUS = "streamq.status"
"""Where a request's scope has the status of its answer, once that has begun."""
_NOTES = "streamq.notes"
_QUIET = frozenset({"/healthz", "/readyz", "/metrics"})
"""What is asked for every few seconds."""
_REFUSED = frozenset({401, 403, 408, 413, 421, 429})
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "event"}


def begin_notes(scope: Scope) -> None:
    """Take notes of a request from now on."""
    scope[_NOTES] = {}


def note(scope: Scope, **fields: object) -> None:
    """Add fields to the record of a request. None is left out."""
    scope.get(_NOTES, {}).update((name, value) for name, value in fields.items() if value is not None)


class TextFormatter(logging.Formatter):
    """Formats a record for people and grep: time (UTC), level, message, then its fields as ``name=value``."""

    def format(self, record: logging.LogRecord) -> str:
        """Give the record's line, without its end."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        fields = {name: value for name, value in vars(record).items() if name not in _STANDARD and value not in (None, [], "")}
        message = record.getMessage().replace("\n", "\\n")
        line = " ".join([at, record.levelname.lower(), message, *(f"{name}={_quoted(value)}" for name, value in fields.items())])
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


@contextmanager
def logging_to_stderr(form: LogFormat, level: LogLevel) -> Iterator[None]:
    """Write the log of streamq to standard error."""
    logger, handler = logging.getLogger("streamq"), logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    before = logger.level
    logger.setLevel(level.upper())
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


def log_request(scope: Scope, status: int, elapsed_s: float) -> None:
    """Write the record of a request that has ended; status 0 is one whose client did not wait for the answer."""
    method, path = scope["method"], scope["path"]
    refused = status in _REFUSED
    quiet = logging.DEBUG if path in _QUIET else logging.INFO
    level = logging.WARNING if refused or status >= 500 else quiet
    if not LOGGER.isEnabledFor(level):
        return
    client = scope.get("client")
    fields: dict[str, Any] = {
        "event": "request_refused" if refused else "request",
        "method": method,
        "path": path,
        "status": status,
        "elapsed_s": round(elapsed_s, 6),
        "client": None if client is None else client[0],
        **scope[_NOTES],
    }
    outcome = "was refused" if refused else "was answered" if status else "was left by its client"
    LOGGER.log(level, "%s %s %s", method, _quoted(path), outcome, extra=fields)


def _quoted(value: object) -> str:
    """Write a value so that it is one word, whatever a client put into it.

    >>> print(_quoted("q7"), _quoted("two words"), _quoted("a\\nb"), _quoted(0.5))
    q7 "two words" "a\\nb" 0.5
    """
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    plain = text.isprintable() and not any(mark in text for mark in ' "=')
    return text if plain else json.dumps(text)
