"""Folds the changes of a continuous query into a table: what a reader of `EMIT CHANGES` does to have the answer at hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from streamq.kernels.index import KeyIndex
from streamq.plan.dataflow import OP

Codes = NDArray[np.int64]


def apply_changes(table: pa.Table, batch: pa.RecordBatch | pa.Table, *, key: Sequence[str] | None) -> pa.Table:
    """Give the table with a batch of changes folded in.

    `table` has the columns of the batch without ``_op``; a first one is ``stream.schema.empty_table()`` without that column. `key` is
    ``stream.key``: with one, a row replaces or removes the row of its key; with None, a delete removes one equal row. A batch without
    ``_op`` only adds rows. Rows are changes in their order; the order of the result's rows means nothing. In keys and
    rows NULL equals NULL, NaN equals NaN and -0.0 equals 0.0.

    >>> orders = pa.table({"id": [1, 2], "n": [5, 6]})
    >>> change = pa.record_batch({"id": [1, 2, 3], "n": [5, 7, 8], "_op": ["delete", "update", "insert"]})
    >>> apply_changes(orders, change, key=("id",)).to_pylist()
    [{'id': 2, 'n': 7}, {'id': 3, 'n': 8}]

    Raises:
        ValueError: the batch does not follow the table: it inserts a key that is there, or changes or deletes what is not there;
            its columns are other ones; ``_op`` has another value.
    """
    changes = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
    has_op = OP in changes.schema.names
    rows = changes.drop_columns([OP]) if has_op else changes
    if rows.schema.names != table.schema.names:
        raise ValueError(f"the changes have the columns {rows.schema.names}, the table has {table.schema.names}")
    rows = rows.cast(table.schema)
    if not has_op:
        return pa.concat_tables([table, rows])
    ops = _ops(changes.column(OP))
    if key is None:
        return _fold_bag(table, rows, ops)
    if missing := set(key) - set(table.schema.names):
        raise ValueError(f"the table has no key column {min(missing)!r}; it has {table.schema.names}")
    return _fold_keys(table, rows, ops, key)


_NAMES = ("delete", "insert", "update")
_DELETE, _INSERT, _UPDATE = range(3)


def _ops(column: pa.ChunkedArray) -> Codes:
    found = pc.fill_null(pc.index_in(column.cast(pa.string()), pa.array(_NAMES)), -1).to_numpy()
    if (unknown := np.flatnonzero(found < 0)).size:
        raise ValueError(f"{OP} is {column[int(unknown[0])].as_py()!r}, not insert, update or delete")
    return np.asarray(found, np.int64)


def _fold_keys(table: pa.Table, rows: pa.Table, ops: Codes, key: Sequence[str]) -> pa.Table:
    before, codes = _codes(table, rows, key)
    if len(np.unique(before)) < len(before):
        raise ValueError(f"the table has several rows of one key ({', '.join(key) or 'it can have one row'})")
    # By key, in the order of the changes: what a change finds is what the one before it left.
    order = np.argsort(codes, kind="stable")
    sorted_codes, sorted_ops = codes[order], ops[order]
    first = np.ones(len(order), bool)
    first[1:] = sorted_codes[1:] != sorted_codes[:-1]
    there = np.isin(sorted_codes, before)
    there[~first] = sorted_ops[:-1][~first[1:]] != _DELETE
    if (wrong := np.flatnonzero(there == (sorted_ops == _INSERT))).size:
        place = int(order[wrong[0]])
        row = {name: rows.column(name)[place].as_py() for name in key}
        state = "there already" if ops[place] == _INSERT else "not there"
        raise ValueError(f"{_NAMES[ops[place]]} of a row that is {state}: {row}")
    last = np.append(first[1:], True) if len(order) else first
    kept = np.sort(order[last & (sorted_ops != _DELETE)])
    return pa.concat_tables([table.filter(pa.array(~np.isin(before, codes))), rows.take(pa.array(kept))])


def _fold_bag(table: pa.Table, rows: pa.Table, ops: Codes) -> pa.Table:
    if (ops == _UPDATE).any():
        raise ValueError("an update needs the key of the changes: key=stream.key")
    before, codes = _codes(table, rows, table.schema.names)
    size = int(max(before.max(initial=-1), codes.max(initial=-1))) + 1
    counts = np.bincount(before, minlength=size)
    signs = np.where(ops == _DELETE, -1, 1)
    order = np.argsort(codes, kind="stable")
    running = _running(codes[order], signs[order]) + counts[codes[order]]
    if (wrong := np.flatnonzero(running < 0)).size:
        raise ValueError(f"delete of a row that is not there: {rows.slice(int(order[wrong[0]]), 1).to_pylist()[0]}")
    net = np.zeros(size, np.int64)
    np.add.at(net, codes, signs)
    removed = _rank(before) < np.maximum(-net, 0)[before]
    inserts = np.flatnonzero(ops == _INSERT)
    added = inserts[_rank(codes[inserts]) < np.maximum(net, 0)[codes[inserts]]]
    return pa.concat_tables([table.filter(pa.array(~removed)), rows.take(pa.array(added))])


def _codes(table: pa.Table, rows: pa.Table, names: Sequence[str]) -> tuple[Codes, Codes]:
    """Number the keys of both: equal keys have one number."""
    if not names:
        return np.zeros(table.num_rows, np.int64), np.zeros(rows.num_rows, np.int64)
    index = KeyIndex(pa.schema([table.schema.field(name) for name in names]))

    def encode(part: pa.Table) -> Codes:
        return index.encode([part.column(name).combine_chunks() for name in names])

    return encode(table), encode(rows)


def _running(codes: Codes, signs: Codes) -> Codes:
    """Sum up signs within runs of equal codes."""
    total = np.cumsum(signs)
    first = np.flatnonzero(np.append(True, codes[1:] != codes[:-1])) if len(codes) else np.zeros(0, np.int64)
    return total - np.repeat(total[first] - signs[first], np.diff(np.append(first, len(codes))))


def _rank(codes: Codes) -> Codes:
    """Count, for every row, the rows before it with the same code."""
    order = np.argsort(codes, kind="stable")
    ranks = np.empty(len(codes), np.int64)
    ranks[order] = _running(codes[order], np.ones(len(codes), np.int64)) - 1
    return ranks
