"""`register`: from a name and anything to a relation."""

from __future__ import annotations

import os

import pyarrow as pa

from streamq.connectors.arrow import arrow_snapshot
from streamq.connectors.files import file_snapshot
from streamq.errors import SourceError
from streamq.plan.relations import RelationKind, RelationSnapshot
from streamq.sql.catalog import SYSTEM_SCHEMA
from streamq.storage.event_time import event_time


class RegisteredRelation:
    """Rows that were somewhere else when they were registered, and stay as they were then.

    System columns: `_timestamp` is the file's modification time (of objects: the time of registration), `_partition` the
    number of the file, `_offset` the row in it. A column of the data with such a name goes first; then there are none.
    """

    kind: RelationKind = "registered"
    primary_key: tuple[str, ...] = ()

    def __init__(self, name: str, snapshot: RelationSnapshot, watermark: tuple[str, str] | None = None) -> None:
        self.name = name
        self.schema: pa.Schema = snapshot.schema
        self.watermark = watermark
        self.system_columns = not {column.lower() for column in snapshot.schema.names} & set(SYSTEM_SCHEMA.names)
        self._snapshot = snapshot

    def snapshot(self) -> RelationSnapshot:
        """Give the rows as they were registered."""
        return self._snapshot


def registered(name: str, obj_or_path: object, watermark: str | None = None) -> RegisteredRelation:
    """Make a relation of files or of an object.

    Files are a path, a glob or a list of paths: Parquet, Arrow IPC, CSV or NDJSON. Objects are a `pyarrow.dataset.Dataset` or anything with
    `__arrow_c_stream__`; a reader is read to its end now. `watermark` is an expression over one timestamp column.

    Raises:
        SourceError: no file matches, a file cannot be read or differs from the others in its columns, or the object has no Arrow data.
        BindError: the watermark does not fit.
    """
    if not name:
        raise SourceError("a registered relation needs a name")
    snapshot = file_snapshot(name, obj_or_path) if _is_path(obj_or_path) else arrow_snapshot(name, obj_or_path)
    return RegisteredRelation(name, snapshot, event_time(name, snapshot.schema, watermark) if watermark is not None else None)


def _is_path(value: object) -> bool:
    if isinstance(value, list | tuple):
        return bool(value) and all(isinstance(item, str | os.PathLike) for item in value)
    return isinstance(value, str | os.PathLike)
