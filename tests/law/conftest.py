"""The engine that the law is checked on, kept open while a module's cases run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal

import streamq
from tests.law.engine import EXECUTORS, Engine


@pytest.fixture(scope="module")
def engine(anyio_backend: tuple[str, dict[str, Any]]) -> Iterator[Engine]:
    """A database per executor, on each backend."""
    backend, options = anyio_backend
    with start_blocking_portal(backend, options) as portal, ExitStack() as stack:
        databases = {
            executor: stack.enter_context(portal.wrap_async_context_manager(streamq.connect(executor=executor, workers=2)))
            for executor in EXECUTORS
        }
        yield Engine(portal, databases)
