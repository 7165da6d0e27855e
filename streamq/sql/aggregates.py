"""Aggregate calls and how their partial results merge.

A call is decomposed where merging partial results gives what one phase gives: exactly, or, for floating point, within
rounding (moments merge by Chan's formula around the common mean, never by subtracting sums of squares). Every other
call has no partial and needs its group at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sqlglot import exp, parse_one

from streamq.sql.binder import BinderSession, BindFailed
from streamq.sql.functions import function_name
from streamq.sql.logical import Call, Mean, Named
from streamq.sql.text import name_sql, sql_of
from streamq.sql.walks import holds

ORDER_SENSITIVE = frozenset({"first", "last", "arbitrary", "any_value", "list", "array_agg", "string_agg", "group_concat", "listagg"})
"""Aggregates whose value depends on the order of the rows."""
_SELF_MERGING = frozenset(
    """
    min max sum bool_and bool_or bit_and bit_or bit_xor product fsum kahan_sum sumkahan any_value
    """.split()  # noqa: SIM905
)
_INDIFFERENT_TO_DISTINCT = frozenset({"min", "max", "bool_and", "bool_or", "bit_and", "bit_or"})
_EXACT_AVERAGES = ("TINYINT", "SMALLINT", "INTEGER", "UTINYINT", "USMALLINT", "UINTEGER", "BIGINT", "FLOAT", "DOUBLE")
_MOMENTS = {
    "var_pop": "{m2} / {n}",
    "var_samp": "{m2} / nullif({n} - 1, 0)",
    "variance": "{m2} / nullif({n} - 1, 0)",
    "stddev_pop": "sqrt({m2} / {n})",
    "stddev_samp": "sqrt({m2} / nullif({n} - 1, 0))",
    "stddev": "sqrt({m2} / nullif({n} - 1, 0))",
}
_SYNONYMS = {"mean": "avg", "variance": "var_samp", "stddev": "stddev_samp"}
_CO_MOMENTS = {
    "covar_pop": "{sxy} / {n}",
    "covar_samp": "{sxy} / nullif({n} - 1, 0)",
    "regr_sxx": "{sxx}",
    "regr_syy": "{syy}",
    "regr_sxy": "{sxy}",
    "regr_avgx": "any_value({mean_x})",
    "regr_avgy": "any_value({mean_y})",
}


@dataclass(frozen=True, slots=True)
class AggregateCall:
    """An aggregate call taken apart: `function(DISTINCT? arguments ORDER BY?) FILTER (WHERE condition)?`."""

    function: str
    arguments: tuple[str, ...]
    distinct: bool
    ordered: bool
    condition: str | None

    def apply(self, function: str, *arguments: str, distinct: bool = False) -> str:
        """Write another aggregate over the same rows."""
        filter_sql = f" FILTER (WHERE {self.condition})" if self.condition is not None else ""
        return f"{function}({'DISTINCT ' if distinct else ''}{', '.join(arguments)}){filter_sql}"


def is_aggregate(node: exp.Expr, names: frozenset[str]) -> bool:
    """Tell whether a node is a whole aggregate call, its FILTER and WITHIN GROUP included, and not a window function."""
    return not isinstance(node, exp.Window) and _core(node, names) is not None


def _core(node: exp.Expr, names: frozenset[str]) -> exp.Expr | None:
    while isinstance(node, exp.Filter | exp.WithinGroup | exp.IgnoreNulls | exp.RespectNulls):
        node = node.this
    return node if function_name(node) in names else None


def take_apart(node: exp.Expr) -> AggregateCall | None:
    """Take a call apart; None for forms that no decomposition handles."""
    condition = None
    if isinstance(node, exp.Filter):
        condition = sql_of(node.expression.this)
        node = node.this
    if isinstance(node, exp.IgnoreNulls) and isinstance(node.this, exp.AnyValue):
        node = node.this
    if not isinstance(node, exp.Func):
        return None
    function = function_name(node)
    values = (
        node.expressions
        if isinstance(node, exp.Anonymous)
        else [
            part for value in node.args.values() for part in (value if isinstance(value, list) else [value]) if isinstance(part, exp.Expr)
        ]
    )
    ordered = any(holds(value, exp.Order) for value in values)
    distinct = any(isinstance(value, exp.Distinct) for value in values)
    flat = [part for value in values for part in (value.expressions if isinstance(value, exp.Distinct) else [value])]
    return AggregateCall(function, tuple(sql_of(part) for part in flat), distinct, ordered, condition)


def _say_function(call: Call, apart: AggregateCall, written: str) -> Call:
    """Say which function a call, `written` as SQL, is if it is `function(arguments) FILTER (WHERE condition)` and no more."""
    # What the parts do not say (a second ORDER BY, a frame, options of the function) would be missing here.
    again = apart.apply(apart.function, *apart.arguments, distinct=apart.distinct)
    if not _is_written(again, apart.function, written) and sql_of(parse_one(again, read="duckdb")) != written:
        return call
    function, arguments = _SYNONYMS.get(apart.function, apart.function), apart.arguments
    if function == "count" and arguments in ((), ("*",)):
        function, arguments = "count_star", ()
    distinct = apart.distinct and function not in _INDIFFERENT_TO_DISTINCT
    return replace(call, function=function, arguments=arguments, distinct=distinct, condition=apart.condition)


def _is_written(sql: str, function: str, written: str) -> bool:
    """Tell whether the call of a function is written like this, whatever the case of the function's name."""
    name, arguments = written[: len(function)], written[len(function) :]
    return name.lower() == function and arguments == sql[len(function) :]


