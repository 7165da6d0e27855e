"""The engines that the law is checked on, one for each event loop, kept open while all its cases run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal

import streamq
from tests.law.engine import EXECUTORS, Engine


@pytest.fixture(scope="session")
def engine_on() -> Iterator[Callable[[str], Engine]]:
    """Give the engine on an event loop: a database per executor. It is opened when it is first asked for."""
    with ExitStack() as stack:

        @cache
        def opened(backend: str) -> Engine:
            portal = stack.enter_context(start_blocking_portal(backend))
            databases = {
                executor: stack.enter_context(portal.wrap_async_context_manager(streamq.connect(executor=executor, workers=2)))
                for executor in EXECUTORS
            }
            return Engine(portal, databases)

        yield opened


@pytest.fixture(scope="module")
def engine(anyio_backend: tuple[str, dict[str, Any]], engine_on: Callable[[str], Engine]) -> Engine:
    """The engine on each backend."""
    return engine_on(anyio_backend[0])
