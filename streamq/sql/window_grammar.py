"""The grammar of time windows: `TUMBLE(ts, 5m)` as a function, as a relation and as a clause, and what a parser says of mistakes."""

from __future__ import annotations

from typing import Any, ClassVar, NoReturn

from sqlglot import exp
from sqlglot.errors import ParseError
from sqlglot.generator import Generator
from sqlglot.parsers.duckdb import DuckDBParser
from sqlglot.tokenizer_core import Token, TokenType

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


class WindowParser(DuckDBParser):
    """Reads time windows where a query can have them."""

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


def time_window_sql(self: Generator, window: TimeWindow) -> str:
    """Write a time window as streamq does."""
    upper = {"tumble": "TUMBLE", "hop": "HOP", "session": "SESSION"}[window.args["kind"]]
    lengths = (*WINDOW_SHAPES[upper][1], *(["offset"] if window.args.get("offset") else []))
    relation = self.sql(window, "relation")
    if keys := window.args.get("keys"):
        relation += f" PARTITION BY {', '.join(map(self.sql, keys))}"
    shown = [relation, self.sql(window, "this"), *(f"INTERVAL '{window.microseconds(length)} us'" for length in lengths)]
    return f"{upper}({', '.join(part for part in shown if part)})"
