"""Constant lengths of time as the streaming clauses take them: `1m`, `'5 minutes'`, `INTERVAL '5' MINUTE`."""

from __future__ import annotations

import re
from fractions import Fraction

from sqlglot import exp

_MICROSECONDS = {
    "us": 1,
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
    "w": 604_800_000_000,
}
_NAMES = {
    "us": "us usec usecs microsecond microseconds",
    "ms": "ms msec msecs millisecond milliseconds",
    "s": "s sec secs second seconds",
    "m": "m min mins minute minutes",
    "h": "h hr hrs hour hours",
    "d": "d day days",
    "w": "w week weeks",
}
UNITS = {name: _MICROSECONDS[unit] for unit, names in _NAMES.items() for name in names.split()}
"""Microseconds by lower-case name of the unit."""
VARYING_UNITS = frozenset(
    """
    mon mons month months q quarter quarters y yr yrs year years decade decades century centuries millennium millennia
    """.split()  # noqa: SIM905
)
"""Units whose length depends on the calendar."""
_TERM = re.compile(r"\s*([+-]?\d+(?:\.\d*)?|[+-]?\.\d+)\s*([a-z]+)\s*,?", re.IGNORECASE)
_CLOCK = re.compile(r"\s*(-?)(\d+):(\d{1,2})(?::(\d{1,2}(?:\.\d{1,6})?))?\s*\Z")


class NotADuration(ValueError):
    """The text or the expression is no constant length of time. The message says why."""


class VaryingDuration(NotADuration):
    """The length depends on the calendar: months, years."""


def parse_duration(text: str) -> int:
    """Give the microseconds that a text means.

    >>> parse_duration("5 minutes"), parse_duration("1h 30m"), parse_duration("00:00:01.5")
    (300000000, 5400000000, 1500000)

    Raises:
        NotADuration: it means no constant length of time.
    """
    if match := _CLOCK.match(text):
        sign, hours, minutes, seconds = match.groups()
        total = int(hours) * UNITS["h"] + int(minutes) * UNITS["m"] + _scaled(seconds or "0", "s")
        return -total if sign else total
    total, end = 0, 0
    while match := _TERM.match(text, end):
        total += _scaled(match[1], match[2])
        end = match.end()
    if not end or text[end:].strip():
        raise NotADuration(f"{text!r} is not an interval")
    return total


def duration_of(node: exp.Expr) -> int:
    """Give the microseconds that an INTERVAL expression or a string literal means.

    Raises:
        NotADuration: it is no constant length of time.
    """
    match node:
        case exp.Paren():
            return duration_of(node.this)
        case exp.Neg():
            return -duration_of(node.this)
        case exp.Add():
            return duration_of(node.this) + duration_of(node.expression)
        case exp.Literal() if node.is_string:
            return parse_duration(node.name)
        case exp.Interval():
            return _interval(node)
        case exp.Cast() if node.is_type("interval"):
            return duration_of(node.this)
    raise NotADuration("an interval is expected")


def _interval(node: exp.Interval) -> int:
    amount, unit = node.this, node.args.get("unit")
    sign = 1
    while isinstance(amount, exp.Neg | exp.Paren):
        sign = -sign if isinstance(amount, exp.Neg) else sign
        amount = amount.this
    if not isinstance(amount, exp.Literal):
        raise NotADuration("an interval with a constant length is expected")
    if unit is None:
        return sign * parse_duration(amount.name)
    return sign * parse_duration(f"{amount.name} {unit.name}")


def _scaled(amount: str, unit: str) -> int:
    name = unit.lower()
    if name in VARYING_UNITS:
        raise VaryingDuration(f"{unit.lower()} is not a fixed length of time")
    if name not in UNITS:
        raise NotADuration(f"{unit!r} is not a unit of time")
    microseconds = Fraction(amount) * UNITS[name]
    if microseconds.denominator != 1:
        raise NotADuration(f"{amount} {unit} is not a whole number of microseconds")
    return int(microseconds)
