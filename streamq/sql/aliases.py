"""SELECT aliases where SQL has none: in GROUP BY, HAVING, QUALIFY, OVER, and with a field behind them (`window.start`).

A real column always wins over an alias of the same name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from sqlglot import exp

from streamq.sql.text import identifier
from streamq.sql.trees import OUTPUT_CLAUSES, clause_nodes, operand, selects_inside_out

Columns = Collection[str] | Callable[[exp.Select], Collection[str]]
"""The lower-case names of the columns that a SELECT's FROM gives, the same for all or asked SELECT by SELECT."""


def expand_lateral_aliases(ast: exp.Expression, columns: Columns) -> exp.Expression:
    """Put the aliased expressions where a SELECT's own aliases are used. Gives a new tree.

    >>> from streamq.sql.parse import parse_one
    >>> from streamq.sql.dialect import generate
    >>> print(generate(expand_lateral_aliases(parse_one("SELECT a + 1 AS b, max(c) FROM t GROUP BY b").ast, {"a", "c"})))
    SELECT a + 1 AS b, MAX(c) FROM t GROUP BY (a + 1)
    """
    copy = ast.copy()
    for select in selects_inside_out(copy):
        aliases = {item.alias.lower(): item.this for item in select.expressions if isinstance(item, exp.Alias)}
        used = [node for node in clause_nodes(select, OUTPUT_CLAUSES) if isinstance(node, exp.Column) and _alias_of(node, aliases)]
        if not used:
            continue
        real = columns(select) if callable(columns) else columns
        hiding = {name.lower() for name in (*real, *_relations(select))}
        meant = {name: node.copy() for name, node in aliases.items() if name not in hiding}
        for node in used:
            _expand(node, meant, frozenset(_own_alias(node, select)))
    return copy


def name_unnested_columns(ast: exp.Expression) -> exp.Expression:
    """Let `UNNEST(list) AS item` name its column too, where the SELECT uses `item` as a column. Gives a new tree.

    >>> from streamq.sql.parse import parse_one
    >>> from streamq.sql.dialect import generate
    >>> print(generate(name_unnested_columns(parse_one("SELECT tag FROM t CROSS JOIN UNNEST(tags) AS tag").ast)))
    SELECT tag FROM t CROSS JOIN UNNEST(tags) AS tag(tag)
    """
    copy = ast.copy()
    for unnest in list(copy.find_all(exp.Unnest)):
        alias, select = unnest.args.get("alias"), unnest.find_ancestor(exp.Select)
        if alias is None or alias.args.get("columns") or not alias.this or select is None:
            continue
        name = alias.name.lower()
        if any(node.name.lower() == name and not node.table for node in select.find_all(exp.Column)):
            alias.set("columns", [identifier(alias.name)])
    return copy


def _alias_of(node: exp.Column, aliases: Collection[str]) -> str | None:
    """Give the alias that a reference can mean: `alias` or `alias.field`."""
    name = node.parts[0].name.lower()
    return name if name in aliases and not isinstance(node.this, exp.Star) else None


def _relations(select: exp.Select) -> set[str]:
    from_ = select.args.get("from_")
    items = [from_.this if from_ else None, *(join.this for join in select.args.get("joins") or ())]
    items += [join.this for item in items if item is not None for join in item.args.get("joins") or ()]
    return {item.alias_or_name.lower() for item in items if item is not None}


def _own_alias(node: exp.Expr, select: exp.Select) -> set[str]:
    while node.parent is not None and node.parent is not select:
        node = node.parent
    return {node.alias.lower()} if isinstance(node, exp.Alias) else set()


def _expand(node: exp.Column, aliases: Mapping[str, exp.Expression], within: frozenset[str]) -> None:
    name = _alias_of(node, aliases)
    # Bare in ORDER BY, an output name means the output: DuckDB sorts by it without our help.
    if name is None or name in within or (isinstance(node.parent, exp.Ordered) and len(node.parts) == 1 and _is_last_order(node)):
        return
    expression = exp.Paren(this=aliases[name].copy())
    for inner in list(expression.find_all(exp.Column)):
        _expand(inner, aliases, within | {name})
    replacement = operand(expression.this)
    for field in node.parts[1:]:
        replacement = exp.Dot(this=replacement, expression=identifier(field.name))
    node.replace(replacement)


def _is_last_order(node: exp.Expression) -> bool:
    order = node.find_ancestor(exp.Order)
    return order is not None and isinstance(order.parent, exp.Select)
