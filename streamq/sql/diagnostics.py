"""DuckDB's error messages as errors of streamq: what is wrong, where in the user's text, what to write instead."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

import duckdb

from streamq.errors import BindError, SqlError, SqlSyntaxError
from streamq.sql.positions import place

_NOISE = re.compile(r"^(\w+ )+Error: ")
_HINT_LINE = re.compile(r"^\s*(Did you mean|Candidate (bindings|tables|functions|macros)|Either add|Use |Try )", re.IGNORECASE)
_WORD = re.compile(r"[A-Za-z_]\w*")
_QUOTED = re.compile(r'"([^"]+)"')
_SKIPPED = re.compile(r"'(?:[^']|'')*'|--[^\n]*|/\*.*?\*/", re.DOTALL)
MAX_CANDIDATES = 6


@dataclass(frozen=True, slots=True)
class Complaint:
    """What DuckDB says of a text: `position` counts characters from 0 in that text, `name` is the offending name."""

    kind: str
    message: str
    hint: str | None
    position: int | None
    name: str | None


def read_complaint(error: duckdb.Error) -> Complaint:
    """Take a DuckDB error apart (its session has `errors_as_json`)."""
    text = _NOISE.sub("", str(error), count=1)
    try:
        fields = json.loads(text)
    except json.JSONDecodeError:
        message, hint = _in_our_words(*_split_hint(text))
        return Complaint(type(error).__name__, message, hint, None, None)
    message, hint = _in_our_words(*_split_hint(fields["exception_message"]))
    position = fields.get("position")
    return Complaint(fields["exception_type"], message, hint, int(position) if position is not None else None, fields.get("name"))


def _split_hint(text: str) -> tuple[str, str | None]:
    lines = [line.strip() for line in text.split("\n\nLINE ")[0].splitlines() if line.strip()]
    for number, line in enumerate(lines):
        if number and _HINT_LINE.match(line):
            hints = lines[number : number + 1 + MAX_CANDIDATES]
            if len(lines) > number + len(hints):
                hints.append("…")
            return " ".join(lines[:number]), " ".join(hints)
    return " ".join(lines), None


_TYPE = r"([^,()]+?(?:\(\d+,\d+\))?[\[\]]*?)(?:_LITERAL)?"
# What DuckDB says, what to say instead, and the hint (None: DuckDB's). Only where its words mislead.
_WORDS: tuple[tuple[re.Pattern[str], str, str | None], ...] = (
    (
        re.compile(r"^No function matches .*'epoch_us\((\w+)[^']*\)'.*"),
        r"a time window needs a column of type TIMESTAMP, not \1",
        "cast it: CAST(column AS TIMESTAMP)",
    ),
    (
        re.compile(rf"^No function matches the given name and argument types '(\W+)\({_TYPE}, {_TYPE}\)'.*"),
        r"\1 does not take \2 and \3",
        "cast one side to the type of the other: CAST(… AS type)",
    ),
    (
        re.compile(rf"^No function matches the given name and argument types '(\W+)\({_TYPE}\)'.*"),
        r"\1 does not take \2",
        "cast it to a number: CAST(… AS type)",
    ),
    (
        re.compile(r"^No function matches the given name and argument types '(\w+)\((.*)\)'.*"),
        r"\1 does not take these arguments: (\2)",
        None,
    ),
    (re.compile(r"^Could not choose a best candidate function .*\"(\W+)\((.*)\)\"\..*"), r"the types around \1 are not clear: (\2)", None),
    (re.compile(r"^(Referenced column \".*\" was not found) because the FROM clause is missing"), r"\1: there is no FROM here", None),
    (re.compile(r"^(aggregate function calls cannot be nested)"), r"\1", "aggregate in a subquery first: FROM (SELECT … GROUP BY …)"),
    (re.compile(r"^(WHERE clause cannot contain aggregates)!"), r"\1", "write HAVING behind GROUP BY"),
    (re.compile(r"^(WHERE clause cannot contain window functions)!"), r"\1", "write QUALIFY instead of WHERE"),
    (re.compile(r"^Deprecated lambda arrow .*"), "a lambda is not written with ->", "write lambda x: …"),
    (re.compile(r"^Window functions are not supported here"), "a window function stands without OVER (…)", "write OVER () behind it"),
    (
        re.compile(r"^Unable to transform python value of type '<class '(.*)'>' to DuckDB LogicalType"),
        r"a parameter of the Python type \1 is no SQL value",
        "pass numbers, strings, bytes, dates, times, Decimal, UUID, lists or dicts of these, or None",
    ),
)


def _in_our_words(message: str, hint: str | None) -> tuple[str, str | None]:
    """Put a message that misleads into other words.

    >>> _in_our_words("No function matches the given name and argument types '+(BIGINT, VARCHAR)'. You might …", "Candidate …")[0]
    '+ does not take BIGINT and VARCHAR'
    """
    hint = None if hint is None else hint.replace(": : ", ": ")
    for pattern, words, advice in _WORDS:
        if pattern.match(message):
            return pattern.sub(words, message), advice or hint
    return message, hint


def bind_error(complaint: Complaint, user_sql: str, given_sql: str) -> SqlError:
    """Make the user's error of a complaint about `given_sql`, placed in `user_sql`.

    The two texts may differ: then the offending word is looked for in the user's.
    """
    offset = complaint.position
    if given_sql != user_sql:
        offset = _transfer(complaint, user_sql, given_sql)
    if offset is None and (quoted := _QUOTED.search(complaint.message)):
        offset = find_word(user_sql, quoted[1])
    line, column = place(user_sql, offset) if offset is not None else (None, None)
    kind = SqlSyntaxError if complaint.kind.startswith("Parser") else BindError
    return kind(complaint.message, sql=user_sql, line=line, column=column, hint=complaint.hint)


def word_error(sql: str, message: str, word: str, hint: str | None = None, occurrence: int = 0) -> BindError:
    """Make an error that stands at an occurrence of a word in a text, if it is there."""
    offset = find_word(sql, word, occurrence) if word else None
    line, column = place(sql, offset) if offset is not None else (None, None)
    return BindError(message, sql=sql, line=line, column=column, hint=hint)


def find_word(text: str, word: str, occurrence: int = 0) -> int | None:
    """Give the offset of a word's occurrence outside strings and comments (the first, if there are fewer)."""
    visible = _SKIPPED.sub(lambda match: " " * len(match[0]), text)
    found = [match.start() for match in re.finditer(rf"(?<!\w){re.escape(word)}(?!\w)", visible, re.IGNORECASE)]
    if not found:
        return None
    return found[occurrence] if occurrence < len(found) else found[0]


def _transfer(complaint: Complaint, user_sql: str, given_sql: str) -> int | None:
    occurrence = 0
    word = complaint.name
    if complaint.position is not None and (match := _WORD.match(given_sql, complaint.position)):
        word = match[0] if word is None or "." in word else word
        occurrence = len(re.findall(rf"(?<!\w){re.escape(word)}(?!\w)", given_sql[: complaint.position], re.IGNORECASE))
    return find_word(user_sql, word, occurrence) if word else None
