"""A worker's own DuckDB instance, and what DuckDB's failures mean.

A session is one instance with one thread, its share of the memory, and nothing that reaches out: no extension is
installed or loaded, no Python variable is read, times are in UTC. Every job has a cursor of its own, whose views and
registered inputs go with it.
"""

from __future__ import annotations

import errno
import re
import threading
from contextlib import AbstractContextManager, ExitStack
from functools import cached_property
from typing import Self

import duckdb
import pyarrow as pa

from streamq.errors import DataError, QueryError, ResourceLimit, SourceError, StreamqError
from streamq.kernels.direct import DirectQueries

STREAMING_BUFFER = "1MB"
"""What a paused cursor holds back. DuckDB's default is ten times that, which many open jobs would multiply."""

_KIND = re.compile(r"^(?P<kind>[A-Z][A-Za-z ]*?) Error: ")
_POSITION = re.compile(r"\s*\n\s*LINE \d+:.*", re.DOTALL)
_ADVICE = re.compile(r"\s*\n\s*(?:Possible solutions|See also|Use \"SET).*", re.DOTALL)
_SETTING = re.compile(r"\s*Use TRY\(\.\.\.\).*", re.DOTALL)
_UNREADABLE = re.compile(
    r"parquet|thrift|TProtocol|TType|what type|corrupt|decompress|magic bytes|stats size|\bfiles? ['\"]|CSV Error", re.IGNORECASE
)
_DISK_FULL = re.compile(r"no space left|disk full|file too large|disk quota|max_temp_directory_size|failed to offload", re.IGNORECASE)
_HINT = "hint: TRY(…) or TRY_CAST(…) gives NULL where this fails"
_ONE_ROW_HINT = "hint: add LIMIT 1 with ORDER BY, or an aggregate"


class Interrupted(QueryError):
    """The SQL was stopped by `interrupt()`. Never leaves streamq: whoever interrupted knows why."""


class Session:
    """Owns a DuckDB instance that uses at most `memory_bytes` and spills into `directory`. It is opened with its first cursor."""

    def __init__(self, memory_bytes: int, directory: str) -> None:
        self.direct_queries = DirectQueries()
        self._memory_bytes = memory_bytes
        self._directory = directory

    @cached_property
    def _instance(self) -> duckdb.DuckDBPyConnection:
        instance = duckdb.connect(
            ":memory:",
            config={
                "threads": 1,
                "async_threads": 0,  # reading is left to the worker's thread: to hand files' pages over costs more than to copy them
                "memory_limit": f"{self._memory_bytes}B",
                "temp_directory": self._directory,
                "preserve_insertion_order": True,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "allow_community_extensions": False,
                "python_enable_replacements": False,
            },
        )
        instance.execute("SET GLOBAL TimeZone = 'UTC'")
        instance.execute("SET GLOBAL parquet_metadata_cache = true")
        return instance

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Open a connection of its own to the instance. It keeps the instance alive until it is closed."""
        cursor = self._instance.cursor()
        # This setting exists per connection only, which is also why the configuration cannot be locked.
        cursor.execute(f"SET streaming_buffer_size = '{STREAMING_BUFFER}'")
        return cursor

    def reopened(self) -> Session:
        """Give a new session like this one, for when a fatal error has made DuckDB refuse the instance."""
        return Session(self._memory_bytes, self._directory)

    def close(self) -> None:
        """Close the instance, if it is open. Cursors are closed by whoever opened them."""
        if "_instance" in vars(self):
            self._instance.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class SharedSession:
    """A `Session` for all who compute in a database's own process, from the first cursor on. May be used from several threads.

    `directory` is entered with it. What one of them breaks does not last: the next cursor is one of a new session.
    """

    def __init__(self, memory_bytes: int, directory: AbstractContextManager[str]) -> None:
        self.direct_queries = DirectQueries()
        self._memory_bytes = memory_bytes
        self._directory = directory
        self._session: Session | None = None
        self._open = ExitStack()
        self._lock = threading.Lock()

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Open a connection of its own, as `Session.cursor` does."""
        with self._lock:
            if self._session is None:
                self._session = self._open.enter_context(Session(self._memory_bytes, self._open.enter_context(self._directory)))
            try:
                return self._session.cursor()
            except duckdb.Error as error:
                if not is_fatal(error):
                    raise
                self._session = self._open.enter_context(self._session.reopened())
                return self._session.cursor()

    def close(self) -> None:
        """Close the session, if there is one. Open cursors are closed by whoever opened them."""
        with self._lock:
            self._session = None
            self._open.close()


