"""The program against a service, on a real socket. See `tests.cli.conftest.service`."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import streamq
from streamq.cli.running import describe_queries
from streamq.cli.terminal import Terminal
from tests.cli.conftest import BACKENDS, Program, Serving


@pytest.fixture(autouse=True)
def relations(service: Serving, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A source and a table, without rows; and nothing in the environment but the service."""
    monkeypatch.setenv("STREAMQ_URL", service.url)
    monkeypatch.delenv("STREAMQ_TOKEN", raising=False)
    service.execute("CREATE SOURCE clicks (url VARCHAR, n BIGINT, at TIMESTAMP, price DECIMAL(6, 2))")
    yield
    service.execute("DROP SOURCE clicks")


# Statements


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_script_runs_in_the_service(program: Program, service: Serving, backend: str) -> None:
    """Its relations are those of all clients; the rows look as they do at service."""
    script = "INSERT INTO clicks (url, n) VALUES ('/', 7); SELECT url, n FROM clicks"
    ended = program("query", "--format", "csv", script, "--backend", backend)
    assert (ended.code, ended.out, ended.err) == (0, b'"url","n"\n"/",7\n', "insert: 1 row\n")
    assert service.rows("SELECT count(*) AS n FROM clicks") == [{"n": 1}]


def test_a_continuous_query_goes_on_as_long_as_its_sources(program: Program, service: Serving) -> None:
    """It does not end those of a service: others insert into them."""
    ended = program("query", "SELECT n FROM clicks EMIT CHANGES", "--timeout", "0.3", "--format", "csv")
    assert ended.code == 3
    assert "this query goes on as long as source clicks does: Ctrl-C stops it" in ended.err
    service.execute("INSERT INTO clicks (n) VALUES (1)")


def test_explain(program: Program) -> None:
    """It is the service that says it."""
    assert "strategy:" in program("explain", "SELECT count(*) FROM clicks").text()


def test_an_error_is_the_services(program: Program) -> None:
    """With its line in the script."""
    ended = program("query", "SELECT 1;\nSELECT x FROM nowhere")
    assert (ended.code, "(line 2, column 15)" in ended.err) == (2, True)


def test_an_empty_address_is_none(program: Program) -> None:
    """Whatever the environment says."""
    ended = program("query", "--url", "", "SHOW RELATIONS", "--format", "csv")
    assert (ended.code, ended.out.count(b"\n")) == (0, 1)


@pytest.mark.parametrize("command", [("query", "SELECT 1"), ("insert", "clicks", "rows.csv"), ("queries",), ("cancel", "q1")])
def test_nobody_there_has_an_exit_code(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]) -> None:
    """The error names the address."""
    monkeypatch.chdir(tmp_path)
    Path("rows.csv").write_text("n\n1\n")
    ended = program(*command, "--url", "http://127.0.0.1:1")
    assert (ended.code, "cannot connect to http://127.0.0.1:1" in ended.err) == (4, True)


# Rows of files


ROWS = [{"url": "/", "n": 1, "at": "2026-05-01T12:00:00", "price": "1.50"}, {"url": "ü,", "n": None, "at": None, "price": None}]
ARROW = pa.table({"url": ["/", "ü,"], "n": [1, None], "price": pa.array([None, None], pa.decimal128(4, 1))})


def ipc(path: Path, *, file: bool) -> None:
    with (pa.ipc.new_file if file else pa.ipc.new_stream)(path, ARROW.schema) as writer:
        writer.write_table(ARROW)


def write_rows(path: Path) -> None:
    """Write two rows as the name says."""
    lines = "".join(json.dumps(row) + "\n" for row in ROWS)
    text = 'URL,n,at,price\n/,1,2026-05-01 12:00:00,1.50\n"ü,",,,\n'
    match path.name.split(".", 1)[1]:
        case "ndjson":
            path.write_text(lines, encoding="utf-8")
        case "jsonl.gz":
            path.write_bytes(gzip.compress(lines.encode()))
        case "csv":
            path.write_text(text, encoding="utf-8")
        case "csv.gz":
            path.write_bytes(gzip.compress(text.encode()))
        case "parquet":
            pq.write_table(ARROW, path)
        case "arrow":
            ipc(path, file=True)
        case "arrows":
            ipc(path, file=False)


def test_files_of_every_kind_are_inserted(program: Program, service: Serving, tmp_path: Path) -> None:
    """As their names say, one after the other; a missing column is NULL."""
    names = ["a.ndjson", "b.jsonl.gz", "c.csv", "d.csv.gz", "e.parquet", "f.arrow", "g.arrows"]
    paths = [tmp_path / name for name in names]
    for path in paths:
        write_rows(path)
    ended = program("insert", "clicks", *map(str, paths))
    assert (ended.code, ended.out) == (0, b"")
    assert ended.err.startswith("14 rows inserted into clicks in ")
    counted = (
        "SELECT url, count(*) AS rows, count(n) AS n, count(at) AS at, sum(price)::VARCHAR AS price FROM clicks GROUP BY url ORDER BY url"
    )
    assert service.rows(counted) == [
        {"url": "/", "rows": 7, "n": 7, "at": 4, "price": "6.00"},
        {"url": "ü,", "rows": 7, "n": 0, "at": 0, "price": None},
    ]


