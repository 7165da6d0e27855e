"""Files for the command line to read."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest


@pytest.fixture(scope="session")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows 0 to 99,999 in ten row groups."""
    path = tmp_path_factory.mktemp("data") / "numbers.parquet"
    rows = pa.table({"id": pa.array(range(100_000), pa.int64()), "text": [f"row {number}" for number in range(100_000)]})
    pq.write_table(rows.append_column("one", pa.array([1] * 100_000, pa.int32())), path, row_group_size=10_000)
    return path
