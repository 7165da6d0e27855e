"""Binding: a parsed SELECT over a catalog becomes a bound query.

A query goes through here as follows:

1. its parameters are numbered and checked against the values given;
2. every table name must be a CTE or a relation of the catalog, every function one that reads nothing else;
3. DuckDB binds it over empty relations: all user errors come out here, placed in the user's text;
4. views are expanded, time windows rewritten, the clock is pinned to one instant;
5. the tree is lowered to the logical plan, which must have the same schema.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import cast

from sqlglot import exp

from streamq.errors import BindError, SqlError, UnsupportedError
from streamq.sql.aliases import expand_lateral_aliases, name_unnested_columns
from streamq.sql.binder import SYSTEM_TABLES, Binder, BinderSession, BindFailed, Described, Parameters
from streamq.sql.catalog import SYSTEM_SCHEMA, CatalogView, RelationInfo
from streamq.sql.clock import clock_over_retraction
from streamq.sql.continuous import check_clock, check_continuous, check_late_columns, continuous_of
from streamq.sql.diagnostics import bind_error, word_error
from streamq.sql.functions import (
    NOW,
    OUTSIDE,
    TABLE_FUNCTIONS,
    ask_clock,
    asks_clock,
    calls,
    function_name,
    is_volatile,
    pin_clock,
    reads_clock,
)
from streamq.sql.logical import BoundQuery, Derived, Leaf, Query, Scan, Union
from streamq.sql.lower import Lowering
from streamq.sql.parameters import Given, ParameterForm, PlannedBy, parameter_form
from streamq.sql.parse import parse_one
from streamq.sql.statements import Select
from streamq.sql.tables import map_tables, table_name, tables
from streamq.sql.temporal import join_at_cut, keep_as_of_now
from streamq.sql.text import identifier, sql_of
from streamq.sql.walks import find_all, holds
from streamq.sql.window_grammar import TimeWindow
from streamq.sql.windows import rewrite_time_windows

_SYSTEM_NAMES = frozenset(SYSTEM_SCHEMA.names)


def bind_query(
    select: Select, catalog: CatalogView, parameters: Sequence[object] | Mapping[str, object] | None = None, *, binder: Binder | None = None
) -> BoundQuery:
    """Bind a SELECT against the relations of `catalog`.

    `binder` is kept by who binds often; without one a session is made and ended.

    Raises:
        SqlSyntaxError, BindError, UnsupportedError: with the place in the user's text and what to write instead.
    """
    form = parameter_form(select)
    return bind_form(form, catalog, form.take(parameters), binder=binder)


def bind_form(form: ParameterForm, catalog: CatalogView, given: Given, *, binder: Binder | None = None) -> BoundQuery:
    """Bind a SELECT whose parameters are known, as `bind_query` does."""
    own = binder or Binder()
    try:
        with own.session(catalog) as session:
            return _Binding(form.select, catalog, session).bind(form, given)
    finally:
        if binder is None:
            own.close()


class _Binding:
    def __init__(self, select: Select, catalog: CatalogView, session: BinderSession) -> None:
        self.select = select
        self.catalog = catalog
        self.session = session

    def bind(self, form: ParameterForm, given: Given) -> BoundQuery:
        self.session.parameters = dict(given.values)
        planned_by = PlannedBy(self.session.parameters)
        tree = form.tree
        self._check_names(tree)
        rewritten = self._with_system_columns(self._expand(tree))
        volatile = is_volatile(rewritten)
        described = self._bind_users_text(tree, rewritten, given.native)
        continuous = continuous_of(self.select, self.catalog)
        clock = reads_clock(rewritten)
        if continuous is None:
            timed = pin_clock(rewritten) if clock else rewritten
        else:
            check_continuous(self.select, rewritten, described.schema.names)
            timed = ask_clock(rewritten)
            continuous = replace(continuous, reads_clock=asks_clock(timed))
            self.session.parameters[NOW] = datetime.now(UTC)
        lowering = Lowering(self.session, self.catalog, planned_by, continuous, self.select, volatile=volatile)
        plan = lowering.query(timed, {}, described.schema)
        if continuous is not None:
            check_late_columns(self.select, self.catalog, lowering.late_relations)
        if continuous is not None and continuous.reads_clock:
            check_clock(self.select, clock_over_retraction(plan, self.catalog, final=continuous.emit == "final"))
        return BoundQuery(
            sql=self.select.sql,
            plan=plan,
            schema=described.schema,
            parameters=given.values,
            relations=frozenset(_relations(plan)),
            volatile=volatile,
            options=self.select.options,
            continuous=continuous,
            # DuckDB may look at the value of one that is not only compared.
            by_value=None if clock else frozenset(dict(given.values).keys() - form.compared | planned_by.seen),
        )

    # What may be named

    def _check_names(self, tree: exp.Expr) -> None:
        for table, ctes in tables(tree):
            self._check_table(table, ctes)
        for _, name in calls(tree):
            if name in OUTSIDE:
                raise self._error(f"{name}() reads outside the database", name, "SQL names relations of the catalog only")
        if any(part.name.lower() == "rowid" for part in find_all(tree, exp.Column)) and not self._known("rowid", tree):
            raise self._error("rowid is not a column", "rowid", "sources have _partition and _offset")

    def _check_table(self, table: exp.Table, ctes: frozenset[str]) -> None:
        if isinstance(table.this, TimeWindow):
            return
        if isinstance(table.this, exp.Func):
            name = function_name(table.this)
            if name not in TABLE_FUNCTIONS:
                raise self._reads_files(name) if name.startswith(("read_", "scan", "parquet", "glob", "sniff")) else self._no_function(name)
            return
        relation = table_name(table)
        if relation is None or table.db:
            raise self._error(
                f"{sql_of(table)} is not a relation of the catalog", table.name, "relations have plain names, without a schema or catalog"
            )
        if relation in self.catalog:
            return
        if any(sign in relation for sign in "/.*"):
            raise self._reads_files(table.name)
        near = get_close_matches(relation, [*self.catalog, *ctes], n=3, cutoff=0.5)
        known = ", ".join(sorted(known.name for known in self.catalog.values())) or "none"
        hint = f"did you mean {' or '.join(near)}?" if near else f"relations: {known}"
        raise self._error(f"relation {table.name} does not exist", table.name, hint)

    def _known(self, name: str, tree: exp.Expr) -> bool:
        """Tell whether any relation or alias of a query gives a column of this name."""
        columns = {column.lower() for relation in self._relations_of(tree) for column in relation.schema.names}
        aliases = {part.name.lower() for alias in tree.find_all(exp.Alias, exp.TableAlias) for part in alias.find_all(exp.Identifier)}
        return name.lower() in columns | aliases

    def _no_function(self, name: str) -> BindError:
        return self._error(f"{name}() cannot be used as a table", name, f"table functions: {', '.join(sorted(TABLE_FUNCTIONS))}")

    def _reads_files(self, name: str) -> BindError:
        return self._error(f"SQL cannot read files ({name})", name, "register it under a name: db.register(name, path), or -r NAME=PATH")

    def _error(self, message: str, word: str, hint: str) -> BindError:
        return word_error(self.select.sql, message, word, hint)

    # Rewriting

    def _expand(self, tree: exp.Expr, views: tuple[str, ...] = ()) -> exp.Expr:
        """Put the definitions of views in their place, and time windows into plain SQL."""
        if holds(tree, TimeWindow):
            named = name_unnested_columns(cast(exp.Expression, tree))
            tree = rewrite_time_windows(expand_lateral_aliases(named, self._columns_of), self._watermark_column)
        return map_tables(join_at_cut(tree), lambda table, _ctes: self._expand_view(table, views))

    def _watermark_column(self, name: str) -> str | None:
        relation = self.catalog.get(name)
        return relation.watermark[0] if relation is not None and relation.watermark is not None else None

    def _columns_of(self, select: exp.Select) -> set[str]:
        """Give the names of the columns that a SELECT's FROM has."""
        columns: set[str] = set()
        for table in select.find_all(exp.Table):
            relation = self.catalog.get(table_name(table) or "")
            if relation is not None and table.find_ancestor(exp.Select) is select:
                columns |= {name.lower() for name in (*relation.schema.names, *(_SYSTEM_NAMES if relation.system_columns else ()))}
        for query in select.find_all(exp.Subquery):
            if query.find_ancestor(exp.Select) is select and isinstance(query.parent, exp.From | exp.Join):
                columns |= {name.lower() for name in query.named_selects}
        return columns

    def _expand_view(self, table: exp.Table, views: tuple[str, ...]) -> exp.Expr | None:
        relation = self.catalog.get(table_name(table) or "")
        if relation is None or relation.view_sql is None:
            return None
        if relation.name in views:
            raise BindError(f"view {relation.name} is defined by itself", sql=self.select.sql)
        definition = parse_one(relation.view_sql)
        assert isinstance(definition, Select)
        alias = table.args.get("alias") or exp.TableAlias(this=identifier(table.name))
        expanded = exp.Subquery(this=self._expand(definition.ast, (*views, relation.name)), alias=alias.copy())
        keep_as_of_now(expanded, table)
        if table.args.get("joins"):
            expanded.set("joins", table.args["joins"])
        return expanded

    def _with_system_columns(self, tree: exp.Expr) -> exp.Expr:
        """Read relations with their system columns where the query says one, and keep these out of `*`."""
        if _SYSTEM_NAMES.isdisjoint(part.name.lower() for part in find_all(tree, exp.Identifier)):
            return tree
        rewritten = map_tables(tree, lambda table, _ctes: self._system_table(table))
        for select in rewritten.find_all(exp.Select):
            _hide_system_columns(select)
        return rewritten

    def _system_table(self, table: exp.Table) -> exp.Expr | None:
        relation = self.catalog.get(table_name(table) or "")
        if relation is None or not relation.system_columns:
            return None
        copy = table.copy()
        copy.set("db", identifier(SYSTEM_TABLES))
        if not copy.alias:
            copy.set("alias", exp.TableAlias(this=identifier(table.name)))
        return copy

    # DuckDB's word

    def _bind_users_text(self, tree: exp.Expr, rewritten: exp.Expr, native: Parameters) -> Described:
        plain = self._is_plain(tree, rewritten)
        try:
            return self.session.describe(self.select.sql, native) if plain else self.session.describe(sql_of(rewritten))
        except BindFailed as failure:
            raise self._explain(failure, rewritten) from failure.__cause__

    def _is_plain(self, tree: exp.Expr, rewritten: exp.Expr) -> bool:
        """Tell whether the user's text can be given to DuckDB as it is, so that places in it are exact."""
        read = find_all(rewritten, exp.Table)
        if not read or any(table.db == SYSTEM_TABLES for table in read):
            return False
        return not holds(tree, TimeWindow) and self.session.is_one_select(self.select.sql)

    def _explain(self, failure: BindFailed, rewritten: exp.Expr) -> SqlError:
        error = bind_error(failure.complaint, self.select.sql, failure.sql)
        if "must appear in the GROUP BY clause" in error.message:
            error.hint = self._ungrouped_hint(error.message, rewritten)
        if failure.complaint.name is not None and f'column "{failure.complaint.name}" not found' in error.message:
            error = self._also_missing(error, failure.complaint.name, rewritten)
        if isinstance(error, BindError) and "not implemented" in error.message.lower():
            return UnsupportedError(error.message, sql=error.sql, line=error.line, column=error.column, hint=error.hint)
        return error

    def _also_missing(self, error: SqlError, name: str, tree: exp.Expr) -> SqlError:
        """Name every column that does not exist, not only the first."""
        written = dict.fromkeys(part.name for part in self.select.ast.find_all(exp.Column) if not part.table and part.name)
        others = [other for other in written if other != name and other.lower() not in _SYSTEM_NAMES and not self._known(other, tree)]
        if not others or tree.find(exp.Subquery, exp.With) is not None:
            return error
        message = f"{error.message} Nor {'is' if len(others) == 1 else 'are'} {', '.join(others)}."
        return BindError(message, sql=error.sql, line=error.line, column=error.column, hint=error.hint)

    def _ungrouped_hint(self, message: str, tree: exp.Expr) -> str:
        """Say how an ungrouped column becomes an aggregate: by event time where the relation has one."""
        name = message.split('"')[1]
        time = next((relation.watermark[0] for relation in self._relations_of(tree) if relation.watermark is not None), None)
        time = time or self._time_argument()
        if time is None:
            return f"group by it, or write ANY_VALUE({name}) or another aggregate of it"
        return f"group by it, or write LAST({name} ORDER BY {time}) instead of {name} for the group's latest"

    def _time_argument(self) -> str | None:
        """Find the time column of a time window in the text."""
        windows = self.select.ast.find_all(TimeWindow)
        return next((sql_of(window.this) for window in windows if window.this is not None), None)

    def _relations_of(self, tree: exp.Expr) -> list[RelationInfo]:
        names = {table_name(table) for table in tree.find_all(exp.Table)}
        return [self.catalog[name] for name in sorted(filter(None, names)) if name in self.catalog]


