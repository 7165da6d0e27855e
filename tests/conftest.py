"""Fixtures that every area uses: the backends, Parquet files, and the check that nothing is left behind."""

from __future__ import annotations

import atexit
import gc
import os
import re
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, settings

from tests.turns import in_turn

BACKENDS = [pytest.param(("asyncio", {"debug": False}), id="asyncio")]
if find_spec("trio") is not None:
    BACKENDS.append(pytest.param(("trio", {}), id="trio"))

QUIET = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)
settings.register_profile("ci", derandomize=True, max_examples=10, deadline=None, print_blob=True, suppress_health_check=QUIET)
settings.register_profile("dev", max_examples=10, deadline=None, print_blob=True, suppress_health_check=QUIET)
settings.register_profile("long", max_examples=1_000, deadline=None, print_blob=True, suppress_health_check=QUIET)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

# Compiled once, not by each process that the tests start, wherever the environment asks otherwise.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

ParquetFile = Callable[..., Path]
MOST_PROCESSES = 4
"""Test processes at once: each starts workers of its own."""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Let the garbage collector pass over what is there before the first test, until the end: it is much, and it stays."""
    gc.disable()
    atexit.register(_collect_all)
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def _collect_all() -> None:
    """Let the collector have all again, and take Hypothesis's callback from it: what outlives the interpreter, DuckDB reports as leaks."""
    gc.unfreeze()
    gc.callbacks.clear()


@pytest.hookimpl(tryfirst=True, optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Run directories in a process for each processor and one more, since tests wait too, for processes that they start and for sockets.
    Files that are named run in this one, where a debugger can be.
    """
    return 0 if _names_files(config) else min((os.cpu_count() or 1) + 1, MOST_PROCESSES)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let the cases of the tests that say so take turns on the event loops and executors."""
    if not _names_files(config):
        items[:] = in_turn(items)


def _names_files(config: pytest.Config) -> bool:
    return any(".py" in argument for argument in config.getoption("file_or_dir"))


@pytest.fixture(scope="module", params=BACKENDS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """The event loops that streamq runs on: asyncio, and trio where it is installed."""
    backend: tuple[str, dict[str, Any]] = request.param
    return backend


@pytest.fixture(scope="module", params=["thread", "process"])
def executor(request: pytest.FixtureRequest) -> str:
    """Where snapshot queries, and continuous ones that are told so, run."""
    executor: str = request.param
    return executor


@pytest.fixture(scope="session", autouse=True)
def temporary_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Give the tests, and what they start, a directory for temporary files that no other program writes to."""
    directory = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(directory))
        patch.setattr(tempfile, "tempdir", str(directory))
        yield directory


@pytest.fixture(scope="session")
def parquet_file(tmp_path_factory: pytest.TempPathFactory) -> ParquetFile:
    """Write a table to a new Parquet file: `parquet_file(table, row_group_size=100)` gives its path."""

    def write(table: pa.Table, *, name: str = "rows.parquet", **options: Any) -> Path:
        path = tmp_path_factory.mktemp("parquet") / name
        pq.write_table(table, path, **options)
        return path

    return write


@dataclass(frozen=True, slots=True)
class Residue:
    """What a process holds outside its own heap. Two of them are compared with `since`."""

    threads: Counter[str]
    children: frozenset[int]
    descriptors: Counter[str]
    shared_memory: frozenset[str]
    temporary: frozenset[str]

    @classmethod
    def now(cls) -> Residue:
        """Look at this process."""
        gc.collect()
        for thread in threading.enumerate():
            # Anyio's threads are told to end with their loop, which does not wait for them.
            if getattr(thread, "stopping", False):
                thread.join()
        return cls(
            # Trio keeps idle threads for a while, for the next loop.
            threads=Counter(t.name for t in threading.enumerate() if not t.name.lower().startswith("trio")),
            children=frozenset(child.pid for child in psutil.Process().children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE),
            descriptors=Counter(_open_descriptors()),
            shared_memory=frozenset(name for name in _names("/dev/shm") if not _is_of_another_process(name)),
            temporary=frozenset(name for name in _names(tempfile.gettempdir()) if name.startswith("streamq")),
        )

    def since(self, before: Residue) -> dict[str, list[Any]]:
        """Give what is there now and was not before, by kind; empty if nothing is."""
        added: dict[str, list[Any]] = {
            "threads": sorted((self.threads - before.threads).elements()),
            "children": sorted(self.children - before.children),
            "descriptors": sorted((self.descriptors - before.descriptors).elements()),
            "shared_memory": sorted(self.shared_memory - before.shared_memory),
            "temporary": sorted(self.temporary - before.temporary),
        }
        return {kind: names for kind, names in added.items() if names}


@pytest.fixture
def no_residue() -> Iterator[None]:
    """Fail the test if, after it and its loop, a thread, child process, descriptor, shared-memory or temporary file of it is left."""
    before = Residue.now()
    # What was there before the test is passed over by the collections to come.
    gc.freeze()
    yield
    left = Residue.now().since(before)
    assert not left, f"left behind: {left}"


def _open_descriptors() -> list[str]:
    links = []
    for number in _names("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{number}"))
        except FileNotFoundError:
            continue  # the descriptor of the listing itself
    # Numbers in the names of pipes and sockets differ from one to the next.
    return [link.split(":[")[0] for link in links]


def _is_of_another_process(name: str) -> bool:
    """Tell whether a name, which has its process as all of streamq's do, is of one that is neither this nor below it."""
    pid = re.match(r"streamq-(?:[a-z]+-)?(\d+)", name)
    ours = {os.getpid(), *(child.pid for child in psutil.Process().children(recursive=True))}
    return pid is not None and psutil.pid_exists(int(pid[1])) and int(pid[1]) not in ours


def _names(directory: str) -> list[str]:
    return os.listdir(directory) if os.path.isdir(directory) else []
