"""From text to statements: what may be said, and where the text goes wrong.

A text is cut into tokens, and these at semicolons into statements. The first words decide which function of
`streamq.sql.grammar` reads a statement; whatever that does not consume is an error at its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlglot.errors import TokenError
from sqlglot.tokenizer_core import Token, TokenType

from streamq.errors import SqlError, SqlSyntaxError, UnsupportedError
from streamq.sql.depth import bounded_depth
from streamq.sql.dialect import tokenize
from streamq.sql.grammar import StatementParser
from streamq.sql.positions import place
from streamq.sql.statements import Select, Statement
from streamq.sql.window_grammar import GrammarError, Rejected

_OPENERS = {"'": "string", '"': "quoted name", "/*": "comment", "$": "dollar-quoted string"}


def parse(text: str) -> tuple[Statement, ...]:
    """Read the statements of a text, which are separated by semicolons.

    Raises:
        SqlSyntaxError: the text is not in the grammar, or has no statement.
        BindError: a clause cannot apply, whatever the relations are.
        UnsupportedError: a statement of DuckDB that streamq does not have.
    """
    with _placing(text):
        statements = tuple(_read(tokens, text) for tokens in _split(_tokens(text)))
    if not statements:
        raise SqlSyntaxError("the text has no statement", sql=text)
    return statements


def parse_one(text: str) -> Statement:
    """Read a text that has exactly one statement. A semicolon may end it.

    Raises:
        SqlSyntaxError, BindError, UnsupportedError: as `parse`; more than one statement is a SqlSyntaxError.
    """
    with _placing(text):
        chunks = _split(_tokens(text))
        if not chunks:
            raise SqlSyntaxError("the text has no statement", sql=text)
        statement = _read(chunks[0], text)
    if len(chunks) > 1:
        raise _placed(SqlSyntaxError, "one statement is expected, a second begins here", text, chunks[1][0].start, "run them one by one")
    return statement


@contextmanager
def _placing(text: str) -> Iterator[None]:
    """Say of what goes wrong where in the text it does."""
    try:
        text.encode()
        with bounded_depth(text):
            yield
    except Rejected as error:
        raise _placed(error.kind, error.message, text, error.offset, error.hint) from None
    except GrammarError as error:
        raise _placed(SqlSyntaxError, _explain(error), text, error.offset, None) from None
    except UnicodeEncodeError as error:
        raise SqlSyntaxError(f"character {error.start + 1} of the text is half of a surrogate pair, which is none by itself") from None


def parse_select(sql: str) -> Select:
    """Parse the text of one query.

    Raises:
        SqlSyntaxError: it is not in the grammar.
        UnsupportedError: it is another statement.
    """
    statement = parse_one(sql)
    if not isinstance(statement, Select):
        kind = type(statement).__name__.upper()
        raise UnsupportedError(
            f"query() runs one SELECT, this is {kind}", sql=sql, hint="use execute() for every other statement, over HTTP /v1/execute"
        )
    return statement


def _read(tokens: list[Token], text: str) -> Statement:
    return StatementParser(tokens, text).statement()


def _split(tokens: list[Token]) -> list[list[Token]]:
    chunks: list[list[Token]] = [[]]
    for token in tokens:
        if token.token_type == TokenType.SEMICOLON:
            chunks.append([])
        else:
            chunks[-1].append(token)
    return [chunk for chunk in chunks if chunk]


def _tokens(text: str) -> list[Token]:
    try:
        return tokenize(text)
    except TokenError as error:
        offset, opener = _unterminated(text)
        if opener is None:
            raise _placed(SqlSyntaxError, "the text cannot be read here", text, offset, None) from error
        raise _placed(SqlSyntaxError, f"a {_OPENERS[opener]} begins here and does not end", text, offset, None) from None


def _unterminated(text: str) -> tuple[int, str | None]:
    """Find the opener that is never closed: its offset and kind."""
    at = 0
    while at < len(text):
        opener = next((opener for opener in ("--", *_OPENERS) if text.startswith(opener, at)), None)
        if opener is None:
            at += 1
            continue
        if opener == "$":
            tag_end = text.find("$", at + 1)
            tag = text[at : tag_end + 1]
            if tag_end < 0 or not (tag == "$$" or tag[1:-1].isidentifier()):
                at += 1
                continue
            opener, closer, start = "$", tag, tag_end + 1
        else:
            closer, start = {"--": "\n", "/*": "*/"}.get(opener, opener), at + len(opener)
        end = text.find(closer, start)
        if end < 0:
            return (len(text), None) if opener == "--" else (at, opener)
        at = end + len(closer)
    return len(text), None


def _explain(error: GrammarError) -> str:
    if error.token.upper() == "EMIT":
        return "EMIT stands behind a whole query, not inside one"
    near = f"at {error.token!r}" if error.token else "at the end of the text"
    message = error.message
    if message.startswith("Invalid expression"):
        return f"syntax error {near}"
    if message.startswith("Expected table name"):
        return f"syntax error {near}: expected a relation"
    if message.startswith(("Required", "The number of")):
        return f"syntax error {near}: something is missing"
    return f"syntax error {near}: {message[:1].lower()}{message[1:]}"


def _placed(kind: type[SqlError], message: str, text: str, offset: int, hint: str | None) -> SqlError:
    line, column = place(text, offset)
    return kind(message, sql=text, line=line, column=column, hint=hint)
