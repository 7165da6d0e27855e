"""Whatever is let go in the midst of something else, and whoever's error comes first: no hang, no group, nothing left."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

import streamq
from tests.must.conftest import ROWS
from tests.must.watch import PATIENCE_S, CancelAtStep, wait_until_idle
from tests.waiting import pause

pytestmark = [pytest.mark.anyio, pytest.mark.by_turns, pytest.mark.usefixtures("no_residue")]
SCAN = "SELECT n, word FROM numbers"
ENDLESS = "SELECT count(*) AS c FROM numbers a, numbers b, numbers c WHERE (a.n * b.n + c.n) % 7 = 3"


@pytest.mark.parametrize("sql", [SCAN, ENDLESS], ids=["scan", "endless"])
async def test_closing_the_database_ends_detached_streams(executor: str, sql: str, numbers: Path) -> None:
    """A stream that outlives its database says that the query was cancelled, and new work that the database was closed."""
    with anyio.fail_after(PATIENCE_S):
        async with streamq.connect(executor=executor, workers=2) as db:
            await db.register("numbers", numbers)
            stream = db.query(sql, batch_rows=1_000)
            await stream.start()
        with pytest.raises(streamq.QueryCancelled, match="database was closed"):
            async for _ in stream:
                pass
        await stream.aclose()


async def test_closed_database_refuses_everything(numbers: Path) -> None:
    """After its block, a database answers every call with StreamClosed."""
    async with streamq.connect() as db:
        await db.register("numbers", numbers)
    calls = [
        db.fetch(SCAN),
        db.query(SCAN).start(),
        db.execute("CREATE SOURCE s (a INTEGER)"),
        db.insert("numbers", [{"n": 1}]),
        db.register("others", numbers),
        db.unregister("numbers"),
        db.explain(SCAN),
    ]
    for call in calls:
        with pytest.raises(streamq.StreamClosed):
            await call
    assert await db.cancel("q1") is False
    assert await db.queries() == ()


async def test_database_closes_while_readers_wait(executor: str, numbers: Path) -> None:
    """Readers that wait for a batch when the database is closed get QueryCancelled."""
    ended: list[type[BaseException]] = []

    async def read(db: streamq.Database) -> None:
        try:
            await db.fetch(ENDLESS)
        except streamq.StreamqError as error:
            ended.append(type(error))

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks, streamq.connect(executor=executor, workers=1) as db:
            await db.register("numbers", numbers)
            for _ in range(3):
                tasks.start_soon(read, db)
            while len(await db.queries()) < 3:
                await pause()
    assert ended == [streamq.QueryCancelled] * 3


async def test_error_in_a_nested_group_leaves_as_the_group_of_the_user(executor: str, numbers: Path) -> None:
    """The user's own task group raises its own group through streamq's blocks, and streamq adds none."""

    async def fail() -> None:
        raise KeyError("mine")

    with pytest.raises(ExceptionGroup) as caught:
        async with streamq.connect(executor=executor, workers=1) as db:
            await db.register("numbers", numbers)
            async with db.query(SCAN, batch_rows=1_000) as stream, anyio.create_task_group() as tasks:
                await anext(stream)
                tasks.start_soon(fail)
    [error] = caught.value.exceptions
    assert isinstance(error, KeyError)


@pytest.mark.parametrize("error", [KeyError("mine"), KeyboardInterrupt(), SystemExit(3)], ids=lambda error: type(error).__name__)
def test_user_error_leaves_unchanged(executor: str, numbers: Path, error: BaseException, anyio_backend: tuple[str, Any]) -> None:
    """What the user's code raises inside a stream, inside a database, is what leaves the blocks."""

    async def use() -> None:
        async with streamq.connect(executor=executor, workers=1) as db:
            await db.register("numbers", numbers)
            async with db.query(SCAN, batch_rows=1_000) as stream:
                await anext(stream)
                raise error

    with pytest.raises(type(error)) as caught:
        anyio.run(use, backend=anyio_backend[0])
    assert caught.value is error


async def test_connecting_can_be_cancelled_at_every_step(executor: str, numbers: Path) -> None:
    """From `connect()` over the start of the pool to the end of the block: whichever wait is cancelled, everything ends."""

    async def use() -> None:
        async with streamq.connect(executor=executor, workers=1) as db:
            await db.register("numbers", numbers)
            async with db.query("SELECT n FROM numbers WHERE n < 10") as stream:
                await stream.read_all()

    for step in itertools.count(1):
        with anyio.fail_after(PATIENCE_S), anyio.CancelScope() as scope:
            await CancelAtStep(use(), scope, step)
        if not scope.cancelled_caught:
            break
    assert step > 3


async def test_timeout_covers_binding_and_planning(numbers: Path) -> None:
    """A deadline that passes before the query has started is QueryTimeout, from every way to start it."""
    async with streamq.connect(executor="thread", workers=1) as db:
        await db.register("numbers", numbers)
        for call in (db.fetch(SCAN, timeout=1e-9), db.query(SCAN, timeout=1e-9).start(), anext(db.query(SCAN, timeout=1e-9))):
            with pytest.raises(streamq.QueryTimeout):
                await call
        assert await db.queries() == ()


def native_deadline(backend: str, seconds: float) -> AbstractAsyncContextManager[Any]:
    """Give the backend's own deadline, which knows nothing of anyio; TimeoutError when it passes."""
    if backend == "asyncio":
        return asyncio.timeout(seconds)

    @asynccontextmanager
    async def deadline() -> AsyncIterator[None]:
        import trio

        try:
            with trio.fail_after(seconds):
                yield
        except trio.TooSlowError:
            raise TimeoutError from None

    return deadline()


async def test_native_cancellation_of_the_reader_leaves_nothing(executor: str, numbers: Path, anyio_backend: tuple[str, Any]) -> None:
    """The backend's own deadline around a reader ends its query too."""
    async with streamq.connect(executor=executor, workers=1) as db:
        await db.register("numbers", numbers)
        with pytest.raises(TimeoutError):
            async with native_deadline(anyio_backend[0], 0.05):
                await db.fetch(ENDLESS)
        await wait_until_idle(db)
        assert (await db.fetch("SELECT count(*) AS c FROM numbers"))["c"].to_pylist() == [ROWS]


async def batches_that_fail() -> AsyncIterator[list[dict[str, int]]]:
    yield [{"a": 1}]
    raise KeyError("mine")


async def test_error_of_an_inserted_iterable_leaves_unchanged() -> None:
    """What the user's async iterable raises is what `insert` raises, and what went in before stays in."""
    async with streamq.connect(workers=1) as db:
        await db.execute("CREATE SOURCE s (a INTEGER)")
        with pytest.raises(KeyError, match="mine"):
            await db.insert("s", batches_that_fail())
        assert (await db.fetch("SELECT a FROM s"))["a"].to_pylist() == [1]


async def test_temporary_directory_that_is_missing_is_a_typed_error(executor: str, numbers: Path, tmp_path: Path) -> None:
    """A pool that cannot be opened fails the queries that need it, each of them."""
    async with streamq.connect(executor=executor, workers=1, temp_dir=str(tmp_path / "missing")) as db:
        await db.register("numbers", numbers)
        for _ in range(2):
            with anyio.fail_after(PATIENCE_S), pytest.raises(streamq.StreamqError, match="missing"):
                await db.fetch(SCAN)
