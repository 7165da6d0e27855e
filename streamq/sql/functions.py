"""What streamq knows of DuckDB's functions: which read the clock, which change from call to call, which reach outside."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

from sqlglot import exp

from streamq.sql.dialect import StreamqGenerator
from streamq.sql.text import sql_of
from streamq.sql.walks import find_all, holds, parts

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
_OPERATORS = (exp.And, exp.Or, exp.Case, exp.If, exp.Cast)
"""What sqlglot counts among the functions. They nest deeply, and each one would be written with all that is inside it."""
_FIXED_NAMES: dict[type[exp.Expr], str] = {
    kind: kind.sql_name().lower()
    for kind in exp.ALL_FUNCTIONS
    if kind not in StreamqGenerator.TRANSFORMS and not hasattr(StreamqGenerator, f"{kind.key}_sql") and not issubclass(kind, exp.Binary)
}
"""The functions that are always written under one name."""
_CALL = re.compile(r"\s*\"?(\w+)\"?\s*\(")


def function_name(node: exp.Expr) -> str:
    """Give the lower-case name by which DuckDB knows a call; empty for anything that is not written as a call."""
    if isinstance(node, exp.Anonymous):
        return node.name.lower()
    if not isinstance(node, exp.Func) or isinstance(node, _OPERATORS):
        return ""
    if isinstance(node, exp.Array) and not holds(node, exp.Query):
        return ""  # [a, b]
    if (name := _FIXED_NAMES.get(type(node))) is not None:
        return name
    sql = sql_of(node)
    if isinstance(node, exp.Binary) and sql.startswith(sql_of(node.left)):
        return ""
    match = _CALL.match(sql)
    return match[1].lower() if match else ""


def calls(node: exp.Expr) -> Iterator[tuple[exp.Expr, str]]:
    """Go through the function calls of a tree, with their names."""
    for call in find_all(node, exp.Func):
        if name := function_name(call):
            yield call, name


def is_volatile(node: exp.Expr) -> bool:
    """Tell whether evaluating a tree twice can give two results: random functions and samples."""
    return any(
        isinstance(found, exp.TableSample) or function_name(found) in VOLATILE for found in find_all(node, exp.TableSample, exp.Func)
    )


_CLOCK_CALLS = {
    "now": "TIMESTAMPTZ",
    "get_current_timestamp": "TIMESTAMPTZ",
    "transaction_timestamp": "TIMESTAMPTZ",
    "current_timestamp": "TIMESTAMPTZ",
    "today": "DATE",
    "current_date": "DATE",
    "localtimestamp": "TIMESTAMP",
    "current_localtimestamp": "TIMESTAMP",
    "get_current_time": "TIMETZ",
    "current_localtime": "TIME",
}


def reads_clock(node: exp.Expr) -> bool:
    """Tell whether a tree reads the clock."""
    return any(_clock_type(part) is not None for part in parts(node))


def pin_clock(node: exp.Expr, now: datetime | None = None) -> exp.Expr:
    """Replace everything that reads the clock by one instant, so that every fragment of a query sees the same.

    Gives a new tree if there is any.
    """
    if not reads_clock(node):
        return node
    now = (now or datetime.now(UTC)).astimezone(UTC)

    def pin(part: exp.Expr) -> exp.Expr:
        type_ = _clock_type(part)
        return part if type_ is None else exp.cast(exp.Literal.string(now.strftime(_FORMATS[type_])), type_, dialect="duckdb")

    return node.transform(pin)


def ask_clock(node: exp.Expr) -> exp.Expr:
    """Replace everything that reads the clock by the parameter `$now`, a TIMESTAMPTZ."""

    def ask(part: exp.Expr) -> exp.Expr:
        type_ = _clock_type(part)
        if type_ is None:
            return part
        now: exp.Expr = exp.cast(exp.Placeholder(this=NOW), "TIMESTAMPTZ", dialect="duckdb")
        now = exp.cast(now, "TIMESTAMP", dialect="duckdb") if type_ == "TIME" else now
        return now if type_ == "TIMESTAMPTZ" else exp.cast(now, type_, dialect="duckdb")

    return node.transform(ask)


def is_clock(node: exp.Expr) -> bool:
    """Tell whether a node is what `ask_clock` writes for the clock, and no more."""
    while isinstance(node, exp.Cast):
        node = node.this
    return isinstance(node, exp.Placeholder) and node.name == NOW


def asks_clock(node: exp.Expr) -> bool:
    """Tell whether `ask_clock` put the clock into a tree."""
    return any(part.name == NOW for part in find_all(node, exp.Placeholder))


NOW = "now"
"""The parameter that the clock is read from in continuous queries."""
_FORMATS = {
    "TIMESTAMPTZ": "%Y-%m-%d %H:%M:%S.%f+00",
    "DATE": "%Y-%m-%d",
    "TIMESTAMP": "%Y-%m-%d %H:%M:%S.%f",
    "TIMETZ": "%H:%M:%S.%f+00",
    "TIME": "%H:%M:%S.%f",
}


def _clock_type(node: exp.Expr) -> str | None:
    """Give the type of what a node reads from the clock; None if it does not read it."""
    match node:
        case exp.CurrentDate():
            return "DATE"
        case exp.CurrentTimestamp():
            return "TIMESTAMPTZ"
        case exp.CurrentTime():
            return "TIMETZ"
        case exp.Localtimestamp():
            return "TIMESTAMP"
        case exp.Localtime():
            return "TIME"
        case exp.Anonymous() if not node.expressions:
            return _CLOCK_CALLS.get(node.name.lower())
        case _:
            return None
