"""`streamq insert`: rows of files, for a source or table of a service."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Literal

from streamq.cli.arguments.common import Commands, add_command, add_program
from streamq.cli.arguments.connection import DEFAULT_URL, ServiceOptions, add_connection, required_service

InputFormat = Literal["ndjson", "csv", "parquet", "arrow"]

_HELP = """\
Insert the rows of files into a source or a table of a service.

Files are read and sent batch by batch, as fast as the service takes them; '-' or no file is standard input. What a file
is, is told by its name: .ndjson, .jsonl, .csv (both also with .gz), .parquet, .arrow; --format says it otherwise. Columns go by
name; those that are missing are NULL. Values are converted without loss or not at all.

Each batch goes in whole or not at all. Where something fails, the error says how many rows had gone in before.
"""

_EXAMPLES = """\
examples:
  streamq insert clicks today.ndjson
  streamq insert clicks archive/*.parquet --url https://streams.example.org --token-file ~/.streamq-token
  tail -f clicks.log | streamq insert clicks --format ndjson

"""


@dataclass(frozen=True, slots=True)
class InsertCommand:
    """`streamq insert`. `paths` has ``-`` for standard input; `format` None is told by names, or by how the bytes begin."""

    service: ServiceOptions
    relation: str
    paths: tuple[str, ...]
    format: InputFormat | None
    progress: bool


def add_insert(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add `streamq insert`."""
    parser = add_command(
        commands, "insert", "insert the rows of files in a service", _HELP, operands="RELATION [FILE ...]", examples=_EXAMPLES
    )
    parser.add_argument("relation", metavar="RELATION", help="a source or a table of the service")
    parser.add_argument("paths", nargs="*", metavar="FILE", help="files of rows; '-', which is also the default, is standard input")
    parser.add_argument("--format", choices=("ndjson", "csv", "parquet", "arrow"), help="what the files are (default: as their names say)")
    parser.add_argument("--no-progress", dest="progress", action="store_false", help="draw no progress bar on the terminal")
    add_connection(parser, default=DEFAULT_URL)
    add_program(parser)
    parser.set_defaults(read=_read)


def _read(parsed: argparse.Namespace) -> InsertCommand:
    if parsed.paths.count("-") > 1:
        parsed.parser.error("standard input can be read once: give '-' once")
    return InsertCommand(required_service(parsed), parsed.relation, tuple(parsed.paths) or ("-",), parsed.format, parsed.progress)
