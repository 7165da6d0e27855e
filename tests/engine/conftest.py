"""Fixtures of this area: a database that a module's tests share."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import streamq


@pytest.fixture(scope="module")
async def shared_db(anyio_backend: object) -> AsyncIterator[streamq.Database]:
    """Open a database once for the tests of a module: its sessions take longer to open than most tests."""
    async with streamq.connect(workers=2, target_partitions=2, executor="thread") as db:
        yield db


@pytest.fixture
async def db(shared_db: streamq.Database) -> AsyncIterator[streamq.Database]:
    """Give the module's database with no relation in it; what the test creates is dropped."""
    yield shared_db
    while relations := await shared_db.relations():
        kind, name = relations[0].kind, relations[0].name
        if kind == "registered":
            await shared_db.unregister(name)
        else:
            await shared_db.execute(f"DROP {kind} {name} CASCADE")
