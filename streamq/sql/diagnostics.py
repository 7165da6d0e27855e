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
        message, hint = _split_hint(text)
        return Complaint(type(error).__name__, message, hint, None, None)
    message, hint = _split_hint(fields["exception_message"])
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


def bind_error(complaint: Complaint, user_sql: str, given_sql: str) -> SqlError:
    """Make the user's error of a complaint about `given_sql`, placed in `user_sql`.

    The two texts may differ: then the offending word is looked for in the user's.
    """
    offset = complaint.position
    if given_sql != user_sql:
        offset = _transfer(complaint, user_sql, given_sql)
    line, column = place(user_sql, offset) if offset is not None else (None, None)
    kind = SqlSyntaxError if complaint.kind.startswith("Parser") else BindError
    return kind(complaint.message, sql=user_sql, line=line, column=column, hint=complaint.hint)


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
