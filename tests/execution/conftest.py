"""The pools, in both kinds, with a check that they leave no thread and no file."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import pytest

from streamq.execution.jobs import WorkerPool
from tests.execution.pools import PoolMaker, make_pool


@pytest.fixture
def new_pool(executor: str, tmp_path: Path) -> Iterator[PoolMaker]:
    """Make pools (`new_pool(workers=1)`); when they are left, their threads and files are gone."""
    temp_dir = tmp_path / "temp"
    temp_dir.mkdir()
    before = set(threading.enumerate())
    yield partial(make_pool, executor, temp_dir)
    assert not [thread.name for thread in set(threading.enumerate()) - before if thread.name.startswith("streamq")]
    assert not list(temp_dir.iterdir())


@pytest.fixture(scope="module")
async def pool(executor: str, anyio_backend: object, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[WorkerPool]:
    """A pool for all tests of a module that leave it as it was."""
    async with make_pool(executor, tmp_path_factory.mktemp("pool")) as pool:
        yield pool
