"""What commands share: how a database is set up, how a command runs, what its exit codes mean."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Literal

from streamq.cli.arguments.values import parse_positive, parse_relation, parse_watermark

Format = Literal["table", "csv", "ndjson", "arrow"]
Commands = argparse._SubParsersAction
"""Where a command is added. `argparse` has no public name for it."""

EXIT_CODES = """\
exit codes:
  0    the answer is complete
  1    a query or its data failed
  2    the command line or the SQL is wrong
  3    the timeout passed
  4    the service cannot be reached, broke off, or refuses the token
  130  interrupted (Ctrl-C): everything was cancelled
  141  nobody reads the output any more
"""


class UsageError(Exception):
    """The command line, or a setting in the environment, is wrong in a way that only shows once it is used."""


@dataclass(frozen=True, slots=True)
class DatabaseOptions:
    """How a command's database is set up. None leaves a setting to the environment and the defaults."""

    executor: str | None
    partitions: int | None
    workers: int | None


def database_options(parsed: argparse.Namespace) -> DatabaseOptions:
    """Give how the database is set up."""
    return DatabaseOptions(parsed.executor, parsed.partitions, parsed.workers)


def add_command(
    commands: Commands[argparse.ArgumentParser], name: str, summary: str, description: str, *, operands: str = "", examples: str = ""
) -> argparse.ArgumentParser:
    """Begin a command. `operands` are what its usage shows behind the options."""
    command = commands.add_parser(
        name,
        usage=f"streamq {name} [options] {operands}".rstrip(),
        help=summary,
        description=description,
        epilog=examples + EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(parser=command)
    return command


def add_register(parser: argparse.ArgumentParser) -> None:
    """Add -r."""
    parser.add_argument(
        "-r",
        "--register",
        type=parse_relation,
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="give files a name: a path or a glob of Parquet, Arrow IPC, CSV or NDJSON files; may be repeated",
    )


def add_files(parser: argparse.ArgumentParser) -> None:
    """Add -r and --watermark."""
    add_register(parser)
    parser.add_argument(
        "--watermark",
        type=parse_watermark,
        action="append",
        default=[],
        metavar="NAME=EXPR",
        help="say how far the rows of registered files may be out of order, so that their time windows close: "
        "NAME=\"ts - INTERVAL '5' SECOND\"",
    )


def files_of(parsed: argparse.Namespace) -> tuple[tuple[tuple[str, str], ...], dict[str, str]]:
    """Give the files by name, and their watermarks."""
    relations, watermarks = tuple(parsed.register), dict(parsed.watermark)
    if unknown := watermarks.keys() - {name for name, _ in relations}:
        parsed.parser.error(f"--watermark: {min(unknown)} is no name of -r NAME=PATH")
    return relations, watermarks


def add_common(parser: argparse.ArgumentParser) -> None:
    """Add how a command and its database run."""
    group = parser.add_argument_group("how its database runs")
    group.add_argument("--executor", choices=("auto", "process", "thread"), help="what workers are (default: auto)")
    group.add_argument("--partitions", type=parse_positive, metavar="N", help="parallelism (default: the usable processors)")
    group.add_argument("--workers", type=parse_positive, metavar="N", help="number of workers (default: the usable processors)")
    add_program(parser)


def add_program(parser: argparse.ArgumentParser) -> None:
    """Add how any command runs."""
    group = parser.add_argument_group("how it runs")
    group.add_argument("--backend", choices=("asyncio", "trio"), default="asyncio", help="the event loop (default: asyncio)")
    group.add_argument("--no-color", dest="color", action="store_const", const=False, help="no colors (also: NO_COLOR in the environment)")
    group.add_argument("-v", "--verbose", action="store_true", help="write the log to standard error")
