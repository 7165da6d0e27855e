"""Versions of a table: what a snapshot of one is made of.

A version is an open transaction of DuckDB, which costs nothing to take and sees the table as it was then, whatever is
written later. Its rows become Arrow when they are first asked for, so the copy is made outside the commit lock and only
for versions that are read.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Literal

import duckdb
import pyarrow as pa

from streamq.errors import ResourceLimit
from streamq.plan.relations import ScanArrow
from streamq.plan.splits import Lease, Split
from streamq.storage.memory import MemorySnapshot, Unit, snapshot_of
from streamq.storage.text import identifier


class TableVersion:
    """One version of a table, a `RelationSnapshot`. May be used from any thread.

    `rows` is known from the start; everything else reads the rows out. Raises ResourceLimit where they do not fit into memory.
    """

    exact = True
    unit: Literal["range"] = "range"
    in_memory = True
    partition_keys: tuple[str, ...] = ()

    def __init__(self, table: str, schema: pa.Schema, rows: int, con: duckdb.DuckDBPyConnection) -> None:
        """Take the version that `con`, a connection of its own, sees now. Whoever calls holds writers back."""
        self.schema = schema
        self.rows = rows
        self._table = table
        self._lock = threading.Lock()
        self._memory: MemorySnapshot | None = None
        self._con = con
        con.begin()
        # A transaction begins with what it first reads.
        con.execute(f"SELECT 1 FROM {identifier(table)} LIMIT 0").fetchall()

    @property
    def bytes(self) -> int:
        """How many bytes the rows take as Arrow."""
        return self.read_out().bytes

    @property
    def at_hand(self) -> bool:
        """The rows have been read out."""
        return self._memory is not None

    @property
    def bytes_read_out(self) -> int | None:
        """Like `bytes`, but None as long as nobody has asked for the rows."""
        return None if self._memory is None else self._memory.bytes

    @property
    def max_parallelism(self) -> int:
        """The number of splits, at least 1."""
        return self.read_out().max_parallelism

    @property
    def splits(self) -> Sequence[Split]:
        """Ranges of all rows."""
        return self.read_out().splits

    def read(self, lease: Lease | None, columns: Sequence[str], filter: str | None = None) -> ScanArrow:
        """Give the rows of a lease, all rows for None."""
        return self.read_out().read(lease, columns, filter)

    def verify(self, lease: Lease | None) -> None:
        """Do nothing: what a transaction sees cannot change."""

    def read_out(self) -> MemorySnapshot:
        """Make the rows Arrow, if nobody has yet. What takes its time here holds nobody back who writes."""
        with self._lock:
            if self._memory is None:
                columns = ", ".join(map(identifier, self.schema.names))
                try:
                    table = self._con.sql(f"SELECT {columns} FROM {identifier(self._table)}").to_arrow_table()
                except duckdb.OutOfMemoryException as error:
                    raise ResourceLimit(f"{self._table}: its rows do not fit into memory: {error}") from error
                self._memory = snapshot_of(self.schema, [Unit(0, table.cast(self.schema))])
                # The transaction ends with its connection; DuckDB may then forget what only this version needed.
                self._con.close()
            return self._memory
