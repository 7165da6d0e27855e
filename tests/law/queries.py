"""Generated queries over `t` and `u`, one function per shape. Every one of them has one right answer, up to what `Query` says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import strategies as st

from tests.law.law import Query
from tests.law.relations import TYPES, Kind, Relation, sql_type

Shape = Callable[[st.DrawFn, Relation, Relation], Query]
LITERALS: dict[Kind, tuple[str, ...]] = {
    "int": ("-1", "0", "2"),
    "big": ("-10", "0", "500"),
    "dyadic": ("-0.5", "0.0", "1.25"),
    "float": ("0.5",),
    "text": ("''", "'a'", "'b'", "'ab'"),
    "bool": ("true", "false"),
    "ts": ("TIMESTAMP '2024-01-01 00:00:00'", "TIMESTAMP '2024-01-01 01:00:00'"),
    "date": ("DATE '2024-01-01'", "DATE '2023-12-31'"),
    "dec": ("0.25", "-1.00"),
    "list": ("[1]",),
}
ORDERED: tuple[Kind, ...] = ("int", "big", "dyadic", "text", "bool", "ts", "date", "dec")


@dataclass(frozen=True, slots=True)
class Scope:
    """Columns that expressions may use: `(reference, kind)`."""

    columns: tuple[tuple[str, Kind], ...]

    @classmethod
    def of(cls, *relations: tuple[str, Relation]) -> Scope:
        """The columns of aliased relations."""
        return cls(tuple((f"{alias}.{column.name}", column.kind) for alias, relation in relations for column in relation.columns))

    def of_kind(self, *kinds: Kind) -> list[str]:
        return [reference for reference, kind in self.columns if kind in kinds]


def predicate(draw: st.DrawFn, scope: Scope, depth: int = 2) -> str:
    """A condition over the scope's columns."""
    form = draw(st.sampled_from(["compare", "null", "in", "between", "columns", *(["and", "or", "not"] if depth else [])]))
    if form in ("and", "or"):
        return f"({predicate(draw, scope, depth - 1)} {form.upper()} {predicate(draw, scope, depth - 1)})"
    if form == "not":
        return f"NOT {predicate(draw, scope, depth - 1)}"
    column, kind = draw(st.sampled_from([pair for pair in scope.columns if pair[1] in ORDERED]))
    literal = st.sampled_from(LITERALS[kind])
    match form:
        case "null":
            return f"({column} IS {draw(st.sampled_from(['NULL', 'NOT NULL']))})"
        case "in":
            return f"({column} {draw(st.sampled_from(['IN', 'NOT IN']))} ({draw(literal)}, {draw(literal)}))"
        case "between":
            return f"({column} BETWEEN {draw(literal)} AND {draw(literal)})"
        case "columns":
            other = draw(st.sampled_from(scope.of_kind(kind)))
            return f"({column} {draw(st.sampled_from(['<', '=', '<>', 'IS DISTINCT FROM']))} {other})"
    return f"({column} {draw(st.sampled_from(['<', '<=', '=', '>=', '>', '<>']))} {draw(literal)})"


def where(draw: st.DrawFn, scope: Scope) -> str:
    """A WHERE clause or none."""
    return f" WHERE {predicate(draw, scope)}" if draw(st.booleans()) else ""


def expression(draw: st.DrawFn, scope: Scope) -> str:
    """A value of any kind, exact in any order of evaluation."""
    column, kind = draw(st.sampled_from(scope.columns))
    match kind:
        case "int":
            forms = [column, f"{column} * 2 + 1", f"abs({column})", f"CASE WHEN {column} > 0 THEN 'pos' ELSE 'rest' END", f"{column} % 3"]
        case "big":
            forms = [column, f"{column} % 7", f"{column} // 3", f"CAST({column} AS VARCHAR)"]
        case "dyadic":
            forms = [column, f"{column} * 2", f"coalesce({column}, 0)", f"isnan({column})"]
        case "text":
            forms = [column, f"upper({column})", f"length({column})", f"{column} || '!'", f"{column} LIKE '%a%'", f"nullif({column}, 'a')"]
        case "bool":
            forms = [column, f"NOT {column}"]
        case "ts":
            forms = [column, f"date_trunc('hour', {column})", f"{column} + INTERVAL '1' DAY", f"extract(minute FROM {column})"]
        case "date":
            forms = [column, f"{column} + 1", f"year({column})"]
        case "dec":
            forms = [column, f"{column} * 2", f"round({column}, 1)"]
        case _:
            forms = [column]
    return draw(st.sampled_from(forms))


