"""Takes a script apart into its statements, without understanding them.

Statements end at semicolons outside of quotes and comments. The line and column of an error in a statement become those
in the script.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from streamq.errors import SqlError

# Everything in which a semicolon does not end a statement; an unclosed quote or comment reaches to the end.
_TOKEN = re.compile(
    r"""
      (?P<quoted> [eE]'(?:[^'\\]|\\.|'')*(?:'|\Z)
                | '(?:[^']|'')*(?:'|\Z)
                | "(?:[^"]|"")*(?:"|\Z)
                | (?P<dollar>\$[A-Za-z_]*\$).*?(?:(?P=dollar)|\Z) )
    | (?P<comment> --[^\n]* | /\*.*?(?:\*/|\Z) )
    | (?P<end> ; )
    | (?P<space> \s+ )
    | (?P<other> [A-Za-z0-9_][A-Za-z0-9_$]* | . )
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class ScriptStatement:
    """A statement and where it begins in its script: `offset` counts characters."""

    text: str
    offset: int


def split_statements(script: str) -> list[ScriptStatement]:
    """Give the statements of a script in order, without those that hold nothing but space and comments.

    >>> [statement.text for statement in split_statements("SELECT ';' ; -- done;\\n SELECT 2;;")]
    ["SELECT ';'", 'SELECT 2']
    """
    statements = []
    start: int | None = None
    end = 0
    for token in _TOKEN.finditer(script):
        match token.lastgroup:
            case "end":
                if start is not None:
                    statements.append(ScriptStatement(script[start:end], start))
                start = None
            case "comment" | "space":
                continue
            case _:
                start, end = token.start() if start is None else start, token.end()
    if start is not None:
        statements.append(ScriptStatement(script[start:end], start))
    return statements


def is_complete(text: str) -> bool:
    """Tell whether a text ends with the end of a statement, or has none.

    >>> is_complete("SELECT 1; -- done"), is_complete("SELECT ';"), is_complete(" -- nothing"), is_complete("SELECT 1")
    (True, False, True, False)
    """
    kinds = [token.lastgroup for token in _TOKEN.finditer(text)]
    said = [kind for kind in kinds if kind not in ("comment", "space")]
    return not said or said[-1] == "end"


def in_script(error: SqlError, statement: ScriptStatement, script: str) -> SqlError:
    """Give an error of a statement with the position that it has in the whole script.

    >>> script = "SELECT 1;\\nSELECT x"
    >>> error = SqlError("no column x", sql="SELECT x", line=1, column=8)
    >>> print(in_script(error, split_statements(script)[1], script))
    no column x (line 2, column 8)
      SELECT x
             ^
    """
    if error.line is None or error.column is None:
        return error
    before = script[: statement.offset]
    column = error.column + (statement.offset - (before.rfind("\n") + 1) if error.line == 1 else 0)
    return type(error)(error.message, sql=script, line=before.count("\n") + error.line, column=column, hint=error.hint)
