"""Files for the command line to read, and the program, as users call it, inside the test's process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import anyio
import anyio.from_thread
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import streamq
from streamq.cli.app import run
from streamq.server import app, listen, serve

BACKENDS = ["asyncio", *(["trio"] if find_spec("trio") else [])]


@pytest.fixture(scope="session")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows 0 to 99,999 in ten row groups."""
    path = tmp_path_factory.mktemp("data") / "numbers.parquet"
    rows = pa.table({"id": pa.array(range(100_000), pa.int64()), "text": [f"row {number}" for number in range(100_000)]})
    pq.write_table(rows.append_column("one", pa.array([1] * 100_000, pa.int32())), path, row_group_size=10_000)
    return path


@dataclass(frozen=True, slots=True)
class Ended:
    """What a run of the program left: its exit code, and what it wrote to standard output and error."""

    code: int
    out: bytes
    err: str

    def text(self) -> str:
        """Give the output of a run that succeeded and had nothing to say besides."""
        assert (self.code, self.err) == (0, "")
        return self.out.decode()


Program = Callable[..., Ended]


@pytest.fixture
def program(capfdbinary: pytest.CaptureFixture[bytes]) -> Program:
    """Run the program: `program("query", "SELECT 1")`."""

    def call(*arguments: str) -> Ended:
        code = run(arguments)
        captured = capfdbinary.readouterr()
        return Ended(code, captured.out, captured.err.decode())

    return call


class Serving:
    """A service that runs in this process, in a thread of its own, and its database as tests can reach it."""

    def __init__(self, portal: anyio.from_thread.BlockingPortal, db: streamq.Database, url: str) -> None:
        self.portal = portal
        self.db = db
        self.url = url

    def execute(self, sql: str) -> None:
        """Run a statement in its database."""
        self.portal.call(self.db.execute, sql)

    def rows(self, sql: str) -> list[object]:
        """Give the answer to a query of its database."""
        return list(self.portal.call(self.db.fetch, sql).to_pylist())


@asynccontextmanager
async def _served() -> AsyncIterator[tuple[streamq.Database, str]]:
    async with streamq.connect(executor="thread", workers=2, target_partitions=2) as db, anyio.create_task_group() as tasks:
        yield db, await tasks.start(partial(serve, app(db), listen("127.0.0.1", 0), grace_s=1))
        tasks.cancel_scope.cancel()


@pytest.fixture(scope="module")
def service() -> Iterator[Serving]:
    """A service, on the event loop that most programs do not run on."""
    with (
        anyio.from_thread.start_blocking_portal(BACKENDS[-1]) as portal,
        portal.wrap_async_context_manager(_served()) as (db, url),
    ):
        yield Serving(portal, db, url)
