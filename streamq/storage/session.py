"""A DuckDB of our own, for what relations do themselves: naming types, keeping tables, looking into files."""

from __future__ import annotations

import duckdb


def private_session(*, files: bool = False) -> duckdb.DuckDBPyConnection:
    """Open an in-memory DuckDB with one thread, in UTC, that loads nothing by itself; `files` lets it read files."""
    con = duckdb.connect(
        ":memory:",
        config={
            "threads": 1,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "python_enable_replacements": False,
        },
    )
    # Its cursors are connections of their own, which have only the global settings.
    con.execute("SET GLOBAL TimeZone = 'UTC'")
    if not files:
        con.execute("SET enable_external_access = false")
    return con