def items(draw: st.DrawFn, scope: Scope, *, at_least: int = 1) -> list[str]:
    """Between one and four output expressions."""
    return [expression(draw, scope) for _ in range(draw(st.integers(at_least, 4)))]


def named(expressions: list[str]) -> str:
    """A SELECT list whose outputs are o0, o1, …"""
    return ", ".join(f"{sql} AS o{number}" for number, sql in enumerate(expressions))


def aggregate(draw: st.DrawFn, scope: Scope) -> str:
    """An aggregate call that is exact in any order of its input."""
    column, kind = draw(st.sampled_from(scope.columns))
    ordered = scope.of_kind("int", "text", "dec")
    forms = [
        "count(*)",
        f"count({column})",
        f"count(DISTINCT {column})",
        f"count(*) FILTER (WHERE {predicate(draw, scope, 0)})",
        *(f"array_agg({value} ORDER BY {value})" for value in ordered),
    ]
    if kind in ORDERED:
        forms += [f"min({column})", f"max({column})", f"any_value({column}) IS NULL"]
    match kind:
        case "int" | "dec":
            forms += [f"sum({column})", f"avg({column})", f"sum(DISTINCT {column})", f"sum({column} * 2)", f"median({column})"]
            forms += [f"quantile_disc({column}, 0.25)", f"quantile_cont({column}, 0.75)"]
        case "big":
            forms += [f"sum({column})", f"min({column})::HUGEINT + max({column})", f"bit_xor({column})", f"sum({column} % 5)"]
        case "dyadic":
            forms += [f"sum({column})", f"avg({column})", f"min({column} * 2)"]
        case "text":
            forms += [
                f"string_agg({column}, ',' ORDER BY {column})",
                f"min(length({column}))",
                f"list(DISTINCT {column} ORDER BY {column})",
            ]
        case "bool":
            forms += [f"bool_and({column})", f"bool_or({column})"]
        case _:
            forms += [f"max({column}) IS NOT NULL"]
    return draw(st.sampled_from(forms))


def ordering(draw: st.DrawFn, outputs: int) -> tuple[str, tuple[int, ...]]:
    """An ORDER BY clause over some outputs, and their positions."""
    positions = draw(st.lists(st.integers(0, outputs - 1), min_size=1, max_size=outputs, unique=True))
    terms = [
        f"o{p} {draw(st.sampled_from(['', 'ASC', 'DESC']))} {draw(st.sampled_from(['', 'NULLS FIRST', 'NULLS LAST']))}" for p in positions
    ]
    return f" ORDER BY {', '.join(terms)}", tuple(positions)


def limit(draw: st.DrawFn) -> str:
    """A LIMIT clause, with an OFFSET or without."""
    return f" LIMIT {draw(st.integers(0, 12))}" + (f" OFFSET {draw(st.integers(0, 6))}" if draw(st.booleans()) else "")


def finished(draw: st.DrawFn, sql: str, outputs: int) -> Query:
    """The query as it is, ordered, limited, or both."""
    match draw(st.sampled_from(["bag", "bag", "ordered", "limited", "top"])):
        case "ordered":
            clause, positions = ordering(draw, outputs)
            return Query(sql + clause, positions)
        case "limited":
            return Query(sql + limit(draw), unlimited=sql)
        case "top":
            clause, positions = ordering(draw, outputs)
            return Query(sql + clause + limit(draw), positions, unlimited=sql)
    return Query(sql)


