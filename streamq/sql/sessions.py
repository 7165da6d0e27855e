"""Session windows in plain SQL: rows of a key that follow each other within the gap have one session.

A row exactly one gap behind the last one still belongs to the session, whose end is its last row plus the gap.
"""

from __future__ import annotations

from sqlglot import exp

from streamq.sql.logical import SessionRows
from streamq.sql.text import column, name_sql
from streamq.sql.trees import call, hide_from_star, named, number, operand, over, subquery

TIME = "session#time"
START = "session#start"
END = "session#end"
_NEW = "session#new"
_NUMBER = "session#number"
_GAP = "streamq session gap"


def sessions_of(rows: exp.Select, time: exp.Expression, keys: list[exp.Expression], gap: int) -> exp.Select:
    """Add the columns `START` and `END` to a SELECT's rows with an event time. `time` and `keys` are expressions over its FROM."""
    # A key that the rows have anyway keeps its name: whoever groups by it sees that its rows are together already.
    own = {item.this: item.alias for item in rows.expressions if isinstance(item, exp.Alias)}
    added = {key: f"session#key{place}" for place, key in enumerate(keys) if key not in own}
    rows.append("expressions", named(time.copy(), TIME))
    for key, name in added.items():
        rows.append("expressions", named(key.copy(), name))
    partition: list[exp.Expression] = [column(own.get(key) or added[key]) for key in keys]
    starts = _with_column(rows, _starts_session(partition, gap), _NEW)
    numbered = _with_column(starts, over(call("sum", column(_NEW)), partition, column(TIME)), _NUMBER)
    partition = [*partition, column(_NUMBER)]
    found = _with_column(numbered, _shifted(over(call("min", column(TIME)), partition), 0), START)
    found.append("expressions", named(_shifted(over(call("max", column(TIME)), partition), gap), END))
    hide_from_star(found, [*added.values(), TIME, _NEW, _NUMBER])
    found.meta[_GAP] = gap
    return found


def session_rows(select: exp.Select) -> tuple[exp.Select, SessionRows] | None:
    """Tell whether a SELECT is one that `sessions_of` made: give it with its sessions left to who reads its one leaf."""
    gap = select.meta_get(_GAP)
    if gap is None:
        return None
    *columns, start, end = select.expressions
    keys = [key.name for key in start.find(exp.Window).args["partition_by"][:-1]]
    rows = select
    for _ in ("with numbers", "with starts", "as they come"):
        rows = rows.args["from_"].this.this
    outer = exp.Select(
        expressions=[*(item.copy() for item in columns), named(column(START), start.alias), named(column(END), end.alias)],
        from_=exp.From(this=subquery(rows.copy(), "session#rows")),
    )
    return outer, SessionRows(tuple(name_sql(key) for key in keys), name_sql(TIME), gap, START, END)


def sessions_sql(rows: str, sessions: SessionRows) -> str:
    """Write the rows of a SELECT with the bounds of their sessions, over all of them at once."""
    time, by = sessions.time, f"PARTITION BY {', '.join(sessions.keys)}" if sessions.keys else ""
    new, number_ = name_sql(_NEW), name_sql(_NUMBER)
    elapsed = f"epoch_us({time}) - lag(epoch_us({time})) OVER ({by} ORDER BY {time})"
    starts = f"SELECT *, CASE WHEN {elapsed} <= {sessions.gap_us} THEN 0 ELSE 1 END AS {new} FROM ({rows})"
    numbered = f"SELECT *, sum({new}) OVER ({by} ORDER BY {time}) AS {number_} FROM ({starts})"
    session = f"PARTITION BY {', '.join((*sessions.keys, number_))}"
    start = f"min({time}) OVER ({session}) + to_microseconds(0)"
    end = f"max({time}) OVER ({session}) + to_microseconds({sessions.gap_us})"
    hidden = f"EXCLUDE ({new}, {number_})"
    return f"SELECT * {hidden}, {start} AS {name_sql(sessions.start)}, {end} AS {name_sql(sessions.end)} FROM ({numbered})"


def _starts_session(partition: list[exp.Expression], gap: int) -> exp.Expression:
    before = over(call("lag", call("epoch_us", column(TIME))), partition, column(TIME))
    elapsed = exp.Sub(this=call("epoch_us", column(TIME)), expression=before)
    return exp.Case(ifs=[exp.If(this=exp.LTE(this=elapsed, expression=number(gap)), true=number(0))], default=number(1))


def _shifted(time: exp.Expression, microseconds: int) -> exp.Expression:
    """Move a time; a DATE becomes a TIMESTAMP, whatever the distance."""
    return exp.Add(this=operand(time), expression=call("to_microseconds", number(microseconds)))


def _with_column(rows: exp.Select, value: exp.Expression, name: str) -> exp.Select:
    return exp.Select(expressions=[exp.Star(), named(value, name)], from_=exp.From(this=subquery(rows, "session#rows")))
