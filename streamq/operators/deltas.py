"""What several operators do with changes: weights as a column, several into one, values passed to SQL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from streamq.kernels.weights import consolidate
from streamq.operators.base import Delta, Epoch, Weights
from streamq.plan.dataflow import WEIGHT

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def weights_of(delta: Delta) -> Weights:
    """Give the weight of every row, written out."""
    return np.ones(delta.num_rows, np.int64) if delta.weights is None else delta.weights


def with_weight(schema: pa.Schema) -> pa.Schema:
    """Give a schema and the column of weights behind it."""
    return schema.append(pa.field(WEIGHT, pa.int64()))


def to_sql(delta: Delta) -> pa.RecordBatch:
    """Give the rows with their weights as the column `WEIGHT`."""
    return pa.RecordBatch.from_arrays([*delta.rows.columns, pa.array(weights_of(delta))], schema=with_weight(delta.rows.schema))


def from_sql(batch: pa.RecordBatch, schema: pa.Schema) -> Delta:
    """Take the column `WEIGHT` out of what SQL gave, if it is there; the others are those of `schema`, by position."""
    place = batch.schema.get_field_index(WEIGHT)
    if place < 0:
        return Delta(conform(batch.columns, schema))
    rows = conform([column for number, column in enumerate(batch.columns) if number != place], schema)
    return Delta(rows, np.asarray(batch.column(place).cast(pa.int64())))


def conform(columns: Sequence[pa.Array], schema: pa.Schema) -> pa.RecordBatch:
    """Make a batch of `schema` of columns that are its own by position, and of its types but for what Arrow has several spellings of."""
    return pa.RecordBatch.from_arrays(
        [column if column.type == field.type else column.cast(field.type) for column, field in zip(columns, schema, strict=True)],
        schema=schema,
    )


def concatenated(schema: pa.Schema, deltas: Iterable[Delta]) -> Delta:
    """Give several changes as one, in this order, in columns named by `schema`."""
    filled = [delta for delta in deltas if delta.num_rows]
    match filled:
        case []:
            return Delta.empty(schema)
        case [delta]:
            return delta if delta.rows.schema == schema else Delta(conform(delta.rows.columns, schema), delta.weights)
    rows = pa.concat_batches([conform(delta.rows.columns, schema) for delta in filled])
    if all(delta.weights is None for delta in filled):
        return Delta(rows)
    return Delta(rows, np.concatenate([weights_of(delta) for delta in filled]))


def joined(deltas: Sequence[Delta]) -> Delta:
    """Give several changes of one schema, at least one of them, as one, in this order."""
    return concatenated(deltas[0].rows.schema, deltas)


def net(delta: Delta) -> Delta:
    """Give every different row once, with the sum of its weights, those that are withdrawn first."""
    if delta.num_rows == 0:
        return delta
    rows, weights = consolidate(delta.rows, delta.weights)
    order = np.argsort(weights > 0, kind="stable")
    return Delta(rows.take(pa.array(order)), weights[order])


def to_state(delta: Delta) -> pa.Table:
    """Give rows and how often each is there as a table that is kept: with the column `WEIGHT` behind them."""
    return pa.Table.from_batches([delta.rows]).append_column(WEIGHT, pa.array(weights_of(delta)))


def from_state(state: pa.Table, schema: pa.Schema) -> Delta:
    """Give the rows of a table that `to_state` made, maybe in another run, or of several put behind each other."""
    table = state.combine_chunks()
    rows = table.drop_columns([WEIGHT]).to_batches()
    return Delta(pa.concat_batches(rows), table.column(WEIGHT).to_numpy()) if rows else Delta.empty(schema)


def plain(delta: Delta, owner: str) -> Delta:
    """Write rows that are only added as often as they are: what operators whose result does not retract give, and such inputs are."""
    if delta.weights is None:
        return delta
    assert bool((delta.weights > 0).all()), f"{owner}: a row was withdrawn that cannot be"
    return Delta(repeated(delta.rows, delta.weights))


def negated(delta: Delta) -> Delta:
    """Withdraw what was added."""
    return Delta(delta.rows, -weights_of(delta))


def selected(delta: Delta, places: NDArray[np.int64] | NDArray[np.bool_]) -> Delta:
    """Give the rows at `places` (numbers, or a mask)."""
    if places.dtype == np.bool_:
        places = np.flatnonzero(places)
    return Delta(delta.rows.take(pa.array(places)), None if delta.weights is None else delta.weights[places])


def repeated(rows: pa.RecordBatch, multiplicities: Weights) -> pa.RecordBatch:
    """Give every row as often as it is there."""
    if rows.num_rows == 0 or bool((multiplicities == 1).all()):
        return rows
    return rows.take(pa.array(np.repeat(np.arange(rows.num_rows), multiplicities)))


def values(parameters: Mapping[str, object], epoch: Epoch) -> dict[str, object]:
    """Give the values of SQL's parameters in an epoch: the query's, and `$now`."""
    return {**parameters, "now": _EPOCH + timedelta(microseconds=epoch.now_us)}
