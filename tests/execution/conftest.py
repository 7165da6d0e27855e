"""The pools, in both kinds, with a check that they leave no thread and no file."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.execution.pools import PoolMaker, make_pool


@pytest.fixture
def new_pool(executor: str, tmp_path: Path) -> Iterator[PoolMaker]:
    """Make pools (`new_pool(workers=1)`); when they are left, their threads and files are gone."""
    temp_dir = tmp_path / "temp"
    temp_dir.mkdir()
    yield partial(make_pool, executor, temp_dir)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("streamq")]
    assert not list(temp_dir.iterdir())
