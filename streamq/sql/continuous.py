"""Continuous queries: their options, and what they cannot have because they never end."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

from sqlglot import exp

from streamq.errors import BindError
from streamq.sql.catalog import CatalogView
from streamq.sql.diagnostics import find_word, word_error
from streamq.sql.functions import VOLATILE, calls
from streamq.sql.logical import Continuous
from streamq.sql.positions import place
from streamq.sql.statements import Select
from streamq.sql.trees import sorts_whole_answer

_SNAPSHOT_ONLY = {"max_staleness": "a continuous query follows its relations: nothing in it is stale"}


def continuous_of(select: Select, catalog: CatalogView) -> Continuous | None:
    """Read how a query emits, and its options; None for a snapshot query.

    Raises:
        BindError: an option has a value of another type, or LATE ROWS INTO names something that takes no rows.
    """
    if select.emit is None:
        return None
    options = dict(select.options)
    for name in options.keys() & _SNAPSHOT_ONLY.keys():
        raise _option_error(select, name, f"{name}: {_SNAPSHOT_ONLY[name]}", "leave the option out")
    if select.late_rows_into is not None:
        _check_late_rows(select, select.late_rows_into, catalog)
    lateness = _duration(select, "lateness", timedelta(0))
    idle_timeout = _duration(select, "idle_timeout", timedelta(seconds=30), positive=True)
    state_ttl = _duration(select, "state_ttl", None, positive=True)
    assert lateness is not None
    assert idle_timeout is not None
    return Continuous(
        emit=select.emit,
        every_s=select.every_s,
        late_rows_into=select.late_rows_into,
        lateness_us=lateness // timedelta(microseconds=1),
        idle_timeout_s=idle_timeout.total_seconds(),
        start=_start(select),
        state_ttl_s=None if state_ttl is None else state_ttl.total_seconds(),
        max_state_bytes=_whole_number(select, "max_state_bytes"),
        epoch_rows=_whole_number(select, "epoch_rows"),
    )


# Options


def _duration(select: Select, name: str, default: timedelta | None, *, positive: bool = False) -> timedelta | None:
    value = dict(select.options).get(name, default)
    if value is not None and not isinstance(value, timedelta):
        raise _option_error(select, name, f"{name} is a length of time, not {value!r}", f"{name} = INTERVAL '1' MINUTE, or 1m")
    if value is not None and (value < timedelta(0) or (positive and not value)):
        raise _option_error(
            select, name, f"{name} must {'be positive' if positive else 'not be negative'}", f"{name} = INTERVAL '1' MINUTE"
        )
    return value


def _whole_number(select: Select, name: str) -> int | None:
    value = dict(select.options).get(name)
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise _option_error(select, name, f"{name} is a positive whole number, not {value!r}", f"{name} = 1000000")


def _start(select: Select) -> Literal["earliest", "latest"] | int:
    value = dict(select.options).get("start", "earliest")
    if value == "earliest" or value == "latest":
        return value
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None:
        raise _option_error(
            select,
            "start",
            f"start is 'earliest', 'latest' or a timestamp, not {value!r}",
            "start = 'latest', or start = TIMESTAMP '2024-01-01 00:00:00' (compared with _timestamp)",
        )
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _option_error(select: Select, name: str, message: str, hint: str) -> BindError:
    return clause_error(select, message, rf"\b{name}\b", hint)


def _check_late_rows(select: Select, name: str, catalog: CatalogView) -> None:
    target = catalog.get(name.lower())
    takers = sorted(relation.name for relation in catalog.values() if relation.kind in ("source", "table"))
    known = f"sources and tables: {', '.join(takers) or 'none'}"
    if target is None:
        raise late_rows_error(select, f"relation {name} does not exist", known)
    if target.kind not in ("source", "table"):
        raise late_rows_error(select, f"{name} takes no rows: it is a {target.kind}", known)


def check_late_columns(select: Select, catalog: CatalogView, relations: Iterable[str]) -> None:
    """Check that the relation named by LATE ROWS INTO has the columns of each of `relations`, whose rows can be late.

    Raises:
        BindError: it has not, or no row can be late.
    """
    if select.emit is None or select.late_rows_into is None:
        return
    relations = sorted(relations)
    if not relations:
        raise late_rows_error(
            select,
            "no row of this query can be late: it has no time window and no time bound over a watermark column",
            "leave LATE ROWS INTO out, or declare the event time: WATERMARK FOR ts AS ts - INTERVAL '5' SECOND",
        )
    target = catalog[select.late_rows_into.lower()]
    for relation in (catalog[name] for name in relations):
        if target.name == relation.name:
            raise late_rows_error(select, f"late rows of {target.name} would come back to it", "name another source or table")
        columns = {field.name.lower(): field.type for field in target.schema}
        missing = [field.name for field in relation.schema if field.name.lower() not in columns]
        if missing:
            raise late_rows_error(
                select,
                f"{target.name} cannot take late rows of {relation.name}: it has no column {', '.join(missing)}",
                f"give it the columns of {relation.name}",
            )
        other = [field.name for field in relation.schema if field.type != columns[field.name.lower()]]
        if other:
            raise late_rows_error(
                select,
                f"{target.name} cannot take late rows of {relation.name}: {', '.join(other)} has another type there",
                f"give it the columns of {relation.name}",
            )


def late_rows_error(select: Select, message: str, hint: str) -> BindError:
    """Make an error that stands at the name behind LATE ROWS INTO."""
    return clause_error(select, message, r"(?<=\bINTO)\s+\"?", hint, after=True)


# What a query that never ends cannot have


def check_continuous(select: Select, tree: exp.Expr, names: Sequence[str]) -> None:
    """Check a continuous query's text. `tree` has its views expanded, `names` are those of its output columns.

    Raises:
        BindError: it sorts without LIMIT, names two columns alike, or calls what gives another answer each time.
    """
    _check_order(select)
    _check_names(select, names)
    _check_own_names(select, [*names, *(part.name for part in tree.find_all(exp.Identifier))])
    _check_functions(select, tree)


def _check_order(select: Select) -> None:
    if sorts_whole_answer(select.ast):
        raise text_error(
            select,
            "a continuous query has no end at which its rows could be sorted",
            "ORDER",
            "leave ORDER BY out, or keep the first rows with ORDER BY … LIMIT n",
            -1,
        )


def _check_names(select: Select, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name.lower() in seen:
            raise text_error(
                select, f"two columns of the result are called {name}: changes are told by names", name, f"rename one: … AS {name}_2", 1
            )
        seen.add(name.lower())


def _check_own_names(select: Select, names: Iterable[str]) -> None:
    own = next((name for name in names if name.startswith("#")), None)
    if own is not None:
        raise text_error(
            select,
            f"{own}: in continuous queries, names that begin with # are streamq's own",
            own,
            "give the column another name where its relation is made, and name results otherwise",
        )


def _check_functions(select: Select, tree: exp.Expr) -> None:
    if tree.find(exp.TableSample) is not None:
        word = "SAMPLE" if find_word(select.sql, "SAMPLE") is not None else "TABLESAMPLE"
        raise text_error(select, "a sample gives other rows each time it is taken", word, "filter by a hash: WHERE hash(key) % 100 = 0")
    for _, name in calls(tree):
        if name in VOLATILE:
            raise text_error(
                select,
                f"{name}() gives another value each time, so a continuous query could not withdraw what it emitted",
                name,
                "use it in a snapshot query, or compute the value before the row is inserted",
            )
        if name.startswith("approx_") or name == "reservoir_quantile":
            raise text_error(
                select,
                f"{name}() is an estimate that depends on how the rows arrive",
                name,
                f"write {_EXACT.get(name, 'an exact aggregate')}",
            )


_EXACT = {
    "approx_count_distinct": "count(DISTINCT x)",
    "approx_quantile": "quantile_cont(x, q)",
    "reservoir_quantile": "quantile_cont(x, q)",
    "approx_top_k": "a GROUP BY with ORDER BY count(*) DESC LIMIT k",
}


def check_clock(select: Select, retracting: str | None) -> None:
    """Refuse the clock over rows that can be withdrawn; `retracting` says what withdraws them, None where nothing does.

    Raises:
        BindError: the row would be withdrawn with another time than it was given with.
    """
    if retracting is None:
        return
    word = next((word for word in _CLOCK_WORDS if find_word(select.sql, word) is not None), "now")
    raise text_error(
        select,
        f"the clock is read over rows that can be withdrawn ({retracting}), and a withdrawn row must be as it was given",
        word,
        "read the clock where the rows come in, over a source, or leave it out",
    )


_CLOCK_WORDS = (
    "now", "current_timestamp", "current_date", "current_time", "today", "localtimestamp", "localtime", "get_current_timestamp",
    "transaction_timestamp", "current_localtimestamp", "get_current_time", "current_localtime",
)  # fmt: skip


# Places


def text_error(select: Select, message: str, word: str, hint: str, occurrence: int = 0) -> BindError:
    """Make an error that stands at an occurrence of a word in the query's text, if it is there."""
    return word_error(select.sql, message, word, hint, occurrence)


def clause_error(select: Select, message: str, pattern: str, hint: str, *, after: bool = False) -> BindError:
    """Make an error that stands where a pattern is in the clauses behind the query (or right after it)."""
    text = select.written or select.sql
    found = re.compile(pattern, re.IGNORECASE).search(text, len(select.sql) if select.written else 0)
    offset = None if found is None else found.end() if after else found.start()
    line, column = place(text, offset) if offset is not None else (None, None)
    return BindError(message, sql=text, line=line, column=column, hint=hint)
