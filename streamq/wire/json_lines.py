"""Turns Arrow rows into JSON and text, a batch at a time, with DuckDB doing the work.

Numbers keep all their digits; NaN and the infinities, which JSON does not have, are null. Timestamps are ISO 8601, with a
``Z`` if they are instants. Everything else is as DuckDB's `to_json` has it.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from streamq.storage.session import private_session


class JsonLines:
    """Encodes batches of one schema. Not for several threads at once."""

    def __init__(self, schema: pa.Schema) -> None:
        self._connection = private_session()
        self._names = unique_names(schema.names)
        # The rows are registered under these names, because DuckDB's own do not tell upper from lower case.
        self._columns = [f"c{position}" for position in range(len(schema))]
        columns = list(zip(self._columns, schema.types, strict=True))
        pairs = (f"{_literal(name)}, {json_sql(column, kind)}" for name, (column, kind) in zip(self._names, columns, strict=True))
        self._lines = f"SELECT json_object({', '.join(pairs)})::VARCHAR AS line FROM batch"
        self._flat = f"SELECT {', '.join(f'{flat_sql(column, kind)} AS {column}' for column, kind in columns)} FROM batch"
        self._is_flat = all(flat_sql(column, kind) == column for column, kind in columns)
        self._schema = pa.schema([(column, _read_kind(kind)) for column, kind in columns])

    def encode(self, batch: pa.RecordBatch) -> memoryview:
        """Give the rows as JSON lines in UTF-8."""
        lines = self._run(self._lines, batch).column(0).combine_chunks().cast(pa.large_string())
        lines = pc.binary_join_element_wise(lines, pa.scalar("\n", pa.large_string()), pa.scalar("", pa.large_string()))
        whole = pa.ListArray.from_arrays(pa.array([0, len(lines)], pa.int32()), lines)
        return memoryview(pc.binary_join(whole, pa.scalar("", pa.large_string()))[0].as_buffer())

    def flatten(self, batch: pa.RecordBatch) -> pa.Table:
        """Give the rows with every column of a type that CSV can carry: nested values as JSON, the rest as text."""
        table = pa.Table.from_batches([batch]) if self._is_flat else self._run(self._flat, batch)
        return table.rename_columns(self._names)

    def _run(self, sql: str, batch: pa.RecordBatch) -> pa.Table:
        table = pa.Table.from_batches([batch]).rename_columns(self._columns)
        self._connection.register("batch", table if table.schema.types == self._schema.types else table.cast(self._schema))
        try:
            return self._connection.sql(sql).to_arrow_table()
        finally:
            self._connection.unregister("batch")


def unique_names(names: Sequence[str]) -> list[str]:
    """Make names unique by numbering those that occur again.

    >>> unique_names(["a", "b", "a", "a_1", "a"])
    ['a', 'b', 'a_2', 'a_1', 'a_3']
    """
    taken = set(names)
    seen: set[str] = set()
    unique = []
    for name in names:
        candidate, number = name, 1
        while candidate in seen or (candidate != name and candidate in taken):
            candidate, number = f"{name}_{number}", number + 1
        seen.add(candidate)
        unique.append(candidate)
    return unique


def json_sql(value: str, kind: pa.DataType, depth: int = 0) -> str:
    """Write `value`, an SQL expression of Arrow type `kind`, such that `to_json` of it is valid JSON.

    >>> json_sql("c0", pa.int64()), json_sql("c0", pa.float64())
    ('c0', 'CASE WHEN isfinite(c0) THEN c0 END')
    >>> json_sql("c0", pa.list_(pa.float64()))
    'list_transform(c0, lambda v0: CASE WHEN isfinite(v0) THEN v0 END)'
    """
    types = pa.types
    if types.is_floating(kind):
        return f"CASE WHEN isfinite({value}) THEN {value} END"
    if types.is_timestamp(kind):
        return _iso_8601(value, kind)
    if types.is_union(kind):
        members = [(field.name, f"union_extract({value}, {_literal(field.name)})", field.type) for field in kind]
        if all(json_sql(part, part_kind) == part for _, part, part_kind in members):
            return value
        objects = (
            f"WHEN {_literal(name)} THEN to_json(struct_pack({_identifier(name)} := {json_sql(part, part_kind, depth)}))"
            for name, part, part_kind in members
        )
        return f"CASE union_tag({value})::VARCHAR {' '.join(objects)} END"
    if types.is_struct(kind):
        fields = [(field.name, f"{value}[{_literal(field.name)}]", field.type) for field in kind]
        if all(json_sql(part, part_kind) == part for _, part, part_kind in fields):
            return value
        parts = ", ".join(f"{_identifier(name)} := {json_sql(part, part_kind, depth)}" for name, part, part_kind in fields)
        return f"CASE WHEN {value} IS NOT NULL THEN struct_pack({parts}) END"
    if types.is_map(kind):
        entry = f"v{depth}"
        item = json_sql(f"{entry}.value", kind.item_type, depth + 1)
        if item == f"{entry}.value":
            return value
        return f"map_from_entries(list_transform(map_entries({value}), lambda {entry}: struct_pack(k := {entry}.key, v := {item})))"
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        element = json_sql(f"v{depth}", kind.value_type, depth + 1)
        return value if element == f"v{depth}" else f"list_transform({value}, lambda v{depth}: {element})"
    return value


def _iso_8601(value: str, kind: pa.DataType) -> str:
    if kind.unit != "ns":
        return f"strftime({value}, '%Y-%m-%dT%H:%M:%S.%f{'Z' if kind.tz else ''}')"
    # Behind %n DuckDB writes over its last digits: it has to be the end.
    text = f"strftime({value}, '%Y-%m-%dT%H:%M:%S.%n')"
    return f"{text} || CASE WHEN isfinite({value}) THEN 'Z' ELSE '' END" if kind.tz else text


def _read_kind(kind: pa.DataType) -> pa.DataType:
    """Give the type that a column is read as: DuckDB keeps no nanoseconds of instants, but of times in UTC it does."""
    return pa.timestamp("ns") if pa.types.is_timestamp(kind) and kind.tz and kind.unit == "ns" else kind


def flat_sql(column: str, kind: pa.DataType) -> str:
    """Write a column as CSV can carry it.

    >>> flat_sql("c0", pa.int64()), flat_sql("c0", pa.binary())
    ('c0', 'c0::VARCHAR')
    >>> flat_sql("c0", pa.list_(pa.int64()))
    'CASE WHEN c0 IS NOT NULL THEN to_json(c0)::VARCHAR END'
    """
    types = pa.types
    if types.is_dictionary(kind):
        kind = kind.value_type
    if types.is_nested(kind):
        return f"CASE WHEN {column} IS NOT NULL THEN to_json({json_sql(column, kind)})::VARCHAR END"
    plain = (types.is_null, types.is_boolean, types.is_integer, types.is_floating, types.is_decimal, types.is_string, types.is_large_string)
    times = (types.is_date, types.is_time, types.is_timestamp)
    return column if any(is_kind(kind) for is_kind in (*plain, *times)) else f"{column}::VARCHAR"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
