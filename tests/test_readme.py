"""The README: what it shows can be pasted, and works."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Callable
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import streamq
from streamq.cli.app import run

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [(match[1], match[2]) for match in BLOCK.finditer(README.read_text(encoding="utf-8"))]
PROGRAMS = [text for kind, text in BLOCKS if kind == "python" and "anyio.run" in text and "http://" not in text]
CLIENTS = [text for kind, text in BLOCKS if kind == "python" and "anyio.run" in text and "http://" in text]
FRAGMENTS = [text for kind, text in BLOCKS if kind == "python" and "anyio.run" not in text]
STATEMENTS = [sql for kind, text in BLOCKS if kind == "sql" for sql in text.split(";") if sql.strip()]
SHOWN = [text for kind, text in BLOCKS if kind == "text"]
LINES = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines() if line.startswith("streamq ")]
SERVICES = [line for line in LINES if line.startswith("streamq serve")]
REMOTE = [line for line in LINES if "--url" in line]
COMMANDS = [line for line in LINES if line not in SERVICES and line not in REMOTE]
BACKENDS = ["asyncio", *(["trio"] if find_spec("trio") else [])]


@pytest.fixture(autouse=True)
def flights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a directory with a folder `flights`, of which the README speaks."""
    hours = [datetime(2013, 7, 1 + number // 24, number % 24) for number in range(240)]
    table = pa.table(
        {
            "time_hour": pa.array(hours, pa.timestamp("us")),
            "month": pa.array([6 + number % 2 for number in range(240)], pa.int64()),
            "carrier": ["UA", "B6", "EV"] * 80,
            "tailnum": [f"N{number % 7}" for number in range(240)],
            "origin": ["EWR", "JFK", "LGA", "JFK"] * 60,
            "dep_delay": pa.array(range(240), pa.int64()),
        }
    )
    folder = tmp_path / "flights"
    folder.mkdir()
    pq.write_table(table.slice(0, 100), folder / "a.parquet", row_group_size=30)
    pq.write_table(table.slice(100), folder / "b.parquet", row_group_size=30)
    (tmp_path / "clicks.ndjson").write_text('{"url": "/"}\n')
    monkeypatch.chdir(tmp_path)
    return folder


def run_with_database(use: Callable[[streamq.Database], Any], backend: str) -> None:
    async def main() -> None:
        async with streamq.connect() as db:
            await db.register("flights", "flights/*.parquet")
            await use(db)

    anyio.run(main, backend=backend)


def test_the_readme_has_examples_of_each_kind() -> None:
    """If this fails, the tests below find nothing to run."""
    assert all([PROGRAMS, CLIENTS, FRAGMENTS, STATEMENTS, COMMANDS, SERVICES, REMOTE])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_program(program: str, backend: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A whole program runs as pasted, on both event loops."""
    exec(program.replace("anyio.run(main)", f"anyio.run(main, backend={backend!r})"), {})
    assert "'departures'" in capsys.readouterr().out


@pytest.mark.by_turns
@pytest.mark.parametrize("anyio_backend", BACKENDS)
@pytest.mark.parametrize("fragment", FRAGMENTS)
def test_fragment(fragment: str, anyio_backend: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines about a database `db` run, and print what their comment says, and what the README shows of it."""
    names: dict[str, Any] = {"datetime": datetime, "streamq": streamq}
    exec("async def use(db):\n" + textwrap.indent(fragment, "    "), names)
    run_with_database(names["use"], anyio_backend)
    printed = capsys.readouterr().out
    assert printed
    for expected in re.findall(r"print\(.*\)  # (.*)", fragment):
        assert all(part in printed for part in expected.removesuffix(", …").split(", streamq_"))
    for shown in SHOWN if "per_minute} EMIT FINAL" in fragment else ():
        assert set(shown.splitlines()) <= set(printed.splitlines())


@pytest.mark.parametrize("sql", STATEMENTS)
def test_statement(sql: str) -> None:
    """A query has an answer."""

    async def use(db: streamq.Database) -> None:
        assert (await db.fetch(sql)).num_rows > 0

    run_with_database(use, "asyncio")


@pytest.mark.parametrize("command", COMMANDS)
def test_command(command: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """A command succeeds, and writes to where it says."""
    arguments = shlex.split(command)[1:]
    assert run(arguments) == 0
    written = capfdbinary.readouterr().out
    if "-o" in arguments:
        written = Path(arguments[arguments.index("-o") + 1]).read_bytes()
        assert all(json.loads(line) for line in written.splitlines())
    assert written


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("command", SERVICES)
def test_service(command: str, backend: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The service starts as the README says (on a free port), and the clients and commands in it run as pasted."""
    arguments = shlex.split(command.replace("8471", "0"))[1:]
    program = [sys.executable, "-m", "streamq", *arguments, "--backend", backend]
    environment = {**os.environ, "PYTHONPATH": str(README.parent)}
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().removeprefix("streamq serves ").strip()
            for client in CLIENTS:
                exec(client.replace("http://127.0.0.1:8471", url).replace("anyio.run(main)", f"anyio.run(main, backend={backend!r})"), {})
            for line in REMOTE:
                assert run(shlex.split(line.replace("http://127.0.0.1:8471", url))[1:]) == 0
        finally:
            process.terminate()
    assert "'n': 1" in capsys.readouterr().out
