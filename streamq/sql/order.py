"""The order of a result, as far as its own columns tell it: what a reader needs who keeps the result and shows it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlglot import exp

from streamq.sql.statements import Select


@dataclass(frozen=True, slots=True)
class OutputTerm:
    """A term of ORDER BY that is a column of the result: its name, or its position from 0."""

    column: str | int
    descending: bool


def output_order(select: Select) -> tuple[OutputTerm, ...]:
    """Give the terms of a SELECT's ORDER BY that name columns of its result, up to the first that does not.

    >>> from streamq.sql.parse import parse_one
    >>> output_order(parse_one("SELECT shop, sum(n) AS total FROM t GROUP BY shop ORDER BY total DESC, 1, abs(total) LIMIT 3"))
    (OutputTerm(column='total', descending=True), OutputTerm(column=0, descending=False))
    """
    order = select.ast.args.get("order")
    return () if order is None else tuple(_terms(order))


def _terms(order: exp.Expr) -> Iterator[OutputTerm]:
    for term in order.expressions:
        descending = bool(term.args.get("desc"))
        match term.this:
            case exp.Column() as column if not column.table:
                yield OutputTerm(column.name, descending)
            case exp.Literal() as literal if not literal.is_string and literal.name.isdecimal():
                yield OutputTerm(int(literal.name) - 1, descending)
            case _:
                return
