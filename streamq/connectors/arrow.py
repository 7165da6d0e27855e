"""Objects with Arrow data: tables, readers, data frames, relations of DuckDB, datasets."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, TypeGuard

from streamq.connectors.normal import readable
from streamq.errors import SourceError
from streamq.plan.relations import RelationSnapshot
from streamq.storage.memory import Unit, snapshot_of
from streamq.storage.rows import arrow_table

if TYPE_CHECKING:
    from pyarrow.dataset import Dataset


def arrow_snapshot(relation: str, data: object) -> RelationSnapshot:
    """Make a snapshot of an object as it is now; its buffers are shared, not copied.

    Raises:
        SourceError: the object has no Arrow data, reading it failed, or DuckDB has no such type.
    """
    if _is_dataset(data):
        # Imported here, because pyarrow.dataset takes long to import, and imports pandas where it is installed.
        from streamq.connectors.dataset import dataset_snapshot

        return dataset_snapshot(relation, data)
    table = arrow_table(data, relation)
    if table is None:
        raise SourceError(
            f"{relation}: {type(data).__name__} has no Arrow data; register a path, a data frame, or anything with __arrow_c_stream__"
        )
    schema = readable(relation, table.schema)
    unit = Unit(0, table.rename_columns(schema.names), arrived_us=time.time_ns() // 1_000)
    return snapshot_of(schema, [unit])


def _is_dataset(data: object) -> TypeGuard[Dataset]:
    """Tell whether it is a dataset, of which there is none as long as their module has not been imported."""
    module = sys.modules.get("pyarrow.dataset")
    return module is not None and isinstance(data, module.Dataset)
