"""Files for the command line to read, and the program, as users call it, inside the test's process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamq.cli.app import run

BACKENDS = ["asyncio", *(["trio"] if find_spec("trio") else [])]


@pytest.fixture(scope="session")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows 0 to 99,999 in ten row groups."""
    path = tmp_path_factory.mktemp("data") / "numbers.parquet"
    rows = pa.table({"id": pa.array(range(100_000), pa.int64()), "text": [f"row {number}" for number in range(100_000)]})
    pq.write_table(rows.append_column("one", pa.array([1] * 100_000, pa.int32())), path, row_group_size=10_000)
    return path


@dataclass(frozen=True, slots=True)
class Ended:
    """What a run of the program left: its exit code, and what it wrote to standard output and error."""

    code: int
    out: bytes
    err: str

    def text(self) -> str:
        """Give the output of a run that succeeded and had nothing to say besides."""
        assert (self.code, self.err) == (0, "")
        return self.out.decode()


Program = Callable[..., Ended]


@pytest.fixture
def program(capfdbinary: pytest.CaptureFixture[bytes]) -> Program:
    """Run the program: `program("query", "SELECT 1")`."""

    def call(*arguments: str) -> Ended:
        code = run(arguments)
        captured = capfdbinary.readouterr()
        return Ended(code, captured.out, captured.err.decode())

    return call
