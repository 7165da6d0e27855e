"""`streamq shell`: statements as they are typed."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from streamq.cli.arguments.common import Commands, DatabaseOptions, add_command, add_common, add_files, files_of
from streamq.cli.arguments.connection import ServiceOptions, add_connection, place_of
from streamq.cli.arguments.values import parse_count, parse_seconds

_HELP = """\
Type SQL, and see what it gives: in a database in memory that lives as long as the shell, or with --url in that of a
service.

A statement ends with a semicolon and may have several lines. Tab completes keywords, functions, and the relations and columns
that there are; what was typed is found again with the arrow keys and Ctrl-R, also the next time. Continuous queries are shown
as a table that follows their changes. Ctrl-C cancels what runs, Ctrl-D leaves; \\? lists the other commands.

Where standard input is no terminal, statements are read from it, and the first error ends the shell.
"""

_EXAMPLES = """\
examples:
  streamq shell -r 'flights=flights/*.parquet'
  streamq shell --url http://127.0.0.1:8471

"""


@dataclass(frozen=True, slots=True)
class ShellCommand:
    """`streamq shell`.

    `interactive`: a person types. `watch` shows the results of continuous queries instead of their changes. `max_rows` bounds a table, None
    is as the terminal has room, 0 all.
    """

    database: DatabaseOptions | ServiceOptions
    interactive: bool
    watch: bool
    max_rows: int | None = None
    timeout_s: float | None = None
    timing: bool = False
    relations: tuple[tuple[str, str], ...] = ()
    watermarks: Mapping[str, str] = field(default_factory=dict)


def add_shell(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add `streamq shell`."""
    parser = add_command(commands, "shell", "type SQL and see what it gives", _HELP, examples=_EXAMPLES)
    add_files(parser)
    parser.add_argument(
        "-w",
        "--watch",
        action=argparse.BooleanOptionalAction,
        help="show the result of a query with EMIT, not its changes (default: on a terminal)",
    )
    parser.add_argument("--timing", action="store_true", help="say how long each statement took")
    parser.add_argument("--max-rows", type=parse_count, metavar="N", help="rows of a table (default: as the terminal has room; 0: all)")
    parser.add_argument("--timeout", type=parse_seconds, metavar="S", help="cancel queries that take longer, in seconds")
    add_connection(parser, default="a database of the shell's own")
    add_common(parser)
    parser.set_defaults(read=_read)


def _read(parsed: argparse.Namespace) -> ShellCommand:
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    watch = interactive if parsed.watch is None else parsed.watch
    relations, watermarks = files_of(parsed)
    return ShellCommand(place_of(parsed), interactive, watch, parsed.max_rows, parsed.timeout, parsed.timing, relations, watermarks)
