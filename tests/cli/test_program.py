"""The program, as users call it: arguments, standard streams, an exit code. It runs inside the test's process."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import pyarrow as pa
import pytest

from tests.cli.conftest import BACKENDS, Program

# Output


def test_a_table_is_the_default(program: Program) -> None:
    """With types below the names and a line that counts the rows."""
    lines = program("query", "SELECT 42 AS answer").text().splitlines()
    assert "answer" in lines[1]
    assert "42" in lines[4]
    assert lines[-1] == "1 row"


def test_a_long_table_says_that_there_is_more(program: Program, numbers: Path) -> None:
    """The first rows are enough to look at."""
    lines = program("query", "-r", str(numbers), "SELECT id FROM numbers").text().splitlines()
    assert lines[-1] == "the first 40 rows; there are more"


def test_a_table_has_as_many_rows_as_asked_for(program: Program, numbers: Path) -> None:
    """Also more than fit a terminal."""
    lines = program("query", "-r", str(numbers), "SELECT id FROM numbers WHERE id < 70", "--max-rows", "0").text().splitlines()
    assert lines[-1] == "70 rows"


@pytest.mark.parametrize(("executor", "backend"), [("thread", BACKENDS[0]), ("process", BACKENDS[-1])])
def test_csv_has_every_row(program: Program, numbers: Path, backend: str, executor: str) -> None:
    """Whatever runs it."""
    choice = ("--executor", executor, "--backend", backend)
    text = program("query", "-r", str(numbers), "SELECT id, text FROM numbers", "--format", "csv", *choice).text()
    header, *rows = csv.reader(io.StringIO(text))
    assert header == ["id", "text"]
    assert sorted(int(row[0]) for row in rows) == list(range(100_000))


def test_json_lines(program: Program, numbers: Path) -> None:
    """One object a row."""
    sql = "SELECT id, text FROM n WHERE id < 3 ORDER BY id"
    text = program("query", "-r", f"n={numbers}", sql, "--format", "ndjson").text()
    assert [json.loads(line) for line in text.splitlines()] == [{"id": number, "text": f"row {number}"} for number in range(3)]


def test_arrow_is_a_stream_on_standard_output(program: Program, numbers: Path) -> None:
    """With an end marker, so that a reader knows that it is complete."""
    ended = program("query", "-r", str(numbers), "SELECT id FROM numbers ORDER BY id", "--format", "arrow")
    assert pa.ipc.open_stream(ended.out).read_all()["id"].to_pylist() == list(range(100_000))


def test_output_goes_to_a_file(program: Program, numbers: Path, tmp_path: Path) -> None:
    """And not to standard output."""
    path = tmp_path / "rows.arrow"
    assert program("query", "-r", str(numbers), "SELECT id FROM numbers", "--format", "arrow", "-o", str(path)).text() == ""
    assert pa.ipc.open_stream(path.read_bytes()).read_all().num_rows == 100_000


def test_statements_run_in_order(program: Program) -> None:
    """In one database; every query's rows are printed, what other statements did is said on standard error."""
    script = """
        CREATE SOURCE orders (id INT, amount INT);
        INSERT INTO orders VALUES (1, 10), (2, 20); -- two rows; no more
        SELECT count(*) AS orders FROM orders;
        SELECT sum(amount) AS amount FROM orders;
    """
    ended = program("query", "--format", "csv", script)
    assert ended.code == 0
    assert ended.out.split() == [b'"orders"', b"2", b'"amount"', b"30"]
    assert "insert: 2 rows" in ended.err


def test_parameters_are_bound(program: Program) -> None:
    """By name, and in order."""
    assert program("query", "SELECT $a + 1 AS v", "-p", "a=41", "--format", "csv").text().split() == ['"v"', "42"]
    assert program("query", "SELECT ? AS v", "-p", "x'; DROP", "--format", "ndjson").text() == '{"v":"x\'; DROP"}\n'


def test_explain_shows_the_plan(program: Program, numbers: Path) -> None:
    """Without running the query."""
    assert "strategy: TwoPhaseAggregation" in program("explain", "-r", str(numbers), "SELECT count(*) FROM numbers").text()


def test_explain_is_a_statement_too(program: Program, numbers: Path) -> None:
    """It gives the same text as the command."""
    sql = "SELECT count(*) FROM numbers"
    text = program("query", "-r", str(numbers), f"EXPLAIN {sql}").text()
    assert text == program("explain", "-r", str(numbers), sql).text()
    assert len(text.splitlines()) > 10


def test_explain_analyze_runs_it(program: Program, numbers: Path) -> None:
    """The rows that workers read are in it."""
    assert "100,000 rows, " in program("explain", "--analyze", "-r", str(numbers), "SELECT * FROM numbers").text()


# Errors


