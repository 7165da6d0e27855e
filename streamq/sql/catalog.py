"""What binding knows of the relations that exist."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

SYSTEM_SCHEMA = pa.schema([("_timestamp", pa.timestamp("us", "UTC")), ("_partition", pa.int32()), ("_offset", pa.int64())])
"""The columns that the rows of a source carry besides their own; not in `SELECT *`."""


WATERMARK = "_watermark"
"""What rows read by a continuous query carry besides: the watermark that stood before them. Users' texts cannot name it."""


def watermark_type(event_time: pa.DataType) -> pa.DataType:
    """Give the type of `WATERMARK` for an event time of a type."""
    return pa.timestamp("us", None if getattr(event_time, "tz", None) is None else "UTC")


@dataclass(frozen=True, slots=True)
class RelationInfo:
    """A relation as SQL sees it. `schema` has the user's columns; `system_columns` tells that rows also carry
    `_timestamp`, `_partition` and `_offset`. `view_sql` is the SELECT of a view, None for what holds rows, a materialized view too.
    """

    name: str
    kind: Literal["source", "table", "view", "materialized view", "registered"]
    schema: pa.Schema
    system_columns: bool = False
    primary_key: tuple[str, ...] = ()
    watermark: tuple[str, str] | None = None
    view_sql: str | None = None


CatalogView = Mapping[str, RelationInfo]
"""The relations by lower-case name."""