def _hide_system_columns(select: exp.Select) -> None:
    """Keep the system columns of this SELECT's own relations out of its stars.

    Raises:
        UnsupportedError: a form that would show them.
    """
    items = [select.args["from_"].this] if select.args.get("from_") else []
    items += [join.this for join in select.args.get("joins") or ()]
    with_system = {item.alias.lower() for item in items if isinstance(item, exp.Table) and item.db == SYSTEM_TABLES}
    if not with_system:
        return
    for join in select.args.get("joins") or ():
        if join.method == "NATURAL":
            raise UnsupportedError("NATURAL JOIN beside a system column", hint="write USING (…) with the columns that join")
    for projection in select.expressions:
        if any(not isinstance(columns.this, exp.Star) for columns in projection.find_all(exp.Columns)):
            raise UnsupportedError("COLUMNS with a pattern beside a system column", hint="write the columns, or COLUMNS(*)")
        for star in list(projection.find_all(exp.Star)):
            parent = star.parent
            if isinstance(parent, exp.Count):
                continue
            table = parent.table.lower() if isinstance(parent, exp.Column) else ""
            if not table or table in with_system:
                hidden = [exp.column(name) for name in SYSTEM_SCHEMA.names]
                star.set("except_", [*(star.args.get("except_") or []), *hidden])


def _relations(plan: Query) -> set[str]:
    """Collect the catalog's names that any leaf of a plan reads."""
    leaves: tuple[Leaf, ...] = ()
    match plan:
        case Union():
            return set().union(*(_relations(branch) for branch in plan.branches))
        case _:
            leaves = plan.leaves + getattr(plan, "input_subqueries", ()) + getattr(plan, "output_subqueries", ())
    found: set[str] = set()
    for leaf in leaves:
        match leaf:
            case Scan():
                found.add(leaf.relation)
            case Derived():
                found |= _relations(leaf.query)
    return found
