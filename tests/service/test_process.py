"""`streamq serve` as a process: its address, its signals, and how it is missed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import anyio
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import streamq
from tests.service.conftest import PATIENCE_S

BACKENDS = ["asyncio", *(["trio"] if find_spec("trio") else [])]
WIDE = "SELECT a.n, b.n AS m FROM numbers a, numbers b"
"""10 billion rows: nobody reads them all."""


@contextmanager
def served(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a service on a free port; gives its process and address."""
    command = [sys.executable, "-m", "streamq", "serve", "--port", "0", "--workers", "1", "--log-level", "error", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ}) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().removeprefix("streamq serves ").strip()
        finally:
            process.kill()


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    pq.write_table(pa.table({"n": pa.arange(0, 100_000)}), tmp_path / "numbers.parquet")
    return tmp_path / "numbers.parquet"


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_serves_files_until_a_signal(numbers: Path, backend: str) -> None:
    """Clients query what was registered; SIGTERM ends the service, and a follower is told."""

    async def use(process: subprocess.Popen[str], url: str) -> None:
        async with streamq.connect(url) as db:
            assert (await db.fetch("SELECT count(*) AS c FROM numbers")).to_pylist() == [{"c": 100_000}]
            await db.execute("CREATE SOURCE events (n BIGINT)")
            async with db.query("SELECT n FROM events EMIT CHANGES") as stream:
                process.send_signal(signal.SIGTERM)
                with pytest.raises(streamq.ConnectionLost, match="shut down"), anyio.fail_after(PATIENCE_S):
                    await anext(stream)

    with served("-r", str(numbers), "--grace", "0.2", "--backend", backend) as (process, url):
        anyio.run(use, process, url, backend=backend)
        assert process.wait(PATIENCE_S) == 143
        assert process.stderr is not None
        assert process.stderr.read() == ""


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_killed_service_is_no_short_answer(numbers: Path, backend: str) -> None:
    """Whoever reads gets a typed error that says to try again."""

    async def use(process: subprocess.Popen[str], url: str) -> None:
        async with streamq.connect(url) as db, db.query(WIDE) as stream:
            await anext(stream)
            process.kill()
            with pytest.raises((streamq.ConnectionLost, streamq.StreamTruncated)) as lost, anyio.fail_after(PATIENCE_S):
                await stream.read_all()
            assert lost.value.retryable
            with pytest.raises(streamq.ConnectionLost, match="cannot connect"):
                await db.queries()

    with served("-r", str(numbers), "--backend", backend) as (process, url):
        anyio.run(use, process, url, backend=backend)


def test_it_says_when_it_may_not_open_enough_files() -> None:
    """It takes as many descriptors as the system lets it have; where these are too few, it says what to do."""
    limited = f"ulimit -n 300; exec {sys.executable} -m streamq serve --port 0 --workers 1 --log-level warning"
    with subprocess.Popen(["sh", "-c", limited], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("streamq serves")
        process.terminate()
        assert process.stderr is not None
        said = process.stderr.read()
    assert all(words in said for words in ("open 300 files", "ulimit -n", "max_queries"))