@pytest.mark.parametrize(
    ("sql", "code", "message"),
    [
        ("SELEC 1", 2, "SELEC 1"),
        ("SELECT nothing", 2, "^"),
        ("SELECT 1;\nSELECT x FROM nowhere", 2, "(line 2, column"),
        ("SELECT 1 AS n ORDER BY n EMIT CHANGES", 2, "hint:"),
        ("SELECT 1 // 0", 1, "error: "),
        ("SELECT CAST('x' AS INTEGER)", 1, "error: "),
    ],
)
def test_errors_are_text_with_an_exit_code(program: Program, sql: str, code: int, message: str) -> None:
    """Wrong SQL is 2, failed queries are 1; there is no traceback."""
    ended = program("query", sql, "--format", "csv")
    assert ended.code == code
    assert message in ended.err
    assert "Traceback" not in ended.err


def test_a_missing_file_is_an_error(program: Program, tmp_path: Path) -> None:
    """It is named."""
    ended = program("query", "-r", f"t={tmp_path}/none.parquet", "SELECT 1")
    assert ended.code == 1
    assert "none.parquet" in ended.err


def test_a_missing_directory_for_the_output_is_an_error(program: Program, tmp_path: Path) -> None:
    """The file that was asked for is named, not the one that is written first."""
    ended = program("query", "SELECT 1", "-o", f"{tmp_path}/none/rows.csv")
    assert (ended.code, ended.err) == (1, f"error: {tmp_path}/none/rows.csv: the directory does not exist\n")


