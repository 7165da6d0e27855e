"""Which aggregates are kept in accumulators, and how their results over parts of the rows merge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast, get_args

import pyarrow as pa
from pyarrow import types

from streamq.plan.dataflow import AccumulatorFunction
from streamq.plan.render import quote

FUNCTIONS: frozenset[str] = frozenset(get_args(AccumulatorFunction))
_MOMENTS = frozenset({"var_pop", "var_samp", "stddev_pop", "stddev_samp"})


def accumulable(function: str, argument: pa.DataType | None, retracts: bool) -> bool:
    """Tell whether a call of `function` over an argument of this type can be kept in an accumulator.

    Where rows can be withdrawn, only what can be subtracted from exactly can.

    >>> accumulable("sum", pa.int64(), True), accumulable("max", pa.int64(), True), accumulable("max", pa.string(), False)
    (True, False, False)
    """
    if function in ("count_star", "count"):
        return True
    if function not in FUNCTIONS or argument is None:
        return False
    number: bool = types.is_integer(argument) or types.is_decimal128(argument)
    if retracts:
        return function in ("sum", "avg") and number
    number = number or types.is_float32(argument) or types.is_float64(argument)
    match function:
        case "sum" | "avg":
            return number
        case "min" | "max":
            others = (types.is_boolean, types.is_date, types.is_time, types.is_timestamp)
            return number or any(matches(argument) for matches in others)
        case _:
            return number and not bool(types.is_decimal(argument))


def function_of(name: str) -> AccumulatorFunction:
    """Give a name of one of the functions as that."""
    assert name in FUNCTIONS, name
    return cast(AccumulatorFunction, name)


# Results over parts of the rows


def parts_of(function: str) -> tuple[AccumulatorFunction, ...]:
    """Give the calls whose results over parts of the rows make up a call's.

    >>> parts_of("avg"), parts_of("stddev_samp"), parts_of("max")
    (('sum', 'count'), ('count', 'avg', 'var_pop'), ('max',))
    """
    if function == "avg":
        return ("sum", "count")
    if function in _MOMENTS:
        return ("count", "avg", "var_pop")
    return (function_of(function),)


def merged(function: str, parts: Mapping[str, str], *, wide: bool) -> str:
    """Write what a call's result is over rows of its parts' results, whose columns `parts` names by function.

    `wide` tells that a sum is a HUGEINT. Variances go by way of the mean of all rows, which `mean_of` gives as a column.
    """
    column = {part: quote(name) for part, name in parts.items()}
    total = f"sum({column['count']})" if "count" in column else ""
    match function:
        case "count_star" | "count":
            return f"CAST(coalesce(sum({column[function]}), 0) AS BIGINT)"
        case "sum":
            return f"CAST(sum({column['sum']}) AS HUGEINT)" if wide else f"sum({column['sum']})"
        case "avg":
            return f"CAST(sum({column['sum']}) AS DOUBLE) / nullif({total}, 0)"
        case "min" | "max":
            return f"{function}({column[function]})"
    spread = f"(sum({column['count']} * {column['var_pop']}) + sum({column['count']} * ({column['avg']} - {quote(mean_of(parts))}) ** 2))"
    rows = f"nullif({total}, 0)" if function.endswith("_pop") else f"nullif({total} - 1, 0)"
    return f"sqrt({spread} / {rows})" if function.startswith("stddev") else f"{spread} / {rows}"


def mean_of(parts: Mapping[str, str]) -> str:
    """Name the column of the mean over all rows."""
    return f"{parts['avg']}$all"


def means(calls: Mapping[str, Mapping[str, str]], functions: Mapping[str, str]) -> list[str]:
    """Write the columns that `merged` needs besides the parts."""
    return [
        f"sum({quote(parts['count'])} * {quote(parts['avg'])}) OVER () / nullif(sum({quote(parts['count'])}) OVER (), 0)"
        f" AS {quote(mean_of(parts))}"
        for name, parts in calls.items()
        if functions[name] in _MOMENTS
    ]


def type_name(arrow: pa.DataType) -> str | None:
    """Write a type as DuckDB does; None for types that have parts or are rare.

    >>> [type_name(kind) for kind in (pa.int64(), pa.timestamp("us", "UTC"), pa.timestamp("ns", "UTC"), pa.decimal128(10, 2))]
    ['BIGINT', 'TIMESTAMP WITH TIME ZONE', 'TIMESTAMPTZ_NS', 'DECIMAL(10, 2)']
    >>> type_name(pa.list_(pa.int8()))
    """
    if types.is_decimal128(arrow):
        return f"DECIMAL({arrow.precision}, {arrow.scale})"
    if types.is_timestamp(arrow):
        if arrow.tz is not None:
            return "TIMESTAMPTZ_NS" if arrow.unit == "ns" else "TIMESTAMP WITH TIME ZONE"
        return {"us": "TIMESTAMP", "ns": "TIMESTAMP_NS", "ms": "TIMESTAMP_MS", "s": "TIMESTAMP_S"}[arrow.unit]
    return _NAMES.get(arrow)


_NAMES = {
    pa.bool_(): "BOOLEAN",
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.uint8(): "UTINYINT",
    pa.uint16(): "USMALLINT",
    pa.uint32(): "UINTEGER",
    pa.uint64(): "UBIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.string(): "VARCHAR",
    pa.binary(): "BLOB",
    pa.date32(): "DATE",
    pa.time64("us"): "TIME",
}
