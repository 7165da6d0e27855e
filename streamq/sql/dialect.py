"""The grammar of queries: DuckDB's SELECT plus time windows and temporal joins, as a sqlglot dialect.

Statements, and the clauses behind a query (EMIT, LATE ROWS INTO, WITH), are read by `streamq.sql.parse`, which builds on
the parser here. What the additions mean is the business of `streamq.sql.windows`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, ClassVar

from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.generators.duckdb import DuckDBGenerator
from sqlglot.parsers.duckdb import DuckDBParser
from sqlglot.tokenizer_core import Token, TokenType
from sqlglot.tokens import Tokenizer

from streamq.sql.dollars import PARAMETER, mark_parameters
from streamq.sql.window_grammar import WINDOW_SHAPES, TimeWindow, WindowParser, time_window_sql

_QUERY_STARTS = (TokenType.SELECT, TokenType.FROM, TokenType.VALUES, TokenType.L_PAREN, TokenType.WITH)


class StreamqParser(WindowParser):
    """DuckDB's parser that knows time windows, and takes nothing that is not a query for one."""

    STATEMENT_PARSERS: ClassVar[dict[TokenType, Any]] = {}
    FUNCTION_PARSERS: ClassVar[dict[str, Callable[..., Any]]] = {
        **DuckDBParser.FUNCTION_PARSERS,
        **dict.fromkeys(WINDOW_SHAPES, lambda self: self._parse_grouping_window()),
    }
    QUERY_MODIFIER_PARSERS: ClassVar[dict[TokenType, Any]] = {
        **{
            token: parse
            for token, parse in DuckDBParser.QUERY_MODIFIER_PARSERS.items()
            if token not in (TokenType.FOR, TokenType.LOCK, TokenType.CLUSTER_BY, TokenType.DISTRIBUTE_BY, TokenType.SORT_BY)
        },
        TokenType.WINDOW: lambda self: self._parse_window_modifier(),
    }

    def _parse_csv(self, parse_method: Callable[[], Any], sep: TokenType = TokenType.COMMA) -> list[Any]:
        """Read items between commas. One comma may end them, as in DuckDB; nothing may be missing before one."""

        def parse_item() -> Any:
            if sep == TokenType.COMMA and self._curr and self._curr.token_type == sep:
                self.raise_error("Required item missing")
            return parse_method()

        return super()._parse_csv(parse_item, sep)

    def _parse_user_defined_type(self, identifier: exp.Identifier) -> exp.Expr | None:
        # Whether there is such a type is for DuckDB to say.
        return exp.DataType.build(identifier, udt=True)

    def _parse_as_command(self, start: Token) -> exp.Command:
        self.reject(f"{start.text.upper()} is not part of streamq's SQL here", start)

    def _parse_command(self) -> exp.Command:
        return self._parse_as_command(self._prev)

    # Queries

    def _parse_statement(self) -> exp.Expr | None:
        """Read the query behind `WITH … AS (…)`."""
        if self._curr.token_type not in _QUERY_STARTS and not self._is_table_query():
            self.reject(f"expected SELECT{self.instead()}")
        return super()._parse_statement()

    def at_query_clause(self) -> bool:
        """Tell whether a clause of streamq begins here, so that no alias can."""
        if self._curr.token_type == TokenType.IDENTIFIER:
            return False
        if self._curr.text.upper() == "EMIT" and self._curr.token_type == TokenType.VAR:
            return True
        if self._match_text_seq("LATE", "ROWS", advance=False):
            return True
        return self._curr.token_type == TokenType.WINDOW and self._next.text.upper() in WINDOW_SHAPES

    def _parse_alias(self, this: exp.Expr | None, explicit: bool = False) -> exp.Expr | None:
        return this if self.at_query_clause() else super()._parse_alias(this, explicit)

    def _parse_table_alias(self, alias_tokens: Collection[TokenType] | None = None) -> exp.TableAlias | None:
        return None if self.at_query_clause() else super()._parse_table_alias(alias_tokens)

    def _parse_group(self, skip_group_by_token: bool = False) -> exp.Group | None:
        # Behind ALL there is no key, and EMIT is not one.
        if self._curr.token_type == TokenType.GROUP_BY and self._next.token_type == TokenType.ALL:
            self._advance(2)
            return self.expression(exp.Group(all=True))
        return super()._parse_group(skip_group_by_token)

    def _parse_table_hints(self) -> list[exp.Expr] | None:
        return None

    def _parse_stream(self) -> exp.Stream | None:
        return None

    def _parse_join(
        self,
        skip_join_token: bool = False,
        parse_bracket: bool = False,
        alias_tokens: Collection[TokenType] | None = None,
    ) -> exp.Join | None:
        if self._match(TokenType.COMMA):
            return self.expression(exp.Join(this=self._parse_table(alias_tokens=alias_tokens), kind="CROSS"))
        return super()._parse_join(skip_join_token, parse_bracket, alias_tokens)

    def _parse_table(
        self,
        schema: bool = False,
        joins: bool = False,
        alias_tokens: Collection[TokenType] | None = None,
        parse_bracket: bool = False,
        is_db_reference: bool = False,
        parse_partition: bool = False,
        consume_pipe: bool = False,
    ) -> exp.Expr | None:
        table = super()._parse_table(
            schema=schema,
            alias_tokens=alias_tokens,
            parse_bracket=parse_bracket,
            is_db_reference=is_db_reference,
            parse_partition=parse_partition,
            consume_pipe=consume_pipe,
        )
        if isinstance(table, exp.Table) and not table.args.get("version"):
            table.set("version", self._parse_version())
        if isinstance(table, exp.Subquery) and holds_relations(table):
            table = _without_parentheses(table)
        if joins and table is not None:
            for join in self._parse_joins(alias_tokens=alias_tokens):
                table.append("joins", join)
        return table

    def _parse_into(self) -> exp.Into | None:
        if self._curr.token_type == TokenType.INTO:
            hint = "CREATE MATERIALIZED VIEW name AS SELECT … keeps an answer, INSERT INTO name SELECT … adds it to a source or table"
            self.reject("SELECT … INTO is not part of streamq's SQL", hint=hint)
        return None

    def _parse_limit_options(self) -> exp.LimitOptions | None:
        start = self._curr
        options = super()._parse_limit_options()
        if options is not None and options.args.get("with_ties"):
            self.reject("WITH TIES is not part of streamq's SQL", start, hint="write QUALIFY rank() OVER (ORDER BY …) <= n")
        return options

    def _parse_version(self) -> exp.Version | None:
        if not self._match_text_seq("FOR", "SYSTEM_TIME"):
            return None
        if not self._match_text_seq("AS", "OF", "PROCTIME", "(", ")"):
            self.reject("expected AS OF PROCTIME()", hint="JOIN t FOR SYSTEM_TIME AS OF PROCTIME()")
        return self.expression(exp.Version(this="TIMESTAMP", expression=exp.Anonymous(this="PROCTIME"), kind="AS OF"))


