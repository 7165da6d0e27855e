"""The result of a continuous query, kept up to date by its changes, for showing the rows of it that matter most."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from streamq.cli.table import Excerpt
from streamq.plan.dataflow import OP, Changelog
from streamq.sql.order import OutputTerm
from streamq.streaming.apply import apply_changes

Sorting = tuple[tuple[str, str], ...]


class Folded:
    """A result, built from `stream.changelog`, `stream.key` and the batches of a stream.

    Of a result that only grows, the last `tail_rows` rows are kept. Of any other all rows, which are shown in `order`, or by the key, or by
    all columns. What is shown is the result after a whole epoch.
    """

    def __init__(
        self, schema: pa.Schema, changelog: Changelog, key: Sequence[str] | None, order: Sequence[OutputTerm] = (), *, tail_rows: int
    ) -> None:
        columns = schema if changelog == "append" else pa.schema([field for field in schema if field.name != OP])
        self.epochs = 0
        """How many epochs with changes have been taken in."""
        # Set at once, so that other threads see rows and their number that belong together.
        self._result = columns.empty_table(), 0
        self._changelog = changelog
        self._key = key
        self._tail_rows = tail_rows
        self._sorting = sorting(columns, order, key)
        self._waiting: list[pa.RecordBatch] = []

    def add(self, batch: pa.RecordBatch, *, complete: bool) -> None:
        """Take in a batch of changes; `complete` tells that it is the last of its epoch."""
        self._waiting.append(batch)
        if not complete:
            return
        changes = pa.Table.from_batches(self._waiting)
        self._waiting = []
        rows, total = self._result
        # In one piece: what is folded in again and again would become ever more of them.
        if self._changelog == "append":
            rows = pa.concat_tables([rows, changes])
            self._result = rows.slice(max(0, rows.num_rows - self._tail_rows)).combine_chunks(), total + changes.num_rows
        else:
            rows = apply_changes(rows, changes, key=self._key).combine_chunks()
            self._result = rows, rows.num_rows
        self.epochs += 1

    def excerpt(self, limit: int | None) -> Excerpt:
        """Give the rows to show: the last ones of a result that only grows, else the first ones in its order."""
        rows, total = self._result
        if self._changelog == "append":
            limit = self._tail_rows if limit is None else limit
            return Excerpt(rows.slice(max(0, rows.num_rows - limit)), total > limit, total, last=True)
        if self._sorting:
            rows = rows.take(pc.sort_indices(rows, sort_keys=list(self._sorting)).slice(0, limit))
        return Excerpt(rows.slice(0, limit), limit is not None and total > limit, total)


def sorting(schema: pa.Schema, order: Sequence[OutputTerm], key: Sequence[str] | None) -> Sorting:
    """Give the columns to sort by: those of the order, then the key, or all where there is none, as far as they can be sorted by.

    >>> schema = pa.schema([("shop", pa.string()), ("total", pa.int64()), ("days", pa.list_(pa.int64()))])
    >>> sorting(schema, (OutputTerm("TOTAL", True), OutputTerm(0, False)), None)
    (('total', 'descending'), ('shop', 'ascending'))
    """
    names = {name.lower(): name for name in reversed(schema.names)}
    wanted: dict[str, str] = {}
    for term in order:
        at = term.column
        name = names.get(at.lower()) if isinstance(at, str) else schema.names[at] if 0 <= at < len(schema) else None
        if name is not None:
            wanted.setdefault(name, "descending" if term.descending else "ascending")
    for name in schema.names if key is None else key:
        wanted.setdefault(name, "ascending")
    return tuple((name, how) for name, how in wanted.items() if _is_sortable(schema.field(name).type))


def _is_sortable(kind: pa.DataType) -> bool:
    types = pa.types
    plain = (types.is_boolean, types.is_integer, types.is_floating, types.is_decimal, types.is_temporal, types.is_string, types.is_binary)
    return any(is_kind(kind) for is_kind in plain) and not types.is_interval(kind)
