"""The rows that are measured: ten million, in a Parquet file with DuckDB's usual row groups."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import duckdb

ROWS = 10_000_000
ROW_GROUP = 122_880
KEYS = 100_000
NUMERIC = "id, key, price, quantity"


def measured_file(rows: int = ROWS) -> Path:
    """Give the file, making it first if it is not there: four numeric columns and three of strings."""
    directory = Path(tempfile.gettempdir()) / "streamq-benchmarks"
    directory.mkdir(exist_ok=True)
    path = directory / f"rows-{rows}.parquet"
    if not path.exists():
        _write(path, rows)
    return path


def _write(path: Path, rows: int) -> None:
    unfinished = path.with_suffix(f".{os.getpid()}")
    with duckdb.connect() as connection:
        connection.execute(
            f"""COPY (
                SELECT i AS id, (hash(i) % {KEYS})::BIGINT AS key, (hash(i + 1) % 100000) / 8 AS price,
                    (hash(i + 2) % 1000)::INTEGER AS quantity,
                    'city ' || hash(i + 3) % 500 AS city, 'customer number ' || hash(i + 4) % 1000000 AS customer,
                    ['new', 'paid', 'sent', 'returned'][(1 + hash(i + 5) % 4)::INTEGER] AS status
                FROM range({rows}) AS r(i)
            ) TO '{unfinished}' (FORMAT parquet, ROW_GROUP_SIZE {ROW_GROUP})"""
        )
    unfinished.rename(path)
