"""`streamq queries` and `streamq cancel`: what runs in a service."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Literal

from streamq.cli.arguments.common import Commands, add_command, add_program
from streamq.cli.arguments.connection import DEFAULT_URL, ServiceOptions, add_connection, required_service

ListFormat = Literal["table", "ndjson"]

_QUERIES_HELP = """\
List the queries that run in a service, with what each has done so far.

Of a continuous query also the rows that it has read, those that came too late, how far its watermark is behind the clock, and
how much it keeps. As JSON lines (--format ndjson) there is more, and the SQL is whole. With a token that has not the right admin
those are listed that were asked with the same token.
"""
_CANCEL_HELP = "Abort queries of a service, by their ids, such as `streamq queries` lists. Returns when nothing of them is left."


@dataclass(frozen=True, slots=True)
class QueriesCommand:
    """`streamq queries`."""

    service: ServiceOptions
    format: ListFormat


@dataclass(frozen=True, slots=True)
class CancelCommand:
    """`streamq cancel`."""

    service: ServiceOptions
    query_ids: tuple[str, ...]


def add_queries(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add `streamq queries`."""
    parser = add_command(commands, "queries", "list the queries that run in a service", _QUERIES_HELP)
    parser.add_argument("--format", choices=("table", "ndjson"), default="table", help="how they are written (default: table)")
    add_connection(parser, default=DEFAULT_URL)
    add_program(parser)
    parser.set_defaults(read=lambda parsed: QueriesCommand(required_service(parsed), parsed.format))


def add_cancel(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add `streamq cancel`."""
    parser = add_command(commands, "cancel", "abort queries of a service", _CANCEL_HELP, operands="ID [ID ...]")
    parser.add_argument("query_ids", nargs="+", metavar="ID", help="a query, such as q7")
    add_connection(parser, default=DEFAULT_URL)
    add_program(parser)
    parser.set_defaults(read=lambda parsed: CancelCommand(required_service(parsed), tuple(parsed.query_ids)))