def decompose(calls: Mapping[str, exp.Expr], session: BinderSession, inputs_sql: str, *, is_global: bool) -> tuple[Call, ...]:
    """Give calls without queries in them by their names, with the two phases of those that have them.

    `inputs_sql` is a SELECT of the block's inputs: DuckDB says by it of what types the arguments and both ways' results are.
    """
    apart = {name: call for name, node in calls.items() if (call := take_apart(node)) is not None and not call.ordered}
    arguments = {name: call.arguments[0] for name, call in apart.items() if call.function in ("avg", "mean") and call.arguments}
    types = _types(session, arguments, inputs_sql)
    written = {name: sql_of(node) for name, node in calls.items()}
    two_phase = {
        name: replace(merged, sql=written[name])
        for name, call in apart.items()
        if (merged := _two_phase(name, call, types.get(name), is_global)) is not None
    }
    whole = {name: Call(name, sql, (), "") for name, sql in written.items()}
    done = whole | _with_one_type(two_phase, session, inputs_sql)
    return tuple(_say_function(call, apart[name], written[name]) if name in apart else call for name, call in done.items())


def _types(session: BinderSession, expressions: Mapping[str, str], inputs_sql: str) -> dict[str, str]:
    if not expressions:
        return {}
    values = ", ".join(f"{sql} AS {name_sql(name)}" for name, sql in expressions.items())
    return dict(zip(expressions, session.describe(f"SELECT {values} FROM ({inputs_sql})").types, strict=True))


def _with_one_type(calls: Mapping[str, Call], session: BinderSession, inputs_sql: str) -> dict[str, Call]:
    """Give those calls that DuckDB binds in two phases, with finals of the one-phase type."""
    if not calls:
        return {}
    try:
        expected = _types(session, {name: call.sql for name, call in calls.items()}, inputs_sql)
        given = session.describe(merge_sql(list(calls.values()), inputs_sql)).types
    except BindFailed:
        if len(calls) == 1:
            return {}
        return {key: call for name in calls for key, call in _with_one_type({name: calls[name]}, session, inputs_sql).items()}
    return {
        name: call if type_ == expected[name] else replace(call, final=f"CAST({call.final} AS {expected[name]})")
        for (name, call), type_ in zip(calls.items(), given, strict=True)
    }


def _two_phase(name: str, call: AggregateCall, argument_type: str | None, is_global: bool) -> Call | None:
    match call.function, len(call.arguments):
        case function, 1 if call.distinct and function not in _INDIFFERENT_TO_DISTINCT:
            return _distinct(name, call) if is_global else None
        case _ if call.distinct and call.function not in _INDIFFERENT_TO_DISTINCT:
            return None
        case (("count" | "count_star"), (0 | 1)):
            return _merged(name, call, {"n": call.apply("count", *call.arguments)}, "coalesce(sum({n}), 0)")
        case (("count_if" | "countif"), 1):
            return _merged(name, call, {"n": call.apply("count_if", *call.arguments)}, "sum({n})")
        case (("avg" | "mean"), 1) if argument_type in _EXACT_AVERAGES:
            parts = {"sum": call.apply("sum", *call.arguments), "n": call.apply("count", *call.arguments)}
            return _merged(name, call, parts, "sum({sum}) / nullif(sum({n}), 0)")
        case function, 1 if function in _SELF_MERGING:
            return _merged(name, call, {"part": call.apply(function, *call.arguments)}, f"{function}({{part}})")
        case function, 1 if function in _MOMENTS:
            return _moments(name, call)
        case "regr_count", 2:
            return _merged(name, call, {"n": call.apply("regr_count", *call.arguments)}, "coalesce(sum({n}), 0)")
        case function, 2 if function in _CO_MOMENTS:
            return _co_moments(name, call)
        case _:
            return None


