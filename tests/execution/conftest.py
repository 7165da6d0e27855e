"""The pools, in both kinds, with a check that they leave no thread and no file."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from streamq.execution.jobs import WorkerPool
from tests.execution.pools import PoolMaker, make_pool


@contextmanager
def nothing_left_in(temp_dir: Path) -> Iterator[None]:
    """Fail if a pool leaves a thread, or a file in `temp_dir`."""
    before = set(threading.enumerate())
    yield
    assert not [thread.name for thread in set(threading.enumerate()) - before if thread.name.startswith("streamq")]
    assert not list(temp_dir.iterdir())


@pytest.fixture
def new_pool(executor: str, tmp_path: Path) -> Iterator[PoolMaker]:
    """Make pools (`new_pool(workers=1)`), for tests that end them; when they are left, their threads and files are gone."""
    temp_dir = tmp_path / "temp"
    temp_dir.mkdir()
    with nothing_left_in(temp_dir):
        yield partial(make_pool, executor, temp_dir)


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    """What is not usual about a module's `pool`."""
    return {}


@pytest.fixture(scope="module")
async def pool(
    executor: str, anyio_backend: object, tmp_path_factory: pytest.TempPathFactory, settings: dict[str, Any]
) -> AsyncIterator[WorkerPool]:
    """A pool for all tests of a module that leave it as it was: a worker takes much longer to start than they do to run."""
    temp_dir = tmp_path_factory.mktemp("pool")
    with nothing_left_in(temp_dir):
        async with make_pool(executor, temp_dir, **settings) as pool:
            yield pool
