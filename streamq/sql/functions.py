"""What streamq knows of DuckDB's functions: which read the clock, which change from call to call, which reach outside."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

from sqlglot import exp

from streamq.sql.text import sql_of

VOLATILE = frozenset(
    """
    random rand setseed uuid gen_random_uuid uuidv4 uuidv7 nextval currval txid_current clock_timestamp sleep_ms
    """.split()  # noqa: SIM905
)
OUTSIDE = frozenset(
    """
    getenv current_setting getvariable write_log current_query current_connection_id current_query_id current_transaction_id
    read_text read_blob glob query query_table parse_path_file load_extension read_csv read_parquet
    """.split()  # noqa: SIM905
)
TABLE_FUNCTIONS = frozenset({"range", "generate_series", "unnest", "repeat_row", "json_each", "json_tree"})
"""The table functions that read nothing but their arguments."""
_CALL = re.compile(r"\s*\"?(\w+)\"?\s*\(")


def function_name(node: exp.Expr) -> str:
    """Give the lower-case name by which DuckDB knows a call; empty for anything that is not written as a call."""
    if isinstance(node, exp.Anonymous):
        return node.name.lower()
    if not isinstance(node, exp.Func):
        return ""
    match = _CALL.match(sql_of(node))
    return match[1].lower() if match else ""


def calls(node: exp.Expr) -> Iterator[tuple[exp.Expr, str]]:
    """Go through the function calls of a tree, with their names."""
    for call in node.find_all(exp.Func):
        if name := function_name(call):
            yield call, name


def is_volatile(node: exp.Expr) -> bool:
    """Tell whether evaluating a tree twice can give two results: random functions and samples."""
    return node.find(exp.TableSample) is not None or any(name in VOLATILE for _, name in calls(node))


_NOW = frozenset({"now", "get_current_timestamp", "transaction_timestamp", "current_timestamp"})
_CLOCK_CALLS = _NOW | {"today", "current_date", "localtimestamp", "current_localtimestamp", "get_current_time", "current_localtime"}
_CLOCK_NODES = (exp.CurrentTimestamp, exp.CurrentDate, exp.CurrentTime, exp.Localtimestamp, exp.Localtime)


def pin_clock(node: exp.Expr, now: datetime | None = None) -> exp.Expr:
    """Replace everything that reads the clock by one instant, so that every fragment of a query sees the same."""
    now = (now or datetime.now(UTC)).astimezone(UTC)
    return node.transform(lambda part: _pinned(part, now) or part)


def _pinned(node: exp.Expr, now: datetime) -> exp.Expr | None:
    match node:
        case exp.CurrentDate():
            name = "today"
        case exp.CurrentTimestamp():
            name = "now"
        case exp.CurrentTime():
            name = "get_current_time"
        case exp.Localtimestamp():
            name = "localtimestamp"
        case exp.Localtime():
            name = "current_localtime"
        case exp.Anonymous() if not node.expressions and node.name.lower() in _CLOCK_CALLS:
            name = node.name.lower()
        case _:
            return None
    if name in _NOW:
        return _literal(f"{now:%Y-%m-%d %H:%M:%S.%f}+00", "TIMESTAMPTZ")
    if name in ("today", "current_date"):
        return _literal(f"{now:%Y-%m-%d}", "DATE")
    if name in ("localtimestamp", "current_localtimestamp"):
        return _literal(f"{now:%Y-%m-%d %H:%M:%S.%f}", "TIMESTAMP")
    if name == "get_current_time":
        return _literal(f"{now:%H:%M:%S.%f}+00", "TIMETZ")
    return _literal(f"{now:%H:%M:%S.%f}", "TIME")


def _literal(text: str, type_: str) -> exp.Expr:
    return exp.cast(exp.Literal.string(text), type_, dialect="duckdb")
