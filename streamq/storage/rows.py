"""What `insert` takes, as an Arrow table of the relation's schema.

Accepted are record batches, tables, anything with the Arrow PyCapsule interface (pandas, polars, DuckDB relations,
readers), a dict (one row, or columns), and iterables of dicts or of batches. Names match without regard to case; columns
that are missing are NULL. Conversions lose nothing (see `casts`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain, islice
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from streamq.errors import SourceError
from streamq.storage.casts import ConversionError, convert, first_failing
from streamq.storage.text import did_you_mean, type_name

_UNFIT = (*ConversionError, OverflowError, UnicodeEncodeError)
"""What Arrow raises of Python values that it has no place for. The last: half of a surrogate pair, which is no text."""
_PANDAS_INDEX = re.compile(r"__index_level_\d+__")


@dataclass(frozen=True, slots=True)
class InsertResult:
    """What one insert wrote. Offsets are places in the relation's whole insert sequence, which counts every row ever
    inserted from 0; of an insert without rows `last_offset` is `first_offset` - 1. (`_offset` counts within a shard.)
    """

    rows: int
    first_offset: int
    last_offset: int


def table_of(data: object, schema: pa.Schema, *, relation: str) -> pa.Table:
    """Turn what a user inserts into `relation` into a table of `schema`. Rows in errors count from 0.

    Raises:
        SourceError: a column does not exist, a value does not fit its column, a NULL where none may be, or no rows at all
            can be made of `data`.
    """
    columns, rows = _columns(data, schema, relation)
    _check_columns(columns, schema, relation)
    by_name = {name.lower(): column for name, column in columns.items()}
    arrays = []
    for field in schema:
        column = by_name.get(field.name.lower())
        converted = pa.chunked_array([pa.nulls(rows, field.type)]) if column is None else _fit(column, field, relation)
        _check_nulls(converted, field, relation)
        arrays.append(converted)
    return pa.Table.from_arrays(arrays, schema=schema)


def arrow_table(data: object, relation: str) -> pa.Table | None:
    """Read an object with the Arrow PyCapsule interface, or an Arrow object, into a table; None for anything else.

    An unnamed pandas index is left out.

    Raises:
        SourceError: reading it failed. What Python code in it raises, it raises.
    """
    try:
        table = _read_table(data)
    except (pa.ArrowException, duckdb.Error) as error:
        raise SourceError(f"{relation}: reading {type(data).__name__} failed: {error}") from error
    if table is None:
        return None
    return table.select([i for i, name in enumerate(table.column_names) if not _PANDAS_INDEX.fullmatch(name)])


def _read_table(data: object) -> pa.Table | None:
    match data:
        case pa.Table():
            return data
        case pa.RecordBatch():
            return pa.Table.from_batches([data])
        case pa.RecordBatchReader():
            return data.read_all()
        case _ if hasattr(data, "__arrow_c_stream__"):
            return pa.RecordBatchReader.from_stream(data).read_all()
        case _ if hasattr(data, "__arrow_c_array__"):
            return pa.Table.from_batches([pa.record_batch(data)])
        case _:
            return None


def _columns(data: object, schema: pa.Schema, relation: str) -> tuple[Mapping[str, Any], int]:
    """Give the columns by name, as Arrow arrays or lists of Python values, and the number of rows."""
    table = arrow_table(data, relation)
    if table is not None:
        _check_unique(table.column_names, relation)
        return dict(zip(table.column_names, table.columns, strict=True)), table.num_rows
    if isinstance(data, Mapping):
        return _of_dict(data, schema, relation)
    if isinstance(data, str | bytes) or not isinstance(data, Iterable):
        raise SourceError(
            f"{relation}: rows cannot be made of {type(data).__name__}; give an Arrow table, a data frame, a dict or a list of dicts"
        )
    iterator = iter(data)
    head = list(islice(iterator, 1))
    if not head:
        return {}, 0
    if isinstance(head[0], Mapping):
        return _of_rows(chain(head, iterator), relation)
    return _of_tables(chain(head, iterator), schema, relation)


def _of_tables(parts: Iterable[object], schema: pa.Schema, relation: str) -> tuple[Mapping[str, Any], int]:
    tables = []
    for number, part in enumerate(parts):
        # Read once: a reader has nothing left then.
        table = arrow_table(part, relation)
        if table is None:
            raise SourceError(f"{relation}, item {number}: expected a dict or an Arrow batch, not {type(part).__name__}")
        tables.append(
            table_of(
                table,
                pa.schema([field.with_nullable(True) for field in schema]),
                relation=relation,
            )
        )
    table = pa.concat_tables(tables)
    return dict(zip(table.column_names, table.columns, strict=True)), table.num_rows


def _of_dict(data: Mapping[Any, Any], schema: pa.Schema, relation: str) -> tuple[Mapping[str, Any], int]:
    """Take a dict as columns if every value is a column, else as one row."""
    types = {field.name.lower(): field.type for field in schema}
    if not data or not all(_is_column(value, types.get(str(name).lower())) for name, value in data.items()):
        return _of_rows([data], relation)
    _check_unique([str(name) for name in data], relation)
    lengths = {str(name): len(value) for name, value in data.items()}
    if len(set(lengths.values())) > 1:
        raise SourceError(f"{relation}: the columns have different lengths: " + ", ".join(f"{k} {v}" for k, v in lengths.items()))
    return {str(name): _values(value) for name, value in data.items()}, next(iter(lengths.values()))


def _is_column(value: object, target: pa.DataType | None) -> bool:
    if not _is_sequence(value):
        return False
    if target is None or not (pa.types.is_list(target) or pa.types.is_fixed_size_list(target)):
        return True
    # ["a", "b"] is a value of a list column; [["a"], ["b"]] is a column of lists.
    return all(item is None or _is_sequence(item) for item in _values(value))


def _is_sequence(value: object) -> bool:
    return isinstance(value, list | tuple | pa.Array | pa.ChunkedArray) or (
        hasattr(value, "__array__") and hasattr(value, "__len__") and getattr(value, "ndim", 1) == 1
    )


def _values(value: Any) -> Any:
    if isinstance(value, pa.Array | pa.ChunkedArray | list):
        return value
    return list(value) if isinstance(value, tuple) else pa.array(value)


def _of_rows(rows: Iterable[object], relation: str) -> tuple[Mapping[str, list[Any]], int]:
    columns: dict[str, list[Any]] = {}
    count = 0
    for count, row in enumerate(rows, start=1):
        if not isinstance(row, Mapping):
            raise SourceError(f"{relation}, row {count - 1}: expected a dict, not {type(row).__name__}")
        for name, value in row.items():
            values = columns.setdefault(str(name).lower(), [])
            if len(values) == count:
                raise SourceError(f"{relation}, row {count - 1}: the column {name!r} is given twice")
            values.extend([None] * (count - 1 - len(values)))
            values.append(value)
    for values in columns.values():
        values.extend([None] * (count - len(values)))
    return columns, count


def _check_unique(names: Sequence[str], relation: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name.lower() in seen:
            raise SourceError(f"{relation}: the column {name!r} is given twice")
        seen.add(name.lower())


def _check_columns(columns: Iterable[str], schema: pa.Schema, relation: str) -> None:
    known = {name.lower() for name in schema.names}
    unknown = [name for name in columns if name.lower() not in known]
    if unknown:
        raise SourceError(
            f"{relation} has no column {', '.join(map(repr, unknown))}{did_you_mean(unknown[0], schema.names)} "
            f"(its columns are {', '.join(schema.names)})"
        )


def _fit(column: Any, field: pa.Field, relation: str) -> pa.ChunkedArray:
    array = _infer(column, field, relation) if isinstance(column, list) else column
    if isinstance(array, pa.Array):
        array = pa.chunked_array([array])
    try:
        return convert(array, field.type)
    except ConversionError as error:
        row = first_failing(array, field.type)
        raise _refusal(
            array[row].as_py() if array.type != field.type else array[row],
            row,
            field,
            relation,
            error,
        ) from error


def _infer(values: list[Any], field: pa.Field, relation: str) -> pa.ChunkedArray:
    """Make an Arrow array of Python values; a column of mixed types is converted value by value."""
    if pa.types.is_map(field.type):
        values = [list(value.items()) if isinstance(value, Mapping) else value for value in values]
        return _one_by_one(values, field, relation, field.type)
    try:
        return pa.chunked_array([pa.array(values)])
    except _UNFIT:
        return _one_by_one(values, field, relation, None)


def _one_by_one(values: list[Any], field: pa.Field, relation: str, arrow: pa.DataType | None) -> pa.ChunkedArray:
    parts = []
    for row, value in enumerate(values):
        try:
            parts.append(convert(pa.chunked_array([_array_of(value, field.type, arrow)]), field.type).chunk(0))
        except _UNFIT as error:
            raise _refusal(value, row, field, relation, error) from error
    return pa.chunked_array(parts, type=field.type)


def _array_of(value: Any, target: pa.DataType, arrow: pa.DataType | None) -> pa.Array:
    """Make an array of one value; Arrow takes whole numbers beyond 64 bits, and unsigned ones, only where it is told their type."""
    if arrow is None and isinstance(value, int) and not -(2**63) <= value < 2**63:
        return pa.array([Decimal(value)]) if pa.types.is_decimal(target) else pa.array([value], pa.uint64())
    return pa.array([value], arrow)


def _refusal(value: object, row: int, field: pa.Field, relation: str, error: Exception) -> SourceError:
    shown = repr(value) if len(repr(value)) <= 80 else repr(value)[:77] + "..."
    return SourceError(
        f"{relation}.{field.name}, row {row}: {shown} ({type(value).__name__}) cannot become {type_name(field.type)} without loss: {error}"
    )


def _check_nulls(column: pa.ChunkedArray, field: pa.Field, relation: str) -> None:
    if field.nullable or not column.null_count:
        return
    row = pc.index(column.is_null(), True).as_py()
    raise SourceError(f"{relation}.{field.name}, row {row}: NULL in a NOT NULL column; give a value for it")