def projection(draw: st.DrawFn, t: Relation, u: Relation) -> Query:
    """SELECT expressions FROM t WHERE …"""
    scope = Scope.of(("t", t))
    chosen = items(draw, scope)
    return finished(draw, f"SELECT {named(chosen)} FROM t{where(draw, scope)}", len(chosen))


def star(draw: st.DrawFn, t: Relation, u: Relation) -> Query:
    """SELECT * with everything after it."""
    sql = f"SELECT * FROM t{where(draw, Scope.of(('t', t)))}"
    return draw(st.sampled_from([Query(sql), Query(sql + limit(draw), unlimited=sql)]))


def grouped(draw: st.DrawFn, t: Relation, u: Relation) -> Query:
    """GROUP BY none, one or two keys, with HAVING."""
    return _aggregation(draw, Scope.of(("t", t)), "t")


def distinct(draw: st.DrawFn, t: Relation, u: Relation) -> Query:
    """SELECT DISTINCT."""
    scope = Scope.of(("t", t))
    chosen = items(draw, scope)
    return finished(draw, f"SELECT DISTINCT {named(chosen)} FROM t{where(draw, scope)}", len(chosen))


def joined(draw: st.DrawFn, t: Relation, u: Relation) -> Query:
    """Every kind of join, with equality keys, residual conditions, or neither."""
    source, scope = _join(draw, t, u)
    chosen = items(draw, scope)
    return finished(draw, f"SELECT {named(chosen)} FROM {source}{where(draw, scope)}", len(chosen))


def join_aggregated(draw: st.DrawFn, t: Relation, u: Relation) -> Query:
    """GROUP BY over a join."""
    source, scope = _join(draw, t, u)
    return _aggregation(draw, scope, source)


def set_operation(draw: st.DrawFn, t: Relation, u: Relation) -> Query:
    """UNION, INTERSECT, EXCEPT, with ALL or without, nested or not."""
    choices: tuple[Kind, ...] = ("int", "big", "text", "dyadic")
    kinds = draw(st.lists(st.sampled_from(choices), min_size=1, max_size=2))
    branches = []
    for name, relation in (("t", t), ("u", u), ("t", t)):
        columns = [draw(st.sampled_from([*relation.of_kind(kind), f"CAST(NULL AS {_sql_type(kind)})"])) for kind in kinds]
        branches.append(f"SELECT {named(columns)} FROM {name}{where(draw, Scope.of((name, relation)))}")
    operators = ["UNION", "UNION ALL", "INTERSECT", "INTERSECT ALL", "EXCEPT", "EXCEPT ALL"]
    sql = f"{branches[0]} {draw(st.sampled_from(operators))} {branches[1]}"
    if draw(st.booleans()):
        sql = f"({sql}) {draw(st.sampled_from(operators))} ({branches[2]})"
    return Query(sql)


def windowed(draw: st.DrawFn, t: Relation, u: Relation) -> Query:
    """Window functions, with and without PARTITION BY and frames. Orders end in a unique column, so that no rows tie."""
    scope = Scope.of(("t", t))
    calls = [_window_call(draw, scope, t) for _ in range(draw(st.integers(1, 3)))]
    chosen = ["t." + t.columns[0].name, *calls]
    sql = f"SELECT {named(chosen)} FROM t{where(draw, scope)}"
    if draw(st.booleans()):
        sql += f" QUALIFY row_number() OVER ({_partition(draw, scope)}ORDER BY t.{t.columns[0].name} DESC) <= {draw(st.integers(1, 4))}"
    return finished(draw, sql, len(chosen))


