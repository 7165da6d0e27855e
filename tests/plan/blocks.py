"""Hand-made logical plans."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa

from streamq.sql.logical import Block, Named, Scan


def names(*columns: str) -> tuple[Named, ...]:
    """Name columns as they are."""
    return tuple(Named(column, column) for column in columns)


def block(scan: Scan, columns: tuple[Named, ...], schema: pa.Schema, **parts: Any) -> Block:
    """Make a SELECT over one relation whose inputs are its items, except for what `parts` says."""
    plain = Block(
        leaves=(scan,), joins=(), from_sql=f'"{scan.name}" AS t', where=None, inputs=columns, keys=None, calls=(), having=None,
        items=columns, hidden=0, partition_by=(), qualify=None, distinct=False, order=(), limit=None, offset=0, schema=schema,
    )  # fmt: skip
    return replace(plain, **parts)
