"""A database per executor, shared by a module's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import streamq


@pytest.fixture(scope="module")
async def db(executor: str, anyio_backend: object) -> AsyncIterator[streamq.Database]:
    """A database with two workers, whose relations the tests name apart."""
    async with streamq.connect(executor=executor, workers=2, target_partitions=2) as db:
        yield db