def ranked(draw: st.DrawFn, t: Relation, u: Relation) -> Query:
    """The first rows of a whole, of each partition, or of groups, by their rank: in QUALIFY or around a derived table."""
    scope, ident = Scope.of(("t", t)), f"t.{t.columns[0].name}"
    function = draw(st.sampled_from(["row_number", "rank", "dense_rank"]))
    bound = draw(st.sampled_from(["<= 2", "< 3", "= 1", "= 2", "BETWEEN 2 AND 3", "<= 0", "> 1", "IN (1, 3)"]))
    direction = draw(st.sampled_from(["", " DESC", " NULLS FIRST"]))
    if draw(st.booleans()):
        keys = [expression(draw, scope), draw(st.sampled_from(scope.of_kind("int", "big", "text")))]
        unique = ", o0, o1" if function == "row_number" else ""
        partition = draw(st.sampled_from(["", "PARTITION BY o0 "]))
        call = draw(st.sampled_from(["count(*)", f"median({draw(st.sampled_from(scope.of_kind('int', 'big')))})"]))
        rank = f"{function}() OVER ({partition}ORDER BY o2{direction}{unique})"
        return Query(f"SELECT {named([*keys, call])}, {rank} AS r FROM t GROUP BY 1, 2 QUALIFY r {bound}")
    order = draw(st.sampled_from([column for column, kind in scope.columns if kind in ORDERED])) + direction
    rank = f"{function}() OVER ({_partition(draw, scope)}ORDER BY {order}{f', {ident}' if function == 'row_number' else ''})"
    others = [f"count(*) OVER ({_partition(draw, scope)})"] if draw(st.sampled_from([False, False, True])) else []
    chosen = [ident, *others, expression(draw, scope)]
    if draw(st.booleans()):
        return Query(f"SELECT {named(chosen)}, {rank} AS r FROM t{where(draw, scope)} QUALIFY r {bound}")
    inner = f"SELECT {named(chosen)}, {rank} AS r FROM t{where(draw, scope)}"
    return Query(f"SELECT * FROM ({inner}) AS s WHERE r {bound} AND {draw(st.sampled_from(['true', 'o0 % 2 = 0', 'r > 0']))}")


def joined_thrice(draw: st.DrawFn, t: Relation, u: Relation) -> Query:
    """Three relations, one of them twice, in a row of joins or around a derived table."""
    a, b, c = Scope.of(("a", t)), Scope.of(("b", u)), Scope.of(("c", t))
    first, second = (draw(st.sampled_from(["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"])) for _ in range(2))
    ours, theirs, last = (draw(st.sampled_from(scope.of_kind("int", "big"))) for scope in (a, b, c))
    again = draw(st.sampled_from([ours, theirs]))
    grouped_u = f"(SELECT {theirs.removeprefix('b.')}, {u.columns[0].name}, count(*) AS n FROM u GROUP BY 1, 2)"
    middle = draw(st.sampled_from(["u AS b", f"{grouped_u} AS b"]))
    source = f"t AS a {first} {middle} ON {ours} = {theirs} {second} t AS c ON {again} = {last}"
    chosen = [ours, theirs, last, f"a.{t.columns[0].name}", f"c.{t.columns[0].name}"]
    if draw(st.booleans()):
        return Query(f"SELECT {named([draw(st.sampled_from(chosen[:3])), 'count(*)', f'min({chosen[3]})'])} FROM {source} GROUP BY 1")
    return finished(draw, f"SELECT {named(chosen)} FROM {source}", len(chosen))


def joined_asof(draw: st.DrawFn, t: Relation, u: Relation) -> Query:
    """ASOF joins, whose best match is unique because `id` is."""
    a, b = Scope.of(("t", t)), Scope.of(("u", u))
    latest = f"{draw(st.sampled_from(a.of_kind('int', 'big')))} >= u.{u.columns[0].name}"
    keys = [f"{ours} = {theirs}" for ours, theirs in zip(a.of_kind("int", "text")[:1], b.of_kind("int", "text")[:1], strict=False)]
    kinds = {column.removeprefix("u."): kind for column, kind in b.columns} | {
        column.removeprefix("t."): kind for column, kind in a.columns
    }
    keys = [key for key in keys if len({kinds[part.split(".")[1]] for part in key.split(" = ")}) == 1]
    join = draw(st.sampled_from(["ASOF JOIN", "ASOF LEFT JOIN"]))
    source = f"t {join} u ON {' AND '.join([*keys, latest])}"
    return Query(f"SELECT {named([f't.{t.columns[0].name}', f'u.{u.columns[0].name}', expression(draw, b)])} FROM {source}{where(draw, a)}")


