"""Words for messages and SQL: near matches, sizes, quoting, names of types."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import pyarrow as pa

_SQL_NAMES = {
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
    pa.timestamp("s"): "TIMESTAMP_S",
    pa.timestamp("ms"): "TIMESTAMP_MS",
    pa.timestamp("us"): "TIMESTAMP",
    pa.timestamp("ns"): "TIMESTAMP_NS",
    pa.timestamp("us", "UTC"): "TIMESTAMPTZ",
    pa.month_day_nano_interval(): "INTERVAL",
}


def type_name(arrow: pa.DataType) -> str:
    """Name a type as a user of SQL knows it.

    >>> type_name(pa.int64()), type_name(pa.decimal128(10, 2)), type_name(pa.list_(pa.int32()))
    ('BIGINT', 'DECIMAL(10,2)', 'list<item: int32>')
    """
    if pa.types.is_decimal(arrow):
        return f"DECIMAL({arrow.precision},{arrow.scale})"
    return _SQL_NAMES.get(arrow, str(arrow))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Suggest the names closest to a misspelt one, as the end of a sentence.

    >>> did_you_mean("amuont", ["id", "amount"])
    "; did you mean 'amount'?"
    >>> did_you_mean("zzz", ["id", "amount"])
    ''
    """
    by_lower = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(name.lower(), by_lower, n=2)
    return f"; did you mean {' or '.join(repr(by_lower[match]) for match in near)}?" if near else ""


def identifier(name: str) -> str:
    """Quote a name for DuckDB.

    >>> print(identifier('a"b'))
    "a""b"
    """
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote a string for DuckDB.

    >>> print(literal("it's"))
    'it''s'
    """
    return "'" + text.replace("'", "''") + "'"


def size(count: int) -> str:
    """Write a number of bytes for people.

    >>> size(999), size(1 << 20), size(3 * (1 << 30) // 2)
    ('999 bytes', '1.0 MiB', '1.5 GiB')
    """
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"