def test_a_wrong_setting_in_the_environment_is_an_error(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named."""
    monkeypatch.setenv("STREAMQ_WORKERS", "many")
    ended = program("query", "SELECT 1")
    assert ended.code == 2
    assert "STREAMQ_WORKERS" in ended.err


def test_a_timeout_has_its_own_exit_code(program: Program, numbers: Path) -> None:
    """So that scripts can tell it from a failure."""
    endless = "SELECT sum((a.id * b.id) % 7) FROM numbers a JOIN numbers b ON a.one = b.one"
    ended = program("query", "-r", str(numbers), endless, "--timeout", "0.5")
    assert ended.code == 3
    assert "timeout" in ended.err


def test_a_failed_query_leaves_no_file(program: Program, tmp_path: Path) -> None:
    """An incomplete answer is not found under the name that was asked for."""
    path = tmp_path / "rows.csv"
    assert program("query", "SELECT 1 // 0", "--format", "csv", "-o", str(path)).code == 1
    assert os.listdir(tmp_path) == []


# Continuous queries


THIRDS = "SELECT id % 3 AS third, count(*) AS n FROM numbers GROUP BY third EMIT CHANGES"


@pytest.mark.parametrize(
    ("kind", "backend"), [("csv", BACKENDS[0]), ("ndjson", BACKENDS[-1]), ("arrow", BACKENDS[0]), ("table", BACKENDS[-1])]
)
def test_rows_of_an_append_query(program: Program, numbers: Path, backend: str, kind: str) -> None:
    """All of them, without a column that says so; the end of the file ends the query."""
    sql = "SELECT id FROM numbers WHERE id >= 99998 EMIT CHANGES"
    ended = program("query", "-r", str(numbers), sql, "--format", kind, "--backend", backend)
    assert (ended.code, ended.err) == (0, "")
    if kind == "arrow":
        assert sorted(pa.ipc.open_stream(ended.out).read_all()["id"].to_pylist()) == [99998, 99999]
    else:
        lines = ended.out.decode().splitlines()
        assert len(lines) == {"csv": 3, "ndjson": 2, "table": 6}[kind]
        assert "_op" not in lines[0]


def test_changes_say_what_they_do(program: Program, numbers: Path) -> None:
    """Folded by their key, they are the answer."""
    folded: dict[int, int] = {}
    text = program("query", "-r", str(numbers), THIRDS, "--format", "ndjson").text()
    for change in map(json.loads, text.splitlines()):
        assert (change["_op"] == "update") == (change["third"] in folded)
        folded[change["third"]] = change["n"]
    assert folded == {0: 33_334, 1: 33_333, 2: 33_333}


def test_changes_as_a_table_have_one_header(program: Program, numbers: Path) -> None:
    """Their number is below them."""
    lines = program("query", "-r", str(numbers), THIRDS).text().splitlines()
    assert lines[0].split() == ["third", "n", "_op"]
    assert sum("third" in line for line in lines) == 1
    assert lines[-1] == f"{len(lines) - 4} changes"


def test_a_table_of_changes_ends_after_as_many_rows_as_asked_for(program: Program, numbers: Path) -> None:
    """The query is left then, wherever it is."""
    lines = program("query", "-r", str(numbers), "SELECT id FROM numbers EMIT CHANGES", "--max-rows", "5").text().splitlines()
    assert (len(lines), lines[-1]) == (9, "the first 5 rows; there are more")


def test_no_changes_have_a_header_too(program: Program, numbers: Path) -> None:
    """An empty answer has columns."""
    lines = program("query", "-r", str(numbers), "SELECT id FROM numbers WHERE id < 0 EMIT CHANGES").text().splitlines()
    assert (lines[0].split(), lines[-1]) == (["id"], "0 rows")


def test_watching_shows_the_result(program: Program, numbers: Path) -> None:
    """Where nothing can be drawn over, the last table is the answer, with what it took below."""
    sql = f"{THIRDS.removesuffix('EMIT CHANGES')} ORDER BY n DESC LIMIT 2 EMIT CHANGES"
    lines = program("query", "-r", str(numbers), sql, "--watch").text().splitlines()
    last = lines[-8:]
    assert [line.split()[1:4:2] for line in last[3:5]] == [["0", "33334"], ["1", "33333"]]
    assert last[-2] == "2 rows"
    assert "100,000 rows in" in last[-1]
    assert "completed after" in last[-1]


def test_sources_of_a_script_end_when_they_are_followed(program: Program) -> None:
    """Nobody else can insert into them, so their windows close."""
    script = """
        CREATE SOURCE clicks (ts TIMESTAMP, WATERMARK FOR ts AS ts - INTERVAL '5' SECOND);
        INSERT INTO clicks VALUES ('2026-05-01 12:00:01'), ('2026-05-01 12:00:02');
        SELECT count(*) AS n FROM TUMBLE(clicks, ts, INTERVAL '1' MINUTE) GROUP BY window_start EMIT FINAL;
    """
    ended = program("query", "--format", "csv", script)
    assert (ended.code, ended.out.split()) == (0, [b'"n"', b"2"])


def test_late_rows_are_a_source_of_the_script(program: Program) -> None:
    """It is not ended with those that the query reads, nor are others; EXPLAIN ANALYZE ends them too."""
    script = """
        CREATE SOURCE clicks (ts TIMESTAMP, WATERMARK FOR ts AS ts);
        CREATE SOURCE late (ts TIMESTAMP);
        CREATE SOURCE other (n INT);
        INSERT INTO clicks VALUES ('2026-05-01 12:00:01'), ('2026-05-01 12:02:00'), ('2026-05-01 12:00:30');
        SELECT count(*) AS n FROM TUMBLE(clicks, ts, INTERVAL '1' HOUR) GROUP BY window_start EMIT FINAL;
        SELECT count(*) AS n FROM TUMBLE(clicks, ts, INTERVAL '1' MINUTE) GROUP BY window_start EMIT FINAL LATE ROWS INTO late;
        SELECT second(ts) AS late FROM late;
        INSERT INTO other VALUES (7);
        EXPLAIN ANALYZE SELECT n FROM other EMIT CHANGES;
    """
    ended = program("query", "--format", "csv", script)
    assert (ended.code, ended.err.count("error")) == (0, 0)
    assert ended.out.split()[:7] == [b'"n"', b"3", b'"n"', b"1", b"1", b'"late"', b"30"]
    assert b"read: 1 row of other" in ended.out


def test_files_may_have_event_time(program: Program, tmp_path: Path) -> None:
    """Then their windows close, and rows can be late."""
    path = tmp_path / "clicks.csv"
    path.write_text("ts\n2026-05-01 12:00:05\n2026-05-01 12:01:15\n2026-05-01 12:00:20\n")
    sql = "SELECT count(*) AS n FROM TUMBLE(clicks, ts, INTERVAL '1' MINUTE) GROUP BY window_start EMIT FINAL"
    watermark = ("--watermark", "clicks=ts - INTERVAL '10' SECOND")
    assert sorted(program("query", "-r", str(path), sql, "--format", "csv", *watermark).text().split()) == ['"n"', "1", "1"]
    assert "late: 1 row\n" in program("explain", "--analyze", "-r", str(path), sql, *watermark).text()


def test_a_query_over_a_table_says_that_it_has_no_end(program: Program) -> None:
    """So that nobody waits for one."""
    script = "CREATE TABLE users (id INT, PRIMARY KEY (id)); SELECT id FROM users EMIT CHANGES"
    ended = program("query", script, "--format", "csv", "--timeout", "0.5")
    assert ended.code == 3
    assert "this query has no end, because table users has none: Ctrl-C stops it" in ended.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("SELECT 1 AS n", "--watch"), "--watch follows a continuous query"),
        (("SELECT count(*) AS n FROM numbers ORDER BY n EMIT CHANGES", "--watch"), "hint:"),
    ],
)
def test_watching_what_cannot_be_watched_is_an_error(program: Program, numbers: Path, arguments: tuple[str, ...], message: str) -> None:
    """It says what can be."""
    ended = program("query", "-r", str(numbers), *arguments)
    assert ended.code == 2
    assert message in ended.err


def test_explain_analyze_runs_a_continuous_query(program: Program, numbers: Path) -> None:
    """What each operator did is in it."""
    text = program("explain", "--analyze", "-r", str(numbers), THIRDS).text()
    assert "continuous query: EMIT CHANGES" in text
    assert "read: 100,000 rows of numbers" in text
