"""The commands of the shell that are no SQL: they begin with a backslash and end with their line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from streamq.cli.arguments import UsageError

HELP = """\
SELECT …;              a query: its answer as a table
SELECT … EMIT CHANGES; a continuous query: followed until Ctrl-C
SHOW QUERIES;          what runs; also SOURCES, TABLES, VIEWS, RELATIONS
EXPLAIN …;             how a query is run; EXPLAIN ANALYZE runs it

\\d                     list the relations
\\d NAME                describe one
\\watch [on|off]        show the result of a continuous query, or its changes
\\timing [on|off]       say how long each statement took
\\?                     this help
\\q                     leave (also Ctrl-D)

A statement ends with a semicolon and may have several lines. Ctrl-C cancels what runs, or what is typed. Tab completes.
"""
NAMES = ("\\d", "\\watch", "\\timing", "\\?", "\\q")


@dataclass(frozen=True, slots=True)
class List:
    """``\\d``: list the relations."""


@dataclass(frozen=True, slots=True)
class DescribeRelation:
    """``\\d NAME``: describe one."""

    name: str


@dataclass(frozen=True, slots=True)
class Switch:
    """Turn something on or off; `on` None is to what it is not."""

    what: Literal["watch", "timing"]
    on: bool | None


@dataclass(frozen=True, slots=True)
class Help:
    """``\\?``: what there is."""


@dataclass(frozen=True, slots=True)
class Quit:
    """``\\q``: leave."""


ShellLine = List | DescribeRelation | Switch | Help | Quit


def parse_command(line: str) -> ShellLine:
    r"""Read a command.

    >>> parse_command(r'\d "my clicks";'), parse_command(r"\watch off")
    (DescribeRelation(name='"my clicks"'), Switch(what='watch', on=False))

    Raises:
        UsageError: there is none of this name, or it takes other words.
    """
    said = line.strip().rstrip(";").strip()
    match said.split():
        case ["\\d"]:
            return List()
        case ["\\d", *_]:
            return DescribeRelation(said.removeprefix("\\d").strip())
        case ["\\watch" | "\\timing" as name, *words] if words in ([], ["on"], ["off"]):
            return Switch("watch" if name == "\\watch" else "timing", words == ["on"] if words else None)
        case ["\\?" | "\\h" | "\\help"]:
            return Help()
        case ["\\q" | "\\quit"]:
            return Quit()
        case _:
            raise UsageError(f"there is no command {said}: \\? lists those that there are")
