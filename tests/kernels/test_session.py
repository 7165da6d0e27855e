"""The DuckDB session of a worker, and the errors that it gives."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamq.errors import DataError, QueryError, ResourceLimit, SourceError, StreamqError
from streamq.kernels.session import Interrupted, Session, is_fatal, translate


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    """A session with little memory."""
    with Session(100 << 20, str(tmp_path / "spill")) as session:
        yield session


SETTINGS = {
    "threads": 1,
    "TimeZone": "UTC",
    "memory_limit": "100.0 MiB",
    "streaming_buffer_size": "976.5 KiB",
    "preserve_insertion_order": True,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
}


@pytest.mark.parametrize("name", SETTINGS)
def test_cursors_have_the_settings(session: Session, name: str) -> None:
    """Every cursor works under the session's settings."""
    with session.cursor() as cursor:
        rows = cursor.sql(f"SELECT current_setting('{name}')").fetchall()
    assert rows == [(SETTINGS[name],)]


def test_python_variables_are_no_tables(session: Session) -> None:
    """SQL cannot reach into the program."""
    rows = pa.table({"a": [1]})
    with session.cursor() as cursor, pytest.raises(duckdb.CatalogException):
        cursor.sql("SELECT * FROM rows")
    assert rows.num_rows == 1


def test_a_sort_spills_into_the_directory_and_leaves_nothing(tmp_path: Path) -> None:
    """What does not fit into memory goes to the session's directory, for as long as it is needed."""
    with Session(30 << 20, str(tmp_path / "spill")) as session, session.cursor() as cursor:
        reader = cursor.sql("SELECT i, hash(i) AS h FROM range(3000000) t(i) ORDER BY h").to_arrow_reader(1000)
        assert reader.read_next_batch().num_rows == 1000
        assert any((tmp_path / "spill").iterdir())
        reader.close()
    assert not list((tmp_path / "spill").glob("*"))


def fail(session: Session, sql: str) -> StreamqError:
    """Give the translated error of a query."""
    with session.cursor() as cursor, pytest.raises((duckdb.Error, OSError)) as raised:
        cursor.sql(sql).to_arrow_reader(1000).read_all()
    return translate(raised.value)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 // 0",
        "SELECT 1 // (99999 - i) FROM range(100000) t(i)",
        "SELECT CAST('x' AS DATE)",
        "SELECT 255::UTINYINT + 1::UTINYINT",
        "SELECT error('no')",
        "SELECT json('{')",
    ],
)
def test_rows_that_an_expression_cannot_take(session: Session, sql: str) -> None:
    """They are DataErrors with the hint that helps, without positions in generated SQL or advice on DuckDB's settings."""
    error = fail(session, sql)
    assert type(error) is DataError
    assert "hint: TRY" in str(error)
    assert not any(noise in str(error) for noise in ("LINE", "SET ", "Use TRY", "Error:", "\n"))


def test_a_scalar_subquery_of_many_rows_says_what_to_write(session: Session) -> None:
    """TRY would not help there: the hint is to choose a row."""
    error = fail(session, "SELECT (SELECT i FROM range(3) t(i))")
    assert type(error) is DataError
    assert "LIMIT 1" in str(error)
    assert "TRY" not in str(error)


def test_the_cause_is_kept(session: Session) -> None:
    """What DuckDB raised is the cause."""
    assert isinstance(fail(session, "SELECT CAST('x' AS DATE)").__cause__, duckdb.ConversionException)


def test_memory_that_is_not_there(session: Session) -> None:
    """It is a ResourceLimit."""
    error = fail(session, "SELECT list(i) FROM range(100000000) t(i)")
    assert type(error) is ResourceLimit
    assert "memory limit" in str(error)
    assert "Possible solutions" not in str(error)


@pytest.mark.parametrize("compression", ["snappy", "zstd", "gzip", "none"])
def test_a_corrupt_file(session: Session, tmp_path: Path, compression: str) -> None:
    """It is a SourceError, wherever the bytes are wrong."""
    good, bad = tmp_path / "good.parquet", tmp_path / "bad.parquet"
    pq.write_table(pa.table({"a": [f"value {i % 100}" for i in range(5000)]}), good, compression=compression)
    data = good.read_bytes()
    failures = []
    for first in range(0, len(data), len(data) // 40):
        bad.write_bytes(data[:first] + b"\xff" * 64 + data[first + 64 :])
        with session.cursor() as cursor:
            try:
                cursor.sql(f"SELECT * FROM read_parquet('{bad}')").to_arrow_reader(1000).read_all()
            except (duckdb.Error, OSError) as error:
                failures.append(translate(error))
    assert {type(failure) for failure in failures} == {SourceError}


def test_a_missing_file(session: Session) -> None:
    """It is a SourceError that names the file."""
    error = fail(session, "SELECT * FROM read_parquet('/nowhere/a.parquet')")
    assert type(error) is SourceError
    assert "/nowhere/a.parquet" in str(error)


def test_an_interrupt_is_told_apart(session: Session) -> None:
    """Whoever interrupted recognizes it."""
    with session.cursor() as cursor:
        reader = cursor.sql("SELECT i FROM range(100000000) t(i)").to_arrow_reader(1000)
        reader.read_next_batch()
        cursor.interrupt()
        with pytest.raises(OSError, match="INTERRUPT") as raised:
            reader.read_all()
    assert isinstance(translate(raised.value), Interrupted)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), ResourceLimit),
        (duckdb.IOException("IO Error: Could not write: No space left on device"), ResourceLimit),
        (OSError("IO Error: Could not read file"), SourceError),
        (FileNotFoundError(errno.ENOENT, "No such file", "a"), SourceError),
        (pa.ArrowInvalid("File is too small"), SourceError),
        (MemoryError("malloc failed"), ResourceLimit),
        (duckdb.BinderException('Binder Error: no column "x"'), QueryError),
        (TypeError("no such value"), QueryError),
        (DataError("as it is"), DataError),
    ],
)
def test_other_errors(error: Exception, kind: type[StreamqError]) -> None:
    """What is not the data's or DuckDB's own has its class too."""
    assert type(translate(error)) is kind


def test_what_was_done_comes_first() -> None:
    """The message begins with what failed."""
    assert str(translate(OSError("IO Error: gone"), "reading flights")) == "reading flights: gone"


def test_fatal_errors() -> None:
    """They are the ones after which DuckDB refuses the instance."""
    assert is_fatal(duckdb.FatalException("FATAL Error: failed"))
    assert is_fatal(OSError("INTERNAL Error: failed"))
    assert not is_fatal(OSError("IO Error: failed"))


def test_a_session_is_reopened(session: Session) -> None:
    """A new one has the same settings."""
    with session.reopened() as again, again.cursor() as cursor:
        assert cursor.sql("SELECT current_setting('memory_limit')").fetchall() == [("100.0 MiB",)]
