"""What statements answer."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class ExecuteResult:
    """What a statement did: its `kind` (``create source``, ``insert`` …), how many `rows` it wrote, changed or removed.

    `table` is what SHOW, DESCRIBE and EXPLAIN answer, None for every other statement.
    """

    kind: str
    rows: int
    table: pa.Table | None = None
