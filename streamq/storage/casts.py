"""Conversions of Arrow columns that lose nothing.

What a column takes: numbers that it can hold exactly (a floating-point column takes the nearest value it has), text as text,
ISO 8601 text as a time (a time without a zone is UTC, wherever it comes from), text as a decimal, days as timestamps and
timestamps at midnight as days, times of another unit if nothing is cut off, and lists, structs and maps of all these.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from streamq.kernels.families import type_family

_ZONE = r"[T ].*(Z|[+-]\d{2}(:?\d{2})?)$"
_NUMBERS = ("int", "float", "decimal")
_PAIRS = {
    *((a, b) for a in _NUMBERS for b in _NUMBERS),
    *(
        (kind, kind)
        for kind in (
            "bool",
            "text",
            "binary",
            "date",
            "time",
            "timestamp",
            "duration",
            "interval",
        )
    ),
    *(("text", kind) for kind in ("date", "time", "timestamp", "decimal")),
    ("date", "timestamp"),
    ("timestamp", "date"),
    ("duration", "interval"),
}


class Lossy(ValueError):
    """A value has no equal in the type it should get."""


ConversionError = (Lossy, pa.ArrowException)
"""What `convert` raises if a value, or any value of the type, cannot be converted."""


def convert(column: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    """Convert a column without loss.

    Raises:
        Lossy, pa.ArrowInvalid: a value does not fit.
        pa.ArrowTypeError: no value of this type can become one of `target`.
    """
    source = column.type
    if source == target:
        return column
    if pa.types.is_dictionary(source):
        return convert(column.cast(source.value_type), target)
    if pa.types.is_run_end_encoded(source):
        return convert(
            pa.chunked_array([pc.run_end_decode(chunk) for chunk in column.chunks], source.value_type),
            target,
        )
    if column.null_count == len(column):
        return pa.chunked_array([pa.nulls(len(column), target)])
    _check_types(source, target)
    match type_family(source), type_family(target):
        case "int", "decimal":
            return column.cast(pa.decimal128(20, 0)).cast(target)
        case ("float", "decimal") | ("timestamp", "date"):
            return _checked_back(column, column.cast(target))
        case "float" | "decimal", "float":
            return _finite(column, column.cast(target, safe=False))
        case "text", "timestamp":
            return _parse_timestamps(column.cast(pa.string()), target)
        case "text", "time":
            day = pc.binary_join_element_wise("1970-01-01", column.cast(pa.string()), "T")
            return day.cast(pa.timestamp("ns")).cast(target)
        case "duration", "interval":
            return _intervals(column, target)
        case _:
            return column.cast(target)


def first_failing(column: pa.ChunkedArray, target: pa.DataType) -> int:
    """Find the first row that `convert` refuses, by halving: something in `column` must fail."""
    low, high = 0, len(column)
    while high - low > 1:
        middle = (low + high) // 2
        # Taken, not sliced: the cast of a sliced list converts the values outside of the slice too.
        if _converts(column.take(pa.array(np.arange(low, middle))), target):
            low = middle
        else:
            high = middle
    return low


def _converts(column: pa.ChunkedArray, target: pa.DataType) -> bool:
    try:
        convert(column, target)
    except ConversionError:
        return False
    return True


def _check_types(source: pa.DataType, target: pa.DataType) -> None:
    if pa.types.is_null(source):
        return
    match type_family(source), type_family(target):
        case "list", "list":
            _check_types(source.value_type, target.value_type)
        case "map", "map":
            _check_types(source.key_type, target.key_type)
            _check_types(source.item_type, target.item_type)
        case "struct", "struct":
            fields = {target.field(i).name: target.field(i).type for i in range(target.num_fields)}
            for i in range(source.num_fields):
                field = source.field(i)
                if field.name not in fields:
                    raise pa.ArrowTypeError(f"the struct has no field {field.name!r}")
                _check_types(field.type, fields[field.name])
        case pair if pair not in _PAIRS:
            raise pa.ArrowTypeError("there is no conversion that keeps every value")


def _checked_back(column: pa.ChunkedArray, converted: pa.ChunkedArray) -> pa.ChunkedArray:
    if pc.all(pc.equal(converted.cast(column.type), column)).as_py() is False:
        raise Lossy("the value would be changed")
    return converted


def _finite(column: pa.ChunkedArray, converted: pa.ChunkedArray) -> pa.ChunkedArray:
    before = pc.is_inf(column) if type_family(column.type) == "float" else pa.scalar(False)
    if pc.any(pc.and_not(pc.is_inf(converted), before)).as_py():
        raise Lossy("the value is out of range")
    return converted


def _parse_timestamps(column: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    """Read ISO 8601; text with a zone and text without one (UTC) may be mixed in a column."""
    zoned = pc.match_substring_regex(column, _ZONE)
    nothing = pa.scalar(None, pa.string())
    with_zone = pc.if_else(zoned, column, nothing).cast(pa.timestamp(target.unit, "UTC")).cast(target)
    without = pc.if_else(zoned, nothing, column).cast(pa.timestamp(target.unit)).cast(target)
    return pc.coalesce(with_zone, without)


def _intervals(column: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    nanoseconds = column.cast(pa.duration("ns")).cast(pa.int64()).to_pylist()
    values = [None if value is None else pa.MonthDayNano([0, 0, value]) for value in nanoseconds]
    return pa.chunked_array([pa.array(values, type=target)])
