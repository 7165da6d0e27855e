"""Streaming SQL for async Python.

::

    import streamq

    async with streamq.connect() as db:
        await db.register("flights", "flights/*.parquet")
        async with db.query("SELECT origin, count(*) AS departures FROM flights GROUP BY origin") as stream:
            async for batch in stream:
                print(batch)

Names are loaded when they are first used, so that worker processes import only what they run.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamq.config import Config
    from streamq.database import Database
    from streamq.engine import connect
    from streamq.errors import (
        BindError,
        ConnectionLost,
        DataError,
        QueryCancelled,
        QueryError,
        QueryTimeout,
        ResourceLimit,
        ShardError,
        SinkError,
        SourceError,
        SqlError,
        SqlSyntaxError,
        StorageError,
        StreamBusy,
        StreamClosed,
        StreamError,
        StreamNotStarted,
        StreamqError,
        StreamTruncated,
        Unauthorized,
        UnsupportedError,
        WorkerCrashed,
    )
    from streamq.execution.query import Progress
    from streamq.execution.results import ExecuteResult
    from streamq.execution.statistics import ContinuousStatistics, DatabaseStatistics, OperatorStatistics, QueryStatistics
    from streamq.execution.stream import QueryBatchStream
    from streamq.storage.rows import InsertResult
    from streamq.streaming.apply import apply_changes

__version__ = "0.1.0"

_HOMES = {
    "Config": "streamq.config",
    "Database": "streamq.database",
    "connect": "streamq.engine",
    "ExecuteResult": "streamq.execution.results",
    "ContinuousStatistics": "streamq.execution.statistics",
    "DatabaseStatistics": "streamq.execution.statistics",
    "OperatorStatistics": "streamq.execution.statistics",
    "QueryStatistics": "streamq.execution.statistics",
    "Progress": "streamq.execution.query",
    "QueryBatchStream": "streamq.execution.stream",
    "InsertResult": "streamq.storage.rows",
    "apply_changes": "streamq.streaming.apply",
}

__all__ = [
    "BindError",
    "Config",
    "ConnectionLost",
    "ContinuousStatistics",
    "DataError",
    "Database",
    "DatabaseStatistics",
    "ExecuteResult",
    "InsertResult",
    "OperatorStatistics",
    "Progress",
    "QueryBatchStream",
    "QueryCancelled",
    "QueryError",
    "QueryStatistics",
    "QueryTimeout",
    "ResourceLimit",
    "ShardError",
    "SinkError",
    "SourceError",
    "SqlError",
    "SqlSyntaxError",
    "StorageError",
    "StreamBusy",
    "StreamClosed",
    "StreamError",
    "StreamNotStarted",
    "StreamTruncated",
    "StreamqError",
    "Unauthorized",
    "UnsupportedError",
    "WorkerCrashed",
    "apply_changes",
    "connect",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "streamq.errors")), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