def limited_inside(draw: st.DrawFn, t: Relation, u: Relation) -> Query:
    """A top-n in a derived table, joined, aggregated or ranked around it. Its order is unique."""
    ident = t.columns[0].name
    other = draw(st.sampled_from(t.of_kind("int", "big")))
    inner = f"(SELECT {ident}, {other} AS v FROM t ORDER BY {other} DESC NULLS LAST, {ident} LIMIT {draw(st.integers(0, 9))}) AS s"
    theirs = draw(st.sampled_from(u.of_kind("int", "big")))
    return Query(
        draw(
            st.sampled_from(
                [
                    f"SELECT count(*) AS n, sum(v % 5) AS s FROM {inner}",
                    f"SELECT s.v, u.{theirs} FROM {inner} LEFT JOIN u ON s.v = u.{theirs}",
                    f"SELECT s.v, u.{theirs} FROM u RIGHT JOIN {inner} ON s.v = u.{theirs}",
                    f"SELECT {ident}, rank() OVER (ORDER BY v) AS r FROM {inner}",
                    f"SELECT {theirs} FROM u WHERE {theirs} IN (SELECT v FROM {inner})",
                    f"SELECT v FROM {inner} UNION ALL SELECT {theirs} FROM u",
                    f"SELECT {theirs} % 2 AS k, count(*) AS n FROM u GROUP BY 1 HAVING count(*) > (SELECT min(v) FROM {inner})",
                ]
            )
        )
    )


def subquery(draw: st.DrawFn, t: Relation, u: Relation) -> Query:
    """Scalar, IN, EXISTS, quantified and correlated subqueries."""
    outer, inner = Scope.of(("t", t)), Scope.of(("u", u))
    a, b = draw(st.sampled_from(outer.of_kind("int", "big"))), draw(st.sampled_from(inner.of_kind("int", "big")))
    filtered = where(draw, inner)
    conjunction = f"{filtered} AND" if filtered else " WHERE"
    condition = draw(
        st.sampled_from(
            [
                f"{a} IN (SELECT {b} FROM u{filtered})",
                f"{a} NOT IN (SELECT {b} FROM u{filtered})",
                f"EXISTS (SELECT 1 FROM u{conjunction} {a} = {b})",
                f"NOT EXISTS (SELECT 1 FROM u{conjunction} {a} = {b})",
                f"{a} > (SELECT min({b}) FROM u{filtered})",
                f"{a} <= ANY (SELECT {b} FROM u{filtered})",
                f"{a} > ALL (SELECT {b} FROM u{filtered})",
                f"(SELECT count(*) FROM u{conjunction} {a} = {b}) > 1",
            ]
        )
    )
    value = draw(
        st.sampled_from(
            [
                f"(SELECT max({b}) FROM u{filtered})",
                f"(SELECT count(*) FROM u{conjunction} {a} = {b})",
                f"(SELECT sum({b}) FROM u{conjunction} {b} < {a})",
                a,
            ]
        )
    )
    if draw(st.booleans()):
        return Query(f"SELECT {named([value, a])} FROM t WHERE {condition}")
    return Query(f"SELECT {named([f'{a} % 2', 'count(*)'])} FROM t WHERE {condition} GROUP BY 1")


def nested(draw: st.DrawFn, t: Relation, u: Relation) -> Query:
    """Derived tables and common table expressions, read once or twice."""
    scope = Scope.of(("t", t))
    keys = [expression(draw, scope), draw(st.sampled_from(scope.of_kind("int", "big")))]
    inner = f"SELECT {named([*keys, 'count(*)'])} FROM t{where(draw, scope)} GROUP BY 1, 2"
    outer = draw(
        st.sampled_from(
            [
                "SELECT o0, sum(o2) AS n FROM s GROUP BY o0 HAVING sum(o2) > 1",
                "SELECT count(*) AS n, max(o2) AS m, min(o1) AS l FROM s",
                "SELECT a.o1, b.o2 FROM s a JOIN s b ON a.o1 = b.o1 AND a.o2 <= b.o2",
                "SELECT o1, o2 FROM s WHERE o2 > (SELECT avg(o2) FROM s)",
                "SELECT DISTINCT o0 FROM s UNION ALL SELECT o0 FROM s",
            ]
        )
    )
    if " b " not in outer and "(SELECT" not in outer and "UNION" not in outer and draw(st.booleans()):
        return Query(outer.replace("FROM s", f"FROM ({inner}) AS s"))
    return Query(f"WITH s AS ({inner}) {outer}")


