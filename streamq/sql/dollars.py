"""Tells `$1` and `$name` from strings in dollars, `$$…$$` and `$tag$…$tag$`.

sqlglot takes everything up to the next dollar for a tag, unless there is space in it: of `f($1,$2)` the first parameter too.
"""

from __future__ import annotations

import re

PARAMETER = "\ufdd0"
"""Stands for the dollar of a parameter while a text is cut into tokens: a character that no text has."""

_LEXEME = re.compile(
    r"""
    [eE]'(?:\\.|''|[^\\'])*'  # a string with escapes
    | '(?:''|[^'])*'
    | "(?:""|[^"])*"
    | --[^\n]*
    | (?P<comment>/\*)
    | [^\W\d][\w$]*           # a name, which may have dollars in it
    | (?P<quote>\$(?:[^\W\d]\w*)?\$)
    | (?P<parameter>\$)
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT_MARKS = re.compile(r"/\*|\*/")


def mark_parameters(text: str) -> str:
    """Put `PARAMETER` in place of the dollars with which parameters begin.

    >>> mark_parameters("SELECT f($1,$b), '$c', $$d$$, e$f").replace(PARAMETER, "?")
    "SELECT f(?1,?b), '$c', $$d$$, e$f"
    """
    if "$" not in text or PARAMETER in text:
        return text
    parts, start, at = [], 0, 0
    while (found := _LEXEME.search(text, at)) is not None:
        at = found.end()
        match found.lastgroup:
            case "parameter":
                parts += [text[start : found.start()], PARAMETER]
                start = at
            case "quote":
                at = _behind(text, found.group(), at)
            case "comment":
                at = _behind_comment(text, at)
    return "".join([*parts, text[start:]])


def _behind(text: str, closer: str, at: int) -> int:
    end = text.find(closer, at)
    return len(text) if end < 0 else end + len(closer)


def _behind_comment(text: str, at: int) -> int:
    """Give the place behind a comment, which may have others in it."""
    depth = 1
    for mark in _COMMENT_MARKS.finditer(text, at):
        depth += 1 if mark.group() == "/*" else -1
        if not depth:
            return mark.end()
    return len(text)
