"""DuckDB sessions of the relations themselves."""

from __future__ import annotations

import duckdb
import pytest

from streamq.storage.session import private_session, separate_session


@pytest.mark.parametrize("files", [False, True])
def test_cursors_are_in_utc(files: bool) -> None:
    """Whatever the time zone of the machine, times mean the same on every connection."""
    with private_session(files=files) as con, con.cursor() as cursor, separate_session(files=files) as separate:
        for connection in (con, cursor, separate):
            assert connection.execute("SELECT current_setting('TimeZone')").fetchall() == [("UTC",)]


def test_only_files_are_reached_and_only_where_they_are_wanted() -> None:
    """A session that is not for files reads none."""
    with private_session() as con, pytest.raises(duckdb.PermissionException):
        con.execute(f"SELECT * FROM read_text('{__file__}')")
    with private_session(files=True) as con:
        assert con.execute(f"SELECT count(*) FROM read_text('{__file__}')").fetchall() == [(1,)]


def test_what_one_registers_another_does_not_see() -> None:
    """The program's sessions share an instance and nothing else."""
    with private_session() as con, private_session() as other:
        con.execute("CREATE TEMP TABLE mine AS SELECT 1")
        with pytest.raises(duckdb.CatalogException):
            other.execute("FROM mine")