def is_fatal(error: BaseException) -> bool:
    """Tell whether an error leaves the DuckDB instance unusable.

    >>> is_fatal(duckdb.ConversionException("Conversion Error: no number"))
    False
    """
    return isinstance(error, duckdb.FatalException | duckdb.InternalException) or str(error).startswith(("FATAL Error", "INTERNAL Error"))


def translate(error: BaseException, what: str | None = None) -> StreamqError:
    """Say in streamq's errors what DuckDB, Arrow or the system failed with while it did `what`.

    DuckDB's own classes are not looked at: a streamed result raises OSError for all of them, and every message names its kind.

    >>> translate(duckdb.ConversionException("Conversion Error: Could not convert string 'x' to INT32"), "reading t")
    DataError("reading t: Could not convert string 'x' to INT32; hint: TRY(…) or TRY_CAST(…) gives NULL where this fails")
    >>> translate(FileNotFoundError(2, "No such file or directory", "a.arrow"))
    SourceError("[Errno 2] No such file or directory: 'a.arrow'")
    """
    if isinstance(error, StreamqError):
        return error
    text = str(error)
    found = _KIND.match(text)
    kind = found["kind"] if found else ""
    message = _trimmed(text[found.end() :] if found else text) or type(error).__name__
    result = _classify(error, kind, message, f"{what}: " if what else "")
    result.__cause__ = error
    return result


def _classify(error: BaseException, kind: str, message: str, prefix: str) -> StreamqError:
    match kind:
        case "INTERRUPT":
            return Interrupted(f"{prefix}interrupted")
        case "Out of Memory":
            return ResourceLimit(f"{prefix}the worker's memory limit was reached: {message}")
        case "Invalid":  # a library inside DuckDB: the decoders of files
            return SourceError(f"{prefix}{message}")
        case "Conversion" | "Out of Range" | "Invalid Input":
            if _UNREADABLE.search(message):
                return SourceError(f"{prefix}{message}")
            return DataError(f"{prefix}{message}; {_ONE_ROW_HINT if 'More than one row' in message else _HINT}")
        case "IO" | "HTTP":
            if _DISK_FULL.search(message):
                return ResourceLimit(f"{prefix}{message}")
            return SourceError(f"{prefix}{message}")
        case "":
            return _classify_foreign(error, message, prefix)
        case _:
            return QueryError(f"{prefix}{kind} error: {message}")


def _classify_foreign(error: BaseException, message: str, prefix: str) -> StreamqError:
    """Translate what is not one of DuckDB's own kinds: Arrow's, the system's, and libraries' inside DuckDB."""
    match error:
        case MemoryError():
            return ResourceLimit(f"{prefix}out of memory: {message}")
        case OSError(errno=errno.ENOSPC | errno.EDQUOT | errno.EFBIG | errno.EMFILE | errno.ENFILE):
            return ResourceLimit(f"{prefix}{message}")
        case OSError() if _DISK_FULL.search(message):
            return ResourceLimit(f"{prefix}{message}")
        case OSError() | pa.ArrowInvalid() | duckdb.Error():
            return SourceError(f"{prefix}{message}")
        case _:
            return QueryError(f"{prefix}{type(error).__name__}: {message}")


def _trimmed(message: str) -> str:
    """Leave out the position (it is in generated SQL) and advice about DuckDB's settings."""
    for noise in (_POSITION, _ADVICE, _SETTING):
        message = noise.sub("", message)
    return " ".join(message.split()).rstrip(".")
