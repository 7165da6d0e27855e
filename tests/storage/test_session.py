"""DuckDB sessions of the relations themselves."""

from __future__ import annotations

from streamq.storage.session import private_session


def test_cursors_are_in_utc() -> None:
    """Whatever the time zone of the machine, times mean the same on every connection."""
    with private_session() as con, con.cursor() as cursor:
        for connection in (con, cursor):
            assert connection.execute("SELECT current_setting('TimeZone')").fetchall() == [("UTC",)]