def _merged(name: str, call: AggregateCall, parts: dict[str, str], final: str) -> Call:
    partial = tuple(Named(sql, f"{name}${part}") for part, sql in parts.items())
    names = {part: name_sql(f"{name}${part}") for part in parts}
    return Call(name, "", partial, final.format(**names))


def _distinct(name: str, call: AggregateCall) -> Call | None:
    merged = "list_distinct(flatten(list({values})))"
    finals = {"count": f"coalesce(len({merged}), 0)", "sum": f"list_sum({merged})", "avg": f"list_avg({merged})"}
    if call.function not in finals:
        return None
    return _merged(name, call, {"values": call.apply("list", *call.arguments, distinct=True)}, finals[call.function])


def _moments(name: str, call: AggregateCall) -> Call:
    (value,) = call.arguments
    parts = {
        "n": call.apply("count", value),
        "mean": call.apply("avg", f"CAST({value} AS DOUBLE)"),
        "m2": f"{call.apply('var_pop', value)} * {call.apply('count', value)}",
    }
    n, mean, m2 = (name_sql(f"{name}${part}") for part in parts)
    common = name_sql(f"{name}$common")
    m2_sql = f"(sum({m2}) + sum({n} * ({mean} - {common}) * ({mean} - {common})))"
    merged = _merged(name, call, parts, _MOMENTS[call.function].format(m2=m2_sql, n=f"nullif(sum({n}), 0)"))
    return replace(merged, means=(_mean(f"{name}$common", n, mean),))


def _mean(name: str, weight: str, value: str) -> Mean:
    # No weight at all makes the mean NULL rather than a division by zero.
    return Mean(name, f"nullif({weight}, 0)", value)


def _co_moments(name: str, call: AggregateCall) -> Call:
    arguments = call.arguments
    functions = {"n": "regr_count", "avg_x": "regr_avgx", "avg_y": "regr_avgy", "sxx": "regr_sxx", "syy": "regr_syy", "sxy": "regr_sxy"}
    parts = {part: call.apply(function, *arguments) for part, function in functions.items()}
    n, avg_x, avg_y, sxx, syy, sxy = (name_sql(f"{name}${part}") for part in parts)
    mean_x, mean_y = name_sql(f"{name}$common_x"), name_sql(f"{name}$common_y")

    def around(total: str, left: str, right: str) -> str:
        return f"(sum({total}) + sum({n} * {left} * {right}))"

    dx, dy = f"({avg_x} - {mean_x})", f"({avg_y} - {mean_y})"
    final = _CO_MOMENTS[call.function].format(
        n=f"nullif(sum({n}), 0)", sxx=around(sxx, dx, dx), syy=around(syy, dy, dy), sxy=around(sxy, dx, dy), mean_x=mean_x, mean_y=mean_y
    )
    merged = _merged(name, call, parts, final)
    return replace(merged, means=(_mean(f"{name}$common_x", n, avg_x), _mean(f"{name}$common_y", n, avg_y)))


def merge_sql(calls: Sequence[Call], *parts: str) -> str:
    """Write the SELECT that computes global calls in two phases over the rows of each of `parts`."""
    partial = ", ".join(f"{column.sql} AS {name_sql(column.name)}" for call in calls for column in call.partial)
    rows = " UNION ALL ".join(f"SELECT {partial} FROM ({part})" for part in parts)
    means = "".join(
        f", sum({mean.weight} * {mean.value}) OVER () / sum({mean.weight}) OVER () AS {name_sql(mean.name)}"
        for call in calls
        for mean in call.means
    )
    finals = ", ".join(f"{call.final} AS {name_sql(call.name)}" for call in calls)
    return f"SELECT {finals} FROM (SELECT *{means} FROM ({rows}))"