class StreamqGenerator(DuckDBGenerator):
    """DuckDB's text, with the additions as they are written in streamq."""

    TRANSFORMS: ClassVar[dict[Any, Any]] = {
        **DuckDBGenerator.TRANSFORMS,
        TimeWindow: time_window_sql,
        exp.Version: lambda self, version: "FOR SYSTEM_TIME AS OF PROCTIME()",
    }


class Streamq(DuckDB):
    """DuckDB's SQL with the streaming additions to queries."""

    # Written as it was read. To count from 0 in between, sqlglot works out the types of what has an index, once for each.
    INDEX_OFFSET = 0

    class Tokenizer(DuckDB.Tokenizer):
        # A command's text would be one opaque token.
        COMMANDS: ClassVar[set[TokenType]] = set()
        # `?::INT` is a parameter that is cast.
        KEYWORDS: ClassVar[dict[str, TokenType]] = {text: kind for text, kind in DuckDB.Tokenizer.KEYWORDS.items() if text != "?::"}
        SINGLE_TOKENS: ClassVar[dict[str, TokenType]] = {**DuckDB.Tokenizer.SINGLE_TOKENS, PARAMETER: TokenType.PARAMETER}

    Parser = StreamqParser
    Generator = StreamqGenerator


def tokenize(text: str) -> list[Token]:
    """Cut a text into tokens in which WINDOW and SESSION are keywords only where the grammar has them.

    Raises:
        sqlglot.errors.TokenError: a string, identifier or comment does not end.
    """
    tokenizer: Tokenizer = Streamq().tokenizer()
    tokens = tokenizer.tokenize(mark_parameters(text))
    return [_contextual(token, tokens[max(place - 2, 0) : place], tokens[place + 1 : place + 4]) for place, token in enumerate(tokens)]


def _contextual(token: Token, preceding: list[Token], following: list[Token]) -> Token:
    if token.token_type == TokenType.SESSION:
        return _retagged(token, TokenType.VAR)
    if token.text == PARAMETER:
        return Token(token.token_type, "$", token.line, token.col, token.start, token.end, token.comments)
    if token.token_type != TokenType.WINDOW:
        return token
    if [before.text.upper() for before in preceding] == ["EMIT", "ON"]:
        return _retagged(token, TokenType.VAR)
    kinds = [after.token_type for after in following]
    if len(kinds) == 3 and kinds[1:] == [TokenType.ALIAS, TokenType.L_PAREN]:
        return token
    if len(kinds) > 1 and kinds[1] == TokenType.L_PAREN and following[0].text.upper() in WINDOW_SHAPES:
        return token
    # DuckDB reserves the word, so it must stay quoted in what we write.
    return _retagged(token, TokenType.IDENTIFIER)


def _retagged(token: Token, token_type: TokenType) -> Token:
    return Token(token_type, token.text, token.line, token.col, token.start, token.end, token.comments)


def holds_relations(wrapped: exp.Subquery) -> bool:
    """Tell whether parentheses in FROM hold relations, such as `(t JOIN u …)`, and not a query."""
    inner = wrapped.this
    if isinstance(inner, exp.Subquery):
        return bool(inner.args.get("alias") or inner.args.get("joins")) or holds_relations(inner)
    return isinstance(inner, exp.Table)


def _without_parentheses(wrapped: exp.Subquery) -> exp.Expr:
    """Read `(t)` as `t`, and a join in parentheses that has a name as the query that it is."""
    inner = wrapped.this
    if wrapped.args.get("alias"):
        wrapped.set("this", exp.select(exp.Star()).from_(inner, copy=False))
        return wrapped
    others = any(value for name, value in wrapped.args.items() if name != "this")
    return wrapped if others or inner.args.get("joins") else inner


_DIALECT = Streamq()


def generate(ast: exp.Expression) -> str:
    """Write a tree as DuckDB SQL on one line. Time windows must have been rewritten for DuckDB to take it."""
    # Writing changes a tree, but not one of these, which most are.
    return _DIALECT.generate(ast, comments=False, copy=not isinstance(ast, exp.Column | exp.Literal))
