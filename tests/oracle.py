"""The DuckDB that answers are compared with."""

from __future__ import annotations

from functools import cache

import duckdb


@cache
def _instance() -> duckdb.DuckDBPyConnection:
    instance = duckdb.connect(config={"threads": 1, "python_enable_replacements": False})
    instance.execute("SET GLOBAL TimeZone = 'UTC'")
    return instance


def connect_duckdb() -> duckdb.DuckDBPyConnection:
    """Open a connection, in UTC, whose registered and temporary relations no other sees. All are to one instance, on one thread."""
    return _instance().cursor()