@pytest.mark.parametrize(
    ("kind", "data", "message"),
    [
        ("ndjson", b'{"n": 1}\n{"n": 2}\nnothing\n', "line 3 is no JSON"),
        ("ndjson", b'{"n": 1}\n[2]\n', "line 2 is no object"),
        ("ndjson", b'{"n": 1, "m": 2}\n', "m"),
        ("ndjson", b'{"n": ' + b"1" * 5_000 + b"}", "line 1 is no JSON"),
        ("csv", b"n\n1\nx\n", "is not what it should be, csv"),
        ("parquet", b"PAR1 but not really", "is not what it should be, parquet"),
        ("arrow", b"no arrow at all, by any means", "is not what it should be, arrow"),
        ("arrow", b"", "it was cut"),
    ],
)
def test_files_that_are_wrong(program: Program, service: Serving, tmp_path: Path, kind: str, data: bytes, message: str) -> None:
    """The error says where, and how many rows had gone in before; nothing else did."""
    good, bad = tmp_path / "good.csv", tmp_path / "bad"
    good.write_text("n\n1\n2\n")
    bad.write_bytes(data)
    assert program("insert", "clicks", str(good), "--format", "csv").code == 0
    ended = program("insert", "clicks", str(bad), "--format", kind)
    assert (ended.code, ended.out) == (1, b"")
    assert message in ended.err
    assert "(0 rows had gone in before)" in ended.err
    assert service.rows("SELECT count(*) AS n FROM clicks") == [{"n": 2}]


def test_rows_before_an_error_are_in(program: Program, service: Serving, tmp_path: Path) -> None:
    """It says how many."""
    path = tmp_path / "rows.ndjson"
    path.write_text('{"n": 1, "url": "' + "x" * 2_000_000 + '"}\n{"n": "two"}\n')
    ended = program("insert", "clicks", str(path))
    assert (ended.code, "(1 rows had gone in before)" in ended.err) == (1, True)
    assert service.rows("SELECT n FROM clicks") == [{"n": 1}]
    ipc(path := tmp_path / "rows.arrows", file=False)
    path.write_bytes(path.read_bytes() * 2)
    ended = program("insert", "clicks", str(path))
    assert (ended.code, "goes on behind the end of its Arrow stream" in ended.err) == (1, True)
    assert service.rows("SELECT count(*) AS n FROM clicks") == [{"n": 3}]


def test_a_relation_that_is_not_there(program: Program, tmp_path: Path) -> None:
    """It is named, and so is a file that is none that can be told."""
    path = tmp_path / "rows.csv"
    path.write_text("n\n1\n")
    ended = program("insert", "clocks", str(path))
    assert (ended.code, "clocks" in ended.err) == (1, True)
    ended = program("insert", "clicks", str(tmp_path / "rows.txt"))
    assert (ended.code, "give --format" in ended.err) == (2, True)
    ended = program("insert", "clicks", str(tmp_path / "none.csv"))
    assert (ended.code, ended.err) == (1, f"error: {tmp_path}/none.csv: No such file or directory\n")


# What runs


def test_running_queries_are_listed_and_cancelled(program: Program, service: Serving) -> None:
    """As a table, and as JSON lines with all there is to say."""
    assert program("queries").text() == "no query runs\n"
    assert program("queries", "--format", "ndjson").text() == ""
    sql = "SELECT url,\n  count(*) AS n FROM clicks GROUP BY url EMIT CHANGES"
    stream = service.db.query(sql)
    service.portal.call(stream.start)
    lines = program("queries").text().splitlines()
    assert lines[1].split("│")[1:-1][0].strip() == "id"
    assert stream.query_id in lines[3]
    assert "SELECT url,⏎  count(*) AS n FROM clicks GROUP BY url EMIT CHANGES" in lines[3]
    assert lines[-1] == "1 query"
    (line,) = program("queries", "--format", "ndjson").text().splitlines()
    assert (json.loads(line)["query_id"], json.loads(line)["sql"]) == (stream.query_id, sql)
    ended = program("cancel", stream.query_id, "q0")
    assert (ended.code, ended.out) == (1, b"")
    assert ended.err == "1 query cancelled\nerror: no such query runs: q0; `streamq queries` lists those that do\n"
    with pytest.raises(streamq.QueryCancelled):
        service.portal.call(stream.__anext__)


@pytest.mark.parametrize("width", [60, 100])
def test_a_list_of_queries_fits_the_terminal(service: Serving, width: int) -> None:
    """The SQL is what is cut."""
    stream = service.db.query(f"SELECT '{'long ' * 40}' AS text, * FROM clicks EMIT CHANGES")
    service.portal.call(stream.start)
    lines = describe_queries(service.portal.call(service.db.queries), Terminal(width, 40, color=False)).splitlines()
    assert [len(line) for line in lines[:-1]] == [width] * (len(lines) - 1)
    assert "…" in lines[3]
    service.portal.call(stream.aclose)
