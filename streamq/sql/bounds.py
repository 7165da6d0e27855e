"""What a text may cost: its tokens, how deep it is nested, its chains of operators, and how much of it is read more than once.

Nothing can stop a thread that reads a text, and a short one may be made so that reading it takes for ever: of constructs that begin like
others, sqlglot tries one and goes back, twice as often with every level.
"""

from __future__ import annotations

from math import prod
from typing import Any

from sqlglot import exp

from streamq.errors import UnsupportedError
from streamq.sql.dialect import StreamqParser
from streamq.sql.walks import children

MAX_TOKENS = 50_000
"""How many tokens a statement may have."""
MAX_REREADS = 25_000
"""How many tokens may be read once more, each time counted: of a short statement `REREADS` times those that it has, and some."""
REREADS = 10
FREE_REREADS = 1_000
MAX_PIVOT_COLUMNS = 10_000
"""How many columns PIVOT may make: a few lists of values have as many combinations as memory cannot hold."""
MAX_DEPTH = 250
"""How deep a syntax tree may be: what walks it later recurses."""
MAX_TERMS = 900
"""How many operators one chain of them may have, such as ``a + b + c``: they are no levels of `MAX_DEPTH`, but of Python's own bound."""


class BoundedParser(StreamqParser):
    """Reads no more than it may."""

    _rereads = 0
    _column_start = 0

    def check_tree(self, ast: exp.Expression) -> None:
        """Check what was read to the end."""
        depth, terms = _measure(ast)
        if depth > MAX_DEPTH:
            self.reject("the text is nested too deeply", self._tokens[0], "split the query into CTEs or views")
        if terms > MAX_TERMS:
            self.reject(
                f"a chain of operators may have {MAX_TERMS:,} of them, and here one has {terms:,}",
                self._tokens[0],
                "write values as a list, x IN (1, 2, …), or as rows, VALUES (1), (2), …, and others in parts, in CTEs or views",
            )

    def _advance_chunk(self) -> None:
        super()._advance_chunk()
        count = len(self._tokens)
        if count > MAX_TOKENS:
            self.reject(
                f"a statement may have {MAX_TOKENS:,} words, numbers and signs, and this one has {count:,}",
                self._tokens[MAX_TOKENS],
                "give many values as one parameter, a list, and insert many rows with insert()",
            )
        self._rereads = min(FREE_REREADS + REREADS * count, MAX_REREADS)

    def _retreat(self, index: int) -> None:
        self._reread(index)
        super()._retreat(index)

    def _reread(self, index: int) -> None:
        """Count that what is between a token and this one is read once more."""
        self._rereads -= self._index - index
        if self._rereads < 0:
            self.reject(
                "parts of the text would have to be read too often to tell what is meant",
                self._tokens[index],
                "nest less: write lists as [1, 2] and rows as (1, 2), and parts of the query as CTEs or views",
            )

    def _parse_lambda(self, alias: bool = False) -> exp.Expr | None:
        start = self._index
        read = super()._parse_lambda(alias)
        if isinstance(read, exp.Lambda):
            # Its body has been searched for its parameters.
            self._reread(start)
        return read

    def _parse_column(self) -> exp.Expr | None:
        before, self._column_start = self._column_start, self._index
        try:
            return super()._parse_column()
        finally:
            self._column_start = before

    def _parse_field(self, any_token: bool = False, tokens: Any = None, anonymous_func: bool = False) -> exp.Expr | None:
        read = super()._parse_field(any_token, tokens, anonymous_func)
        if anonymous_func and isinstance(read, exp.Func | exp.Window):
            # What a function is called on, as in x.f(), is copied.
            self._reread(self._column_start)
        return read

    def _pivot_column_names(self, aggregations: list[exp.Expr]) -> list[str]:
        names = super()._pivot_column_names(aggregations)
        pivot = aggregations[0].parent
        assert isinstance(pivot, exp.Pivot)
        columns = prod([len(names) or 1, *(len(field.expressions) for field in pivot.fields)])
        if columns > MAX_PIVOT_COLUMNS:
            self.reject(f"PIVOT may make {MAX_PIVOT_COLUMNS:,} columns, and this one would make {columns:,}", kind=UnsupportedError)
        return names


def _measure(ast: exp.Expr) -> tuple[int, int]:
    """Measure a tree: its depth, of which a chain of operators, which is written in a loop, is one level, and the longest such chain."""
    deepest, longest, pending = 0, 0, [(ast, 0, 0)]
    while pending:
        node, depth, terms = pending.pop()
        in_chain = isinstance(node, exp.Binary | exp.SetOperation)
        below = (depth, terms + 1) if in_chain else (depth + 1, 0)
        deepest, longest = max(deepest, depth), max(longest, below[1])
        pending.extend([(child, *below) for child in children(node)])
    return deepest, longest
