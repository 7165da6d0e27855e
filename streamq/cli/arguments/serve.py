"""`streamq serve`: the service."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from streamq.cli.arguments.common import Commands, DatabaseOptions, add_command, add_common, add_register, database_options
from streamq.cli.arguments.values import parse_port, parse_seconds

_HELP = """\
Offer a database over HTTP, to streamq.connect("http://127.0.0.1:8471") and to any program that reads Arrow, NDJSON or
server-sent events.

The database is in memory and lives as long as the command. It has the files that -r names; clients create and fill the
rest. There is no password: the service listens only where no other machine can reach it. Ctrl-C and SIGTERM end it:
queries have a time of grace to complete, and the clients of those that do not are told.
"""

_EXAMPLES = """\
examples:
  streamq serve -r 'flights=flights/*.parquet'
  curl http://127.0.0.1:8471/v1/query -H 'Content-Type: application/json' -H 'Accept: application/x-ndjson' \\
       -d '{"sql": "SELECT origin, count(*) AS n FROM flights GROUP BY origin"}'

"""


@dataclass(frozen=True, slots=True)
class ServeCommand:
    """`streamq serve`. `port` 0 is a free one; after `grace_s` what still runs is ended."""

    host: str
    port: int
    relations: tuple[tuple[str, str], ...]
    grace_s: float
    database: DatabaseOptions


def add_serve(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add `streamq serve`."""
    parser = add_command(commands, "serve", "offer a database over HTTP", _HELP, examples=_EXAMPLES)
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on, of this machine alone (default: %(default)s)")
    parser.add_argument("--port", type=parse_port, default=8471, help="the port; 0 takes a free one (default: %(default)s)")
    add_register(parser)
    parser.add_argument(
        "--grace",
        type=parse_seconds,
        default=10.0,
        metavar="S",
        help="how long queries may run on once it is to end (default: 10)",
    )
    add_common(parser)
    parser.set_defaults(read=_read)


def _read(parsed: argparse.Namespace) -> ServeCommand:
    return ServeCommand(parsed.host, parsed.port, tuple(parsed.register), parsed.grace, database_options(parsed))
