"""DuckDBs of our own, for what relations do themselves: naming types, keeping tables, looking into files."""

from __future__ import annotations

import functools

import duckdb


def private_session(*, files: bool = False) -> duckdb.DuckDBPyConnection:
    """Open a connection to an in-memory DuckDB with one thread, in UTC, that loads nothing by itself; `files` lets it read files.

    It is for what is registered and computed: whatever is created that is not temporary, all such connections see.
    """
    connection = _instance(files).cursor()
    try:
        connection.begin()
        connection.rollback()
    except duckdb.Error:  # an earlier error has broken the instance
        connection.close()
        return separate_session(files=files)
    return connection


def separate_session(*, files: bool = False) -> duckdb.DuckDBPyConnection:
    """Open an instance that nobody else has, otherwise as `private_session` does; its cursors see what is created in it."""
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


@functools.cache
def _instance(files: bool) -> duckdb.DuckDBPyConnection:
    """Open a program's DuckDB for small matters, once: that takes longer than most of what is asked of it."""
    return separate_session(files=files)
