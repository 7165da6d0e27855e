"""Fixtures: a database, the service in front of it on a real socket, and the same database through either."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette

import streamq
from streamq.server import Limits, app, listen, serve

PATIENCE_S = 60
"""Ends a test that hangs; no test depends on how long anything takes."""


@asynccontextmanager
async def serving(application: Starlette, *, grace_s: float = 5.0) -> AsyncIterator[str]:
    """Serve an application, and give its URL."""
    async with anyio.create_task_group() as tasks:
        yield await tasks.start(partial(serve, application, listen("127.0.0.1", 0), grace_s=grace_s))
        tasks.cancel_scope.cancel()


@pytest.fixture
async def home(anyio_backend: object, no_residue: None) -> AsyncIterator[streamq.Database]:
    """The database itself. After the test nothing of it is left, nor of those who used it."""
    async with streamq.connect(executor="thread", workers=2, target_partitions=2) as database:
        yield database


@pytest.fixture
def limits() -> Limits:
    """The limits of the service; a test may have others."""
    return Limits()


@pytest.fixture
async def url(home: streamq.Database, limits: Limits) -> AsyncIterator[str]:
    """The address of the service of `home`."""
    async with serving(app(home, limits=limits)) as address:
        yield address


@pytest.fixture(params=["embedded", "remote"])
async def db(request: pytest.FixtureRequest, home: streamq.Database) -> AsyncIterator[streamq.Database]:
    """`home`, as it is and through its service."""
    if request.param == "embedded":
        yield home
        return
    async with serving(app(home)) as address, streamq.connect(address) as remote:
        yield remote


async def wait_until_idle(database: streamq.Database) -> None:
    """Wait until no query runs and no worker has an open job."""
    with anyio.fail_after(PATIENCE_S):
        while await database.queries() or any(worker.jobs for pool in (await database.statistics()).pools for worker in pool.workers):
            await anyio.lowlevel.checkpoint()


def settings_of(**limits: Any) -> Limits:
    """Make limits."""
    return Limits(**limits)
