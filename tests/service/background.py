"""A service in a thread of its own, for tests whose clients wait without an event loop: Hypothesis, schemathesis, a browser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import anyio
import anyio.abc
import anyio.from_thread

import streamq
from streamq.server import app
from tests.service.conftest import serving


@dataclass(frozen=True, slots=True)
class Service:
    """What is served, where, and the thread that does."""

    url: str
    database: streamq.Database
    portal: anyio.from_thread.BlockingPortal


@contextmanager
def in_background(backend: str = "asyncio", **options: Any) -> Iterator[Service]:
    """Serve a new database, with options of `streamq.server.app`, until the block is left."""

    async def serve(*, task_status: anyio.abc.TaskStatus[tuple[str, streamq.Database]]) -> None:
        async with streamq.connect(executor="thread", workers=2, target_partitions=2) as database, serving(app(database, **options)) as url:
            task_status.started((url, database))
            await anyio.sleep_forever()

    with anyio.from_thread.start_blocking_portal(backend) as portal:
        running, (url, database) = portal.start_task(serve)
        try:
            yield Service(url, database, portal)
        finally:
            running.cancel()
