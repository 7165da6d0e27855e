"""Small pieces of syntax trees that the rewriting rules build and walk."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sqlglot import exp

from streamq.sql.text import column, identifier

OUTPUT_CLAUSES = ("distinct", "expressions", "group", "having", "qualify", "windows", "order")
"""The clauses of a SELECT that see its rows after FROM and WHERE."""
INPUT_CLAUSES = ("from_", "joins", "laterals", "where")
_ATOMS = (exp.Column, exp.Literal, exp.Paren, exp.Cast, exp.Case, exp.Null, exp.Boolean, exp.Dot, exp.Identifier)


def clause_nodes(select: exp.Select, clauses: Iterable[str]) -> Iterator[exp.Expression]:
    """Go through the nodes of some clauses, without entering queries inside them."""
    for clause in clauses:
        value = select.args.get(clause)
        for root in value if isinstance(value, list) else [value]:
            if isinstance(root, exp.Expression):
                yield from root.walk(prune=lambda node: isinstance(node, exp.Query))  # type: ignore[misc]


def selects_inside_out(ast: exp.Expression) -> list[exp.Select]:
    """List the SELECTs of a tree, every one after those inside it."""
    return list(ast.find_all(exp.Select))[::-1]


def unwrap(node: exp.Expr) -> exp.Expr:
    """Leave out parentheses around a query that say nothing of it."""
    while isinstance(node, exp.Subquery | exp.Paren) and not any(
        value for name, value in node.args.items() if name not in ("this", "alias")
    ):
        node = node.this
    return node


def sorts_whole_answer(ast: exp.Expression) -> bool:
    """Tell whether a query's ORDER BY sorts its answer and does not choose rows by LIMIT, OFFSET or DISTINCT ON."""
    while isinstance(ast, exp.Subquery) and not ast.args.get("order"):
        ast = ast.this
    distinct = ast.args.get("distinct")
    chooses = ast.args.get("limit") or ast.args.get("offset") or (isinstance(distinct, exp.Distinct) and distinct.args.get("on"))
    return bool(ast.args.get("order")) and not chooses


def call(name: str, *arguments: exp.Expression) -> exp.Expression:
    """Make the call of a DuckDB function."""
    return exp.Anonymous(this=name, expressions=list(arguments))


def number(value: int) -> exp.Expression:
    """Make a whole number."""
    return exp.Literal.number(value) if value >= 0 else exp.Paren(this=exp.Neg(this=exp.Literal.number(-value)))


def operand(node: exp.Expression) -> exp.Expression:
    """Give a copy that can stand beside any operator."""
    bare = isinstance(node, _ATOMS) or (isinstance(node, exp.Func) and not isinstance(node, exp.Binary))
    return node.copy() if bare else exp.Paren(this=node.copy())


def named(node: exp.Expression, name: str) -> exp.Alias:
    """Give an expression a name."""
    return exp.Alias(this=node, alias=identifier(name))


def over(function: exp.Expression, partition: list[exp.Expression], order: exp.Expression | None = None) -> exp.Window:
    """Make a window function."""
    sorting = exp.Order(expressions=[exp.Ordered(this=order)]) if order is not None else None
    return exp.Window(this=function, partition_by=[key.copy() for key in partition], order=sorting)


def subquery(select: exp.Expression, name: str) -> exp.Subquery:
    """Make a relation of FROM of a query."""
    return exp.Subquery(this=select, alias=exp.TableAlias(this=identifier(name)))


def add_condition(select: exp.Select, condition: exp.Expression) -> None:
    """Narrow WHERE."""
    where = select.args.get("where")
    select.set("where", exp.Where(this=condition if where is None else exp.And(this=operand(where.this), expression=condition)))


def is_not_null(node: exp.Expression) -> exp.Expression:
    """Make `node IS NOT NULL`."""
    return exp.Not(this=exp.Is(this=operand(node), expression=exp.Null()))


def hide_from_star(select: exp.Select, names: Iterable[str]) -> None:
    """Leave columns out of the `*` among a SELECT's projections."""
    hidden = [column(name) for name in names]
    for projection in select.expressions:
        if isinstance(projection, exp.Star) and hidden:
            projection.set("except_", [*(projection.args.get("except_") or ()), *hidden])