def unnested(draw: st.DrawFn, t: Relation, u: Relation) -> Query:
    """UNNEST in FROM and in SELECT; NULL and empty lists give no rows."""
    lists = t.of_kind("list")
    column = draw(st.sampled_from(lists)) if lists else "[1, NULL, 2]"
    ident = t.columns[0].name
    return draw(
        st.sampled_from(
            [
                Query(f"SELECT {ident}, e FROM t CROSS JOIN UNNEST({column}) AS x(e)"),
                Query(f"SELECT e, count(*) AS n, sum({ident}) AS s FROM t, UNNEST({column}) AS x(e) GROUP BY e"),
                Query(f"SELECT e, count(*) AS n FROM t CROSS JOIN UNNEST({column}) AS x(e) WHERE e > 0 GROUP BY ALL ORDER BY e", (0,)),
                Query(f"SELECT {ident}, unnest({column}) AS e FROM t"),
            ]
        )
    )


def approximate(draw: st.DrawFn, t: Relation, u: Relation) -> Query:
    """Sums, means and variances of any floats, grouped by exact keys."""
    scope = Scope.of(("t", t))
    floats = scope.of_kind("float") or [f"CAST({scope.of_kind('big')[0]} % 100 AS DOUBLE)"]
    functions = ("sum", "avg", "stddev_samp", "stddev_pop", "var_samp", "var_pop", "min", "max")
    calls = [f"{draw(st.sampled_from(functions))}({draw(st.sampled_from(floats))})" for _ in range(draw(st.integers(1, 4)))]
    key = draw(st.sampled_from(scope.of_kind("int", "big", "text")))
    tail = " GROUP BY 1" if draw(st.booleans()) else ""
    return Query(f"SELECT {named([key if tail else 'count(*)', *calls])} FROM t{tail}", approximate=True)


def time_window(draw: st.DrawFn, t: Relation, u: Relation) -> Query:
    """TUMBLE and HOP as table functions and TUMBLE as a grouping function; the oracle spells the windows out."""
    ts = (t.of_kind("ts") or ["TIMESTAMP '2024-01-01 00:10:00'"])[0]
    if not t.of_kind("ts"):
        return Query(f"SELECT count(*) AS n FROM t WHERE {ts} IS NOT NULL")
    size, slide = draw(st.sampled_from([(600, 600), (600, 300), (900, 300), (300, 300), (3600, 600)]))
    starts = f"time_bucket(INTERVAL '{slide} seconds', {ts}, TIMESTAMP '1970-01-01') - to_seconds(p.j * {slide})"
    spelt = (
        f"(SELECT t.*, {starts} AS window_start, {starts} + INTERVAL '{size} seconds' AS window_end "
        f"FROM t, range({size // slide}) AS p(j) WHERE {ts} IS NOT NULL) AS w"
    )
    function = (
        f"TUMBLE(t, {ts}, INTERVAL '{size}' SECOND)"
        if size == slide
        else f"HOP(t, {ts}, INTERVAL '{slide}' SECOND, INTERVAL '{size}' SECOND)"
    )
    ident = t.columns[0].name
    sql = draw(
        st.sampled_from(
            [
                f"SELECT window_start, window_end, count(*) AS n, sum({ident}) AS s FROM {{}} GROUP BY window_start, window_end",
                f"SELECT {ident}, window_start FROM {{}}",
                "SELECT window_end, count(*) AS n FROM {} GROUP BY 1 HAVING count(*) > 1",
            ]
        )
    )
    return Query(sql.format(function), oracle=sql.format(spelt))


