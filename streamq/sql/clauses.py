"""The clauses behind a query: EMIT, LATE ROWS INTO and WITH, and what all statements are made of: names, lists, options."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from sqlglot import exp
from sqlglot.tokenizer_core import Token, TokenType

from streamq.errors import BindError
from streamq.sql.bounds import BoundedParser
from streamq.sql.dialect import Streamq
from streamq.sql.durations import NotADuration, VaryingDuration, duration_of, parse_duration
from streamq.sql.marks import forget_positions
from streamq.sql.options import DURATION_OPTIONS, QUERY_OPTIONS
from streamq.sql.statements import Emit, Options, Select
from streamq.sql.trees import sorts_whole_answer
from streamq.sql.walks import find_all
from streamq.sql.window_grammar import TimeWindow

QUERY_STARTS = ("SELECT", "WITH", "FROM", "VALUES", "TABLE", "(")
_T = TypeVar("_T")


class ClauseParser(BoundedParser):
    """Reads queries with their clauses, from the tokens of one statement."""

    def __init__(self, tokens: list[Token], text: str) -> None:
        super().__init__(dialect=Streamq())
        self.reset()
        self.sql = text
        self._chunks = [tokens]
        self._chunk_index = 0
        self._advance_chunk()

    # Words

    def unexpected(self) -> None:
        """Fail at a token that nothing expected."""
        word = self._curr.text.upper()
        if word == "EMIT" and self._curr.token_type == TokenType.VAR:
            self.reject(
                "EMIT stands behind a whole query, once",
                hint="EMIT CHANGES [EVERY interval], EMIT FINAL or EMIT ON WINDOW CLOSE; quote the name to use it as an alias",
            )
        self.raise_error("Invalid expression / Unexpected token")

    def expect(self, *words: str) -> None:
        """Read keywords."""
        for word in words:
            if not self._match_text_seq(word):
                self.reject(f"expected {word}{self.instead()}")

    def name(self, what: str) -> str:
        """Read the name of a relation or a column."""
        token = self._curr
        name = self._parse_id_var(any_token=False)
        if name is None:
            self.reject(
                f"expected the name of {what}{self.instead()}", hint="names that are keywords need double quotes" if token else None
            )
        if self._curr.token_type == TokenType.DOT:
            self.reject("names of relations and columns have one part here", self._curr)
        return name.name

    def names(self, what: str) -> tuple[str, ...]:
        """Read names in parentheses."""
        return tuple(self.wrapped(lambda: self.name(what)))

    def wrapped(self, read: Callable[[], _T]) -> list[_T]:
        """Read a list in parentheses, separated by commas."""
        self.expect("(")
        items = [read()]
        while self._match(TokenType.COMMA):
            items.append(read())
        if not self._match(TokenType.R_PAREN):
            self.reject(f"expected , or ){self.instead()}")
        return items

    def text_of(self, start: Token) -> str:
        """Give the user's text from a token to the last one read."""
        return self.sql[start.start : self._prev.end + 1] if self._prev.end >= start.start else ""

    def whole(self) -> str:
        """Give the text of the whole statement."""
        return self.sql[self._tokens[0].start : self._tokens[-1].end + 1]

    def accept(self, *words: str) -> bool:
        """Read keywords, all or none."""
        return bool(self._match_text_seq(*words))

    # Queries

    def query(self, *, sink: bool = False) -> Select:
        """Read a query with the clauses behind it. With `sink`, WITH may name the options of a sink too."""
        start = self._curr
        ast = self._select_ast()
        sql = self.text_of(start)
        emit, every_s, late_rows_into = None, None, None
        options: Options | None = None
        while self._curr:
            token = self._curr
            if self._match_text_seq("EMIT", advance=False) and token.token_type == TokenType.VAR:
                if emit is not None:
                    self.reject("EMIT stands behind a whole query, once")
                emit, every_s = self._emit()
            elif self.accept("LATE", "ROWS"):
                if late_rows_into is not None:
                    self.reject("LATE ROWS INTO stands behind a query once", token)
                self.expect("INTO")
                late_rows_into = self.name("a source")
            elif token.token_type == TokenType.WITH and self._next.token_type == TokenType.L_PAREN:
                if options is not None:
                    self.reject("WITH (…) stands behind a query once", token)
                self._advance()
                options = self.options(None if sink else QUERY_OPTIONS)
            else:
                break
        if emit is not None:
            self._check_order(ast)
        return Select(sql, ast, emit, every_s, late_rows_into, options or (), self.text_of(start))

    def _select_ast(self) -> exp.Expression:
        if self._curr.text.upper() not in QUERY_STARTS or self._curr.token_type == TokenType.IDENTIFIER:
            self.reject(f"expected SELECT{self.instead()}")
        ast = self._parse_statement()
        if not isinstance(ast, exp.Query | exp.Values):
            self.unexpected()
        assert isinstance(ast, exp.Expression)
        self.check_tree(ast)
        forget_positions(ast)
        for window in find_all(ast, exp.Window):
            if isinstance(window.this, TimeWindow):
                self.reject("a time window is no window function and takes no OVER", self._tokens[0])
        return ast

    def _emit(self) -> tuple[Emit, float | None]:
        self._advance()
        if self.accept("CHANGES"):
            return "changes", self._interval("EVERY") / 1e6 if self.accept("EVERY") else None
        if self.accept("ON"):
            self.expect("WINDOW", "CLOSE")
            return "final", None
        if self.accept("FINAL"):
            return "final", None
        self.reject(f"expected CHANGES, FINAL or ON WINDOW CLOSE behind EMIT{self.instead()}")

    def _interval(self, what: str) -> int:
        token = self._curr
        node = self.parse_length() or self._parse_assignment()
        if node is None:
            self.reject(f"expected an interval behind {what}{self.instead()}")
        microseconds = self.length_of(node, token)
        if microseconds <= 0:
            self.reject(f"the interval behind {what} must be positive", token, kind=BindError)
        return microseconds

    def _check_order(self, ast: exp.Expression) -> None:
        if not sorts_whole_answer(ast):
            return
        order = next((token for token in reversed(self._tokens) if token.token_type == TokenType.ORDER_BY), self._tokens[0])
        self.reject(
            "a continuous query has no end at which its rows could be sorted",
            order,
            "leave ORDER BY out, or keep the first rows with ORDER BY … LIMIT n",
            BindError,
        )

    # Options

    def options(self, known: tuple[str, ...] | None) -> Options:
        """Read `(name = value, …)`; `known` None takes every name."""
        seen: set[str] = set()

        def read() -> tuple[str, object]:
            token = self._curr
            if not self._match(TokenType.STRING):
                self.name("an option")
            name = self._prev.text.lower()
            while self._match(TokenType.DOT):
                self._advance()
                name += f".{self._prev.text.lower()}"
            if known is not None and name not in known:
                self.reject(f"a query has no option {name!r}", token, f"options: {', '.join(known)}", BindError)
            if name in seen:
                self.reject(f"the option {name!r} is given twice", token)
            seen.add(name)
            self.expect("=")
            return name, self._option_value(name)

        return tuple(self.wrapped(read))

    def _option_value(self, name: str) -> object:
        token = self._curr
        if self._match_set((TokenType.TRUE, TokenType.FALSE)):
            return self._prev.token_type == TokenType.TRUE
        if self._match(TokenType.STRING):
            if name not in DURATION_OPTIONS:
                return self._prev.text
            try:
                return timedelta(microseconds=parse_duration(self._prev.text))
            except NotADuration as error:
                self.reject(f"{name}: {error}", token, kind=BindError)
        if token.token_type == TokenType.VAR and self._next.token_type in (TokenType.COMMA, TokenType.R_PAREN):
            self._advance()
            return token.text
        node = self.parse_length() or self._parse_unary()
        match node:
            case exp.Literal() if node.is_number:
                return _number(node.name)
            case exp.Neg(this=exp.Literal() as number) if number.is_number:
                return -_number(number.name)
            case exp.Cast(this=exp.Literal() as text) if text.is_string and not node.is_type("interval"):
                return text.name
        try:
            return timedelta(microseconds=duration_of(node if node is not None else exp.Null()))
        except VaryingDuration as error:
            self.reject(f"{name}: {error}", token, kind=BindError)
        except NotADuration:
            self.reject(f"expected a constant for the option {name!r}{self.instead() if node is None else ''}", token)


def _number(text: str) -> int | float:
    return int(text) if text.isdigit() else float(text)
