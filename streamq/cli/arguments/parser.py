"""The whole command line: from words to a command and how to run it."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

from streamq import __version__
from streamq.cli.arguments.common import EXIT_CODES
from streamq.cli.arguments.demo import DemoCommand, add_demo
from streamq.cli.arguments.insert import InsertCommand, add_insert
from streamq.cli.arguments.query import ExplainCommand, QueryCommand, add_explain, add_query
from streamq.cli.arguments.running import CancelCommand, QueriesCommand, add_cancel, add_queries
from streamq.cli.arguments.serve import ServeCommand, TokenCommand, add_serve, add_token
from streamq.cli.arguments.shell import ShellCommand, add_shell

Backend = Literal["asyncio", "trio"]
Command = (
    QueryCommand
    | ExplainCommand
    | InsertCommand
    | QueriesCommand
    | CancelCommand
    | ShellCommand
    | ServeCommand
    | TokenCommand
    | DemoCommand
)


@dataclass(frozen=True, slots=True)
class Invocation:
    """A command and how to run it.

    `backend` names the event loop, `verbose` sends the log to standard error, `color` None is as the terminal says.
    """

    command: Command
    backend: Backend
    verbose: bool
    color: bool | None


def parse_arguments(arguments: Sequence[str] | None = None) -> Invocation:
    """Read the command line, and the SQL that it names.

    Raises:
        SystemExit: the arguments are wrong (2), or ask for help or the version (0); it has been printed.
    """
    parser = _parser()
    parsed = parser.parse_args(arguments)
    if parsed.backend == "trio" and importlib.util.find_spec("trio") is None:
        parser.error("--backend trio needs trio: pip install trio")
    # Each command has brought the function that reads it.
    return Invocation(parsed.read(parsed), parsed.backend, parsed.verbose, parsed.color)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="streamq",
        description="SQL over files and pushed rows, run in parallel and streamed.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (add_query, add_explain, add_insert, add_queries, add_cancel, add_shell, add_serve, add_token, add_demo):
        add(commands)
    return parser


def _version() -> str:
    versions = f"DuckDB {metadata.version('duckdb')}, Arrow {metadata.version('pyarrow')}, Python {sys.version.split()[0]}"
    return f"streamq {__version__} ({versions})"