SHAPES: tuple[Shape, ...] = (
    projection,
    star,
    grouped,
    distinct,
    joined,
    join_aggregated,
    set_operation,
    joined_thrice,
    joined_asof,
    windowed,
    ranked,
    limited_inside,
    subquery,
    nested,
    unnested,
    approximate,
    time_window,
)


def _aggregation(draw: st.DrawFn, scope: Scope, source: str) -> Query:
    keys = [expression(draw, scope) for _ in range(draw(st.integers(0, 2)))]
    calls = [aggregate(draw, scope) for _ in range(draw(st.integers(1, 3)))]
    sql = f"SELECT {named(keys + calls)} FROM {source}{where(draw, scope)}"
    if keys:
        sql += f" GROUP BY {', '.join(str(number + 1) for number in range(len(keys)))}"
    if draw(st.booleans()):
        sql += draw(st.sampled_from([" HAVING count(*) > 1", f" HAVING {calls[0]} IS NOT NULL"]))
    return finished(draw, sql, len(keys) + len(calls)) if not any(_is_list(call) for call in calls) else Query(sql)


def _is_list(call: str) -> bool:
    return call.startswith(("array_agg", "list("))


def _join(draw: st.DrawFn, t: Relation, u: Relation) -> tuple[str, Scope]:
    both, left = Scope.of(("t", t), ("u", u)), Scope.of(("t", t))
    kind = draw(st.sampled_from(["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "SEMI JOIN", "ANTI JOIN", "CROSS JOIN"]))
    if kind == "CROSS JOIN":
        return "t CROSS JOIN u", both
    keys = []
    for _ in range(draw(st.integers(1, 2))):
        shared: Kind = draw(st.sampled_from(["int", "big", "text"]))
        ours, theirs = Scope.of(("t", t)).of_kind(shared), Scope.of(("u", u)).of_kind(shared)
        if ours and theirs:
            operator = draw(st.sampled_from(["=", "=", "=", "IS NOT DISTINCT FROM"]))
            keys.append(f"{draw(st.sampled_from(ours))} {operator} {draw(st.sampled_from(theirs))}")
    keys = keys or [f"t.{t.columns[0].name} = u.{u.columns[0].name}"]
    if draw(st.booleans()):
        keys.append(predicate(draw, both, 0))
    return f"t {kind} u ON {' AND '.join(keys)}", left if kind in ("SEMI JOIN", "ANTI JOIN") else both


def _partition(draw: st.DrawFn, scope: Scope) -> str:
    keys = draw(st.lists(st.sampled_from(scope.of_kind("int", "text", "bool", "dyadic") or scope.of_kind("big")), max_size=2, unique=True))
    return f"PARTITION BY {', '.join(keys)} " if keys else ""


def _window_call(draw: st.DrawFn, scope: Scope, t: Relation) -> str:
    column = draw(st.sampled_from(scope.of_kind(*ORDERED)))
    order = f"ORDER BY {column} {draw(st.sampled_from(['', 'DESC', 'NULLS LAST', 'DESC NULLS FIRST']))}"
    unique = f"{order}, t.{t.columns[0].name}"
    over = _partition(draw, scope)
    number = draw(st.sampled_from(scope.of_kind("int", "big")))
    return draw(
        st.sampled_from(
            [
                f"row_number() OVER ({over}{unique})",
                f"rank() OVER ({over}{order})",
                f"dense_rank() OVER ({over}{order})",
                f"ntile(3) OVER ({over}{unique})",
                f"lag({column}) OVER ({over}{unique})",
                f"lead({column}, 2) OVER ({over}{unique})",
                f"first_value({column}) OVER ({over}{unique})",
                f"sum({number}) OVER ({over}{unique} ROWS BETWEEN 2 PRECEDING AND CURRENT ROW)",
                f"count(*) OVER ({over}{order})",
                f"max({column}) OVER ({over.strip()})",
                f"sum({number}) OVER ({over}{unique})",
            ]
        )
    )


def _sql_type(kind: Kind) -> str:
    return sql_type(TYPES[kind].arrow)
