"""The words that arguments are made of: names with paths, parameters, numbers."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


def parse_relation(text: str) -> tuple[str, str]:
    """Read ``name=path``; a path alone names the relation after its file.

    >>> parse_relation("f=data/*.parquet"), parse_relation("data/flights.parquet")
    (('f', 'data/*.parquet'), ('flights', 'data/flights.parquet'))
    """
    name, equals, path = text.partition("=")
    if not equals:
        name, path = Path(text).name.split(".")[0], text
    if not _NAME.match(name) or not path:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PATH, where NAME is letters, digits and underscores")
    return name, path


def parse_watermark(text: str) -> tuple[str, str]:
    """Read ``name=expression``.

    >>> parse_watermark("flights=time_hour - INTERVAL '1' HOUR")
    ('flights', "time_hour - INTERVAL '1' HOUR")
    """
    name, _, expression = text.partition("=")
    if not _NAME.match(name) or not expression.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=EXPRESSION, such as \"clicks=ts - INTERVAL '5' SECOND\"")
    return name, expression


def parse_parameter(text: str) -> tuple[str | None, object]:
    """Read ``value`` or ``name=value``. Values are JSON where they can be, else text.

    >>> parse_parameter("7"), parse_parameter("day=2013-01-01"), parse_parameter('"a=b"')
    ((None, 7), ('day', '2013-01-01'), (None, 'a=b'))
    """
    name, equals, value = text.partition("=")
    named = bool(equals) and _NAME.match(name) is not None
    value = value if named else text
    try:
        return (name if named else None), json.loads(value)
    except json.JSONDecodeError:
        return (name if named else None), value


def parse_positive(text: str) -> int:
    """Read a whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def parse_count(text: str) -> int:
    """Read a whole number."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def parse_seconds(text: str) -> float:
    """Read a time above 0."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds
