"""Every error that leaves streamq, as one tree.

::

    StreamqError
    ├── SqlError                  the text or its meaning is wrong; raised before anything runs
    │   ├── SqlSyntaxError
    │   ├── BindError             unknown names, wrong types, a clause that cannot apply
    │   └── UnsupportedError      valid SQL that streamq does not run (yet); the hint says what to write instead
    ├── QueryError                a query that had started, ended without completing
    │   ├── QueryCancelled
    │   ├── QueryTimeout
    │   ├── WorkerCrashed         (retryable)
    │   ├── DataError             an expression failed on a row: 1//0, a failed CAST
    │   ├── ShardError            names the shard and the cause
    │   └── ResourceLimit         memory, disk, state or result larger than configured; too many queries (retryable)
    ├── StreamError               the stream object was used against its protocol
    │   ├── StreamClosed
    │   ├── StreamBusy
    │   └── StreamNotStarted
    ├── SourceError               reading or writing a relation's data failed
    ├── SinkError
    ├── StorageError
    ├── ConnectionLost            (retryable)
    ├── StreamTruncated           (retryable)
    └── Unauthorized

`retryable` says whether the same call can succeed if it is made again, unchanged.
"""

from __future__ import annotations

_LONGEST_LINE = 160
"""Of a line of SQL with more characters an error shows a part."""


class StreamqError(Exception):
    """The base of every error raised by streamq."""

    retryable: bool = False


class SqlError(StreamqError):
    """The SQL text cannot be run as written.

    `line` and `column` count from 1 and are None where the position is unknown. `hint` says what to write instead.
    `str()` shows the message, the offending line with a caret below it (of a very long one what is around it), and the hint.
    """

    def __init__(
        self,
        message: str,
        *,
        sql: str | None = None,
        line: int | None = None,
        column: int | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.sql = sql
        self.line = line
        self.column = column
        self.hint = hint

    def __str__(self) -> str:
        parts = [self.message]
        if self.line is not None and self.column is not None:
            parts[0] += f" (line {self.line}, column {self.column})"
            lines = (self.sql or "").splitlines()
            if self.line <= len(lines):
                text, place = _around(lines[self.line - 1].replace("\t", " "), self.column - 1)
                parts += [f"  {text}", "  " + " " * place + "^"]
        if self.hint:
            parts.append(f"hint: {self.hint}")
        return "\n".join(parts)


def _around(line: str, place: int) -> tuple[str, int]:
    """Cut a line to what is around a place in it; gives that, and the place in it.

    >>> _around("SELECT x", 7)
    ('SELECT x', 7)
    >>> text, place = _around("1 + " * 1_000 + "x" + " + 1" * 1_000, 4_000)
    >>> len(text), text[place], text[:5], text[-5:]
    (162, 'x', '…1 + ', '1 + …')
    """
    if len(line) <= _LONGEST_LINE:
        return line, place
    start = max(0, min(place - _LONGEST_LINE // 2, len(line) - _LONGEST_LINE))
    end = start + _LONGEST_LINE
    head, tail = "…" if start else "", "…" if end < len(line) else ""
    return f"{head}{line[start:end]}{tail}", place - start + len(head)


class SqlSyntaxError(SqlError):
    """The text is not in streamq's grammar (DuckDB's plus the streaming clauses)."""


class BindError(SqlError):
    """A name, a type or a clause does not fit the relations that exist."""


class UnsupportedError(SqlError):
    """Valid SQL, or a valid call, that streamq does not run."""


class QueryError(StreamqError):
    """A started query ended without completing."""


class QueryCancelled(QueryError):
    """The query was cancelled by someone other than its reader."""


class QueryTimeout(QueryError):
    """The query's `timeout` passed before it completed."""


class WorkerCrashed(QueryError):
    """A worker process died while it worked for this query."""

    retryable = True


class DataError(QueryError):
    """An expression failed on the data: a division by zero, a CAST that cannot be done."""


class ShardError(QueryError):
    """A shard of the query failed. `shard` names it (relation and rows), `__cause__` has what happened."""

    def __init__(self, message: str, *, shard: str) -> None:
        super().__init__(message)
        self.shard = shard


class ResourceLimit(QueryError):
    """A configured limit (memory, disk, source size) was reached. `retryable` where others have only to finish first."""

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


class StreamError(StreamqError):
    """A stream was used against its protocol."""


class StreamClosed(StreamError):
    """The stream was read after its own `aclose()`."""


class StreamBusy(StreamError):
    """Two tasks read the stream at the same time."""


class StreamNotStarted(StreamError):
    """`schema`, `key` or `changelog` was asked for before the query had started."""


class SourceError(StreamqError):
    """A relation's data cannot be read or written: a missing, changed or corrupt file, rows that do not fit."""


class SinkError(StreamqError):
    """A sink refused what was written."""


class StorageError(StreamqError):
    """The durable store failed."""


class ConnectionLost(StreamqError):
    """The connection to the service broke before the answer was complete."""

    retryable = True


class StreamTruncated(StreamqError):
    """The answer ended without its end-of-stream marker."""

    retryable = True


class Unauthorized(StreamqError):
    """The service refused the token."""
