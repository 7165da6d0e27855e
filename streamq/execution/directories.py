"""Temporary directories of pools, which also hold the files of their queries.

A pool removes its directory when it ends, and worker processes remove it when their parent was killed. What a process
without workers left when it was killed is found by the next pool: the name says whose it was.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

PREFIX = "streamq-pool-"


def make_pool_directory(parent: str) -> str:
    """Make a directory inside `parent` that names this process, and remove those of processes that no longer run."""
    for name in os.listdir(parent):
        if name.startswith(PREFIX) and _is_orphan(name):
            shutil.rmtree(os.path.join(parent, name), ignore_errors=True)
    return tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=parent)


@contextmanager
def pool_directory(parent: str) -> Iterator[str]:
    """Have such a directory for as long as the block lasts."""
    directory = make_pool_directory(parent)
    try:
        yield directory
    finally:
        remove_pool_directory(directory)


def remove_pool_directory(directory: str) -> None:
    """Remove the directory and what is left in it."""
    shutil.rmtree(directory, ignore_errors=True)


def _is_orphan(name: str) -> bool:
    pid = name.removeprefix(PREFIX).split("-")[0]
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
