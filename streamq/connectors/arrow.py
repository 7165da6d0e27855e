"""Objects with Arrow data: tables, readers, data frames, relations of DuckDB, datasets."""

from __future__ import annotations

import time

import duckdb
import pyarrow as pa
import pyarrow.dataset as ds

from streamq.connectors.dataset import dataset_snapshot
from streamq.connectors.normal import readable
from streamq.errors import SourceError
from streamq.plan.relations import RelationSnapshot
from streamq.storage.memory import Unit, snapshot_of
from streamq.storage.rows import arrow_table


def arrow_snapshot(relation: str, data: object) -> RelationSnapshot:
    """Make a snapshot of an object as it is now; its buffers are shared, not copied.

    Raises:
        SourceError: the object has no Arrow data, reading it failed, or DuckDB has no such type.
    """
    if isinstance(data, ds.Dataset):
        return dataset_snapshot(relation, data)
    try:
        table = arrow_table(data)
    except (pa.ArrowException, duckdb.Error) as error:
        raise SourceError(f"{relation}: reading {type(data).__name__} failed: {error}") from error
    if table is None:
        raise SourceError(
            f"{relation}: {type(data).__name__} has no Arrow data; register a path, a data frame, or anything with __arrow_c_stream__"
        )
    schema = readable(relation, table.schema)
    unit = Unit(0, table.rename_columns(schema.names), arrived_us=time.time_ns() // 1_000)
    return snapshot_of(schema, [unit])
