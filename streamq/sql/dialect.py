"""The grammar of queries: DuckDB's SELECT plus time windows and temporal joins, as a sqlglot dialect.

Statements, and the clauses behind a query (EMIT, LATE ROWS INTO, WITH), are read by `streamq.sql.parse`, which builds on
the parser here. What the additions mean is the business of `streamq.sql.windows`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, ClassVar, NoReturn

from sqlglot import exp
from sqlglot.dialects.duckdb import DuckDB
from sqlglot.errors import ParseError
from sqlglot.generator import Generator
from sqlglot.generators.duckdb import DuckDBGenerator
from sqlglot.parsers.duckdb import DuckDBParser
from sqlglot.tokenizer_core import Token, TokenType
from sqlglot.tokens import Tokenizer

from streamq.errors import BindError, SqlError, SqlSyntaxError, UnsupportedError
from streamq.sql.durations import UNITS, VARYING_UNITS, NotADuration, VaryingDuration, duration_of

WINDOW_SHAPES = {
    "TUMBLE": ("tumble", ("size",)),
    "TUMBLING": ("tumble", ("size",)),
    "HOP": ("hop", ("slide", "size")),
    "HOPPING": ("hop", ("slide", "size")),
    "SLIDING": ("hop", ("size", "slide")),
    "SESSION": ("session", ("gap",)),
}
"""The names of time windows: the kind, and the order of the intervals behind the time column."""
_USAGE = {
    "TUMBLE": "{}({}, size [, offset])",
    "TUMBLING": "{}({}, size [, offset])",
    "HOP": "{}({}, slide, size [, offset])",
    "HOPPING": "{}({}, slide, size [, offset])",
    "SLIDING": "{}({}, size, slide [, offset])",
    "SESSION": "{}({}, gap)",
}
_QUERY_STARTS = (TokenType.SELECT, TokenType.FROM, TokenType.VALUES, TokenType.L_PAREN, TokenType.WITH)
Reason = type[SqlSyntaxError] | type[BindError] | type[UnsupportedError]


class GrammarError(ParseError):
    """The parser cannot go on at `offset`. It may try another way."""

    def __init__(self, message: str, offset: int, token: str) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset
        self.token = token


class Rejected(Exception):
    """What stands at `offset` can only be meant in one way, and that is an error. `kind` is the error for the user."""

    def __init__(self, message: str, offset: int, hint: str | None = None, kind: type[SqlError] = SqlSyntaxError) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset
        self.hint = hint
        self.kind = kind


class TimeWindow(exp.Expression, exp.Func):
    """The time window of a row: `this` is the time column (None: the watermark column).

    `kind` is 'tumble', 'hop' or 'session'; lengths are literals in microseconds. In FROM, `relation` is the input and
    `keys` are the columns that have sessions of their own.
    """

    is_var_len_args = False
    arg_types: ClassVar[dict[str, bool]] = {
        "this": False, "kind": True, "size": False, "slide": False, "gap": False, "offset": False, "relation": False, "keys": False,
    }  # fmt: skip
    _sql_names: ClassVar[list[str]] = ["STREAMQ_TIME_WINDOW"]

    def microseconds(self, length: str) -> int:
        """Give one of the lengths; 0 if the window has none of that name."""
        literal = self.args.get(length)
        return int(literal.to_py()) if literal is not None else 0


class StreamqParser(DuckDBParser):
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

    # Errors

    def raise_error(self, message: str, token: Token | None = None) -> None:
        """Fail with the place of `token`, by default the one that comes next."""
        at = token if token else self._curr
        raise GrammarError(message, self.offset_of(at), at.text if at else "")

    def reject(self, message: str, token: Token | None = None, hint: str | None = None, kind: Reason = SqlSyntaxError) -> NoReturn:
        """Fail for good, whatever else could be tried, with the place of `token`, by default the one that comes next."""
        raise Rejected(message, self.offset_of(token if token else self._curr), hint, kind)

    def instead(self) -> str:
        """Say what stands where something else was expected."""
        return f" instead of {self._curr.text!r}" if self._curr else " before the end of the text"

    def offset_of(self, token: Token | None) -> int:
        """Give the offset of a token, or of the end of the statement."""
        if token:
            return int(token.start)
        return int(self._tokens[-1].end) + 1 if self._tokens else 0

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
        if joins and table is not None:
            for join in self._parse_joins(alias_tokens=alias_tokens):
                table.append("joins", join)
        return table

    def _parse_version(self) -> exp.Version | None:
        if not self._match_text_seq("FOR", "SYSTEM_TIME"):
            return None
        if not self._match_text_seq("AS", "OF", "PROCTIME", "(", ")"):
            self.reject("expected AS OF PROCTIME()", hint="JOIN t FOR SYSTEM_TIME AS OF PROCTIME()")
        return self.expression(exp.Version(this="TIMESTAMP", expression=exp.Anonymous(this="PROCTIME"), kind="AS OF"))

    # Time windows

    def _at_window(self, ahead: int = 0) -> bool:
        index = self._index + ahead
        if index + 1 >= len(self._tokens):
            return False
        name, paren = self._tokens[index], self._tokens[index + 1]
        return name.token_type == TokenType.VAR and name.text.upper() in WINDOW_SHAPES and paren.token_type == TokenType.L_PAREN

    def _parse_table_part(self, schema: bool = False) -> exp.Expr | None:
        if not schema and self._at_window():
            return self._parse_window_table()
        if not schema and self._curr.token_type == TokenType.TABLE and self._next.token_type == TokenType.L_PAREN and self._at_window(2):
            self._advance(2)
            window = self._parse_window_table()
            self._match_r_paren()
            return window
        return super()._parse_table_part(schema)

    def _parse_window_table(self) -> TimeWindow:
        """Read `TUMBLE(t, ts, size)` or `TUMBLE(TABLE t, DESCRIPTOR(ts), size)`."""
        name = self._curr
        self._advance(2)
        self._match(TokenType.TABLE)
        relation = self._parse_select(nested=True, parse_subquery_alias=False) if self._is_subquery() else self._parse_table_parts()
        partitioned = self._match(TokenType.PARTITION_BY)
        if partitioned and name.text.upper() != "SESSION":
            self.reject("only SESSION takes PARTITION BY: the windows of the others are the same for all rows", self._prev)
        arguments = self._parse_window_arguments() if partitioned or self._match(TokenType.COMMA) else []
        keys = [key for _, key in arguments[:-2]] if partitioned else []
        window = self._window(name, arguments[len(keys) :], "relation, ts")
        if window.this is None or (partitioned and not keys):
            self._reject_arguments(name, "relation, ts")
        window.set("relation", relation)
        window.set("keys", [column for key in keys for column in (key.expressions if isinstance(key, exp.Tuple) else [key.unnest()])])
        self._match_r_paren()
        return window

    def _is_subquery(self) -> bool:
        return self._curr.token_type in (TokenType.L_PAREN, TokenType.SELECT, TokenType.FROM)

    def _parse_grouping_window(self) -> TimeWindow:
        """Read the arguments of `TUMBLE(ts, size)`, up to the closing parenthesis."""
        name = self._tokens[self._index - 2]
        window = self._window(name, self._parse_window_arguments(), "ts")
        if window.this is None:
            self._reject_arguments(name, "ts")
        if self._curr.token_type != TokenType.R_PAREN:
            self.raise_error("Expecting )")
        return window

    def _parse_window_modifier(self) -> tuple[str, Any]:
        if not self._at_window(1):
            return "windows", self._parse_window_clause()
        self._advance()
        name = self._curr
        self._advance(2)
        window = self._window(name, self._parse_window_arguments(), "[ts]")
        self._match_r_paren()
        return "time_window", window

    def _parse_window_arguments(self) -> list[tuple[Token, exp.Expr]]:
        arguments: list[tuple[Token, exp.Expr]] = []
        while not arguments or self._match(TokenType.COMMA):
            arguments.append((self._curr, self._parse_window_argument()))
        return arguments

    def _parse_window_argument(self) -> exp.Expr:
        if self._match_text_seq("DESCRIPTOR", "("):
            time = self._parse_column()
            self._match_r_paren()
        else:
            time = self.parse_length() or self._parse_assignment()
        if time is None:
            self.raise_error("Expected an argument")
        assert time is not None
        return time

    def parse_length(self) -> exp.Expr | None:
        """Read a number with a unit directly behind it, as in `30s`. None if there is none here."""
        if self._curr.token_type == TokenType.DASH and self._next.token_type == TokenType.NUMBER:
            self._advance()
            length = self.parse_length()
            if length is None:
                self._retreat(self._index - 1)
            return exp.Neg(this=length) if length is not None else None
        number, unit = self._curr, self._next
        if number.token_type != TokenType.NUMBER or not unit or number.end + 1 != unit.start or not unit.text[:1].isalpha():
            return None
        name = unit.text.lower()
        if name not in UNITS and name not in VARYING_UNITS:
            self.reject(f"{unit.text!r} is not a unit of time", unit, hint="units: ms, s, m, h, d, w")
        self._advance(2)
        return exp.Interval(this=exp.Literal.string(number.text), unit=exp.Var(this=name))

    def _window(self, name: Token, arguments: list[tuple[Token, exp.Expr]], before: str) -> TimeWindow:
        kind, lengths = WINDOW_SHAPES[name.text.upper()]
        window = TimeWindow(kind=kind)
        if arguments and _is_time(arguments[0][1]):
            window.set("this", arguments.pop(0)[1])
        names = lengths if kind == "session" else (*lengths, "offset")
        if not len(lengths) <= len(arguments) <= len(names):
            self._reject_arguments(name, before)
        for length, (token, argument) in zip(names, arguments, strict=False):
            microseconds = self.length_of(argument, token)
            if microseconds <= 0 and length != "offset":
                self.reject(f"the {length} of a time window must be positive", token, kind=BindError)
            window.set(length, _number(microseconds))
        return window

    def length_of(self, argument: exp.Expr, token: Token) -> int:
        """Give the microseconds of an interval that begins with `token`."""
        try:
            return duration_of(argument)
        except VaryingDuration as error:
            self.reject(f"{error}; time windows need one", token, "write the length in days, hours or less", BindError)
        except NotADuration as error:
            self.reject(str(error), token, "write 5m, '5 minutes' or INTERVAL '5' MINUTE")

    def _reject_arguments(self, name: Token, before: str) -> NoReturn:
        upper = name.text.upper()
        self.reject(f"{upper} has other arguments", name, _USAGE[upper].format(upper, before))


def _is_time(argument: exp.Expr) -> bool:
    """Tell a time column from an interval."""
    if isinstance(argument, exp.Literal):
        return False
    try:
        duration_of(argument)
    except VaryingDuration:
        return False
    except NotADuration:
        return not isinstance(argument, exp.Interval)
    return False


def _number(value: int) -> exp.Expr:
    return exp.Literal.number(value) if value >= 0 else exp.Neg(this=exp.Literal.number(-value))


def _time_window_sql(self: Generator, window: TimeWindow) -> str:
    upper = {"tumble": "TUMBLE", "hop": "HOP", "session": "SESSION"}[window.args["kind"]]
    lengths = (*WINDOW_SHAPES[upper][1], *(["offset"] if window.args.get("offset") else []))
    relation = self.sql(window, "relation")
    if keys := window.args.get("keys"):
        relation += f" PARTITION BY {', '.join(map(self.sql, keys))}"
    shown = [relation, self.sql(window, "this"), *(f"INTERVAL '{window.microseconds(length)} us'" for length in lengths)]
    return f"{upper}({', '.join(part for part in shown if part)})"


class StreamqGenerator(DuckDBGenerator):
    """DuckDB's text, with the additions as they are written in streamq."""

    TRANSFORMS: ClassVar[dict[Any, Any]] = {
        **DuckDBGenerator.TRANSFORMS,
        TimeWindow: _time_window_sql,
        exp.Version: lambda self, version: "FOR SYSTEM_TIME AS OF PROCTIME()",
    }


class Streamq(DuckDB):
    """DuckDB's SQL with the streaming additions to queries."""

    class Tokenizer(DuckDB.Tokenizer):
        # A command's text would be one opaque token.
        COMMANDS: ClassVar[set[TokenType]] = set()

    Parser = StreamqParser
    Generator = StreamqGenerator


def tokenize(text: str) -> list[Token]:
    """Cut a text into tokens in which WINDOW and SESSION are keywords only where the grammar has them.

    Raises:
        sqlglot.errors.TokenError: a string, identifier or comment does not end.
    """
    tokenizer: Tokenizer = Streamq().tokenizer()
    tokens = tokenizer.tokenize(text)
    return [_contextual(token, tokens[max(place - 2, 0) : place], tokens[place + 1 : place + 4]) for place, token in enumerate(tokens)]


def _contextual(token: Token, preceding: list[Token], following: list[Token]) -> Token:
    if token.token_type == TokenType.SESSION:
        return _retagged(token, TokenType.VAR)
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


def generate(ast: exp.Expression) -> str:
    """Write a tree as DuckDB SQL on one line. Time windows must have been rewritten for DuckDB to take it."""
    return Streamq().generate(ast, comments=False)
