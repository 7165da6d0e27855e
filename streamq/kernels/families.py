"""Types that hold the same kind of values, whatever their width, unit or layout."""

from __future__ import annotations

import pyarrow as pa
from pyarrow import types


def type_family(arrow: pa.DataType) -> str:
    """Name the family of a type; a type without one is its own.

    >>> [type_family(kind) for kind in (pa.int8(), pa.uint64(), pa.large_string(), pa.list_(pa.int8()), pa.null())]
    ['int', 'int', 'text', 'list', 'null']
    """
    families = (
        ("bool", types.is_boolean),
        ("int", types.is_integer),
        ("float", types.is_floating),
        ("decimal", types.is_decimal),
        ("text", _is_text),
        ("binary", _is_binary),
        ("date", types.is_date),
        ("time", types.is_time),
        ("timestamp", types.is_timestamp),
        ("duration", types.is_duration),
        ("interval", types.is_interval),
        ("list", _is_list),
        ("map", types.is_map),
        ("struct", types.is_struct),
    )
    return next((family for family, matches in families if matches(arrow)), str(arrow))


def _is_text(arrow: pa.DataType) -> bool:
    return any(matches(arrow) for matches in (types.is_string, types.is_large_string, types.is_string_view))


def _is_binary(arrow: pa.DataType) -> bool:
    layouts = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary)
    return any(matches(arrow) for matches in layouts)


def _is_list(arrow: pa.DataType) -> bool:
    return any(matches(arrow) for matches in (types.is_list, types.is_large_list, types.is_fixed_size_list))
