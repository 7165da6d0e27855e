"""`streamq query` and `streamq explain`: the commands that run a script of SQL."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from streamq.cli.arguments.common import Commands, DatabaseOptions, Format, add_command, add_common, add_files, files_of
from streamq.cli.arguments.connection import ServiceOptions, add_connection, place_of
from streamq.cli.arguments.values import parse_count, parse_parameter, parse_seconds
from streamq.cli.script import ScriptStatement, split_statements

_QUERY_HELP = """\
Run SQL and print the rows of every query in it.

The SQL is the argument, or comes from a file (-f), or from standard input. Statements are separated by semicolons and
run in order: in one database in memory that lives as long as the command, or with --url in that of a service.

A query with EMIT CHANGES or EMIT FINAL is continuous: its rows are printed as they come. Where earlier rows change, the
column _op says how (insert, update, delete); --watch shows the result itself, and keeps it up to date. Such a query ends
when its sources have: files at their last row, a source of the script when the query starts, tables never. Those of a
service go on until they are finished there, or the command is ended.
"""

_QUERY_EXAMPLES = """\
examples:
  streamq query "SELECT 42 AS answer"
  streamq query -r 'flights=data/*.parquet' "SELECT origin, count(*) FROM flights GROUP BY origin"
  streamq query -r flights.parquet 'SELECT * FROM flights WHERE month = $month' -p month=7 --format csv > july.csv
  cat report.sql | streamq query --format ndjson
  streamq query -r flights.parquet "SELECT carrier, count(*) AS n FROM flights GROUP BY carrier EMIT CHANGES" --watch
  streamq query --url http://127.0.0.1:8471 "SHOW RELATIONS"

"""

_EXPLAIN_HELP = (
    "Show how a query is run: its strategy and why, the splits, what every worker runs, and the merge. Of a continuous query: "
    "what it emits, what each operator keeps and until when."
)


@dataclass(frozen=True, slots=True)
class SqlOptions:
    """What the commands that run SQL have in common.

    `relations` are names with paths, `watermarks` are by the name of such a relation. `parameters` belong to the only statement of the
    script.
    """

    script: str
    statements: tuple[ScriptStatement, ...]
    relations: tuple[tuple[str, str], ...]
    parameters: Sequence[object] | dict[str, object] | None
    database: DatabaseOptions | ServiceOptions
    watermarks: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class QueryCommand:
    """`streamq query`.

    `output` None is standard output; `max_rows` bounds a table, None is as the terminal has room, 0 all. `watch` shows the result of a
    continuous query instead of its changes.
    """

    sql: SqlOptions
    format: Format
    output: str | None
    max_rows: int | None
    timeout_s: float | None
    progress: bool
    watch: bool = False


@dataclass(frozen=True, slots=True)
class ExplainCommand:
    """`streamq explain`."""

    sql: SqlOptions
    analyze: bool


def add_query(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add `streamq query`."""
    parser = add_command(commands, "query", "run SQL and print the rows", _QUERY_HELP, operands="[SQL]", examples=_QUERY_EXAMPLES)
    _add_sql(parser)
    parser.add_argument(
        "--format", choices=("table", "csv", "ndjson", "arrow"), default="table", help="how rows are written (default: table)"
    )
    parser.add_argument(
        "-w", "--watch", action="store_true", help="show the result of a query with EMIT as a table that follows its changes"
    )
    parser.add_argument("-o", "--output", metavar="FILE", help="write there instead of standard output, once the answer is complete")
    parser.add_argument("--max-rows", type=parse_count, metavar="N", help="rows of a table (default: as the terminal has room; 0: all)")
    parser.add_argument("--timeout", type=parse_seconds, metavar="S", help="cancel a query that takes longer, in seconds")
    parser.add_argument("--no-progress", dest="progress", action="store_false", help="draw no progress bar on the terminal")
    add_connection(parser, default="a database of the command's own")
    add_common(parser)
    parser.set_defaults(read=_read_query)


def add_explain(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add `streamq explain`."""
    parser = add_command(commands, "explain", "show how a query is run", _EXPLAIN_HELP, operands="[SQL]")
    _add_sql(parser)
    parser.add_argument("--analyze", action="store_true", help="run it too, and add rows, bytes and times by worker")
    add_connection(parser, default="a database of the command's own")
    add_common(parser)
    parser.set_defaults(read=_read_explain)


def _read_query(parsed: argparse.Namespace) -> QueryCommand:
    sql = _sql_options(parsed)
    if parsed.watch and (parsed.format != "table" or parsed.output is not None):
        parsed.parser.error("--watch shows a table on standard output: leave out --format and -o")
    if parsed.format == "arrow" and parsed.output is None and sys.stdout.isatty():
        parsed.parser.error("--format arrow writes binary data: send it to a file (-o FILE) or a pipe")
    return QueryCommand(sql, parsed.format, parsed.output, parsed.max_rows, parsed.timeout, parsed.progress, parsed.watch)


def _read_explain(parsed: argparse.Namespace) -> ExplainCommand:
    return ExplainCommand(_sql_options(parsed), parsed.analyze)


def _add_sql(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sql", nargs="?", metavar="SQL", help="the statements; '-' reads them from standard input")
    parser.add_argument("-f", "--file", metavar="FILE", help="read the statements from a file; '-' is standard input")
    add_files(parser)
    parser.add_argument(
        "-p",
        "--param",
        type=parse_parameter,
        action="append",
        default=[],
        metavar="[NAME=]VALUE",
        help="bind a parameter: $NAME, or ? and $1 in order; numbers, true, false, null and quoted strings as in JSON, else text",
    )


def _sql_options(parsed: argparse.Namespace) -> SqlOptions:
    parser: argparse.ArgumentParser = parsed.parser
    try:
        script = _read_sql(parsed)
    except OSError as error:
        parser.error(f"cannot read the SQL: {error.filename}: {error.strerror}")
    except UnicodeDecodeError as error:
        parser.error(f"cannot read the SQL: it is not UTF-8: {error}")
    if script is None:
        parser.error("no SQL: give it as an argument, in a file (-f FILE), or on standard input")
    statements = tuple(split_statements(script))
    if not statements:
        parser.error("the SQL is empty")
    relations, watermarks = files_of(parsed)
    return SqlOptions(script, statements, relations, _parameters(parsed, len(statements)), place_of(parsed), watermarks)


def _parameters(parsed: argparse.Namespace, statements: int) -> Sequence[object] | dict[str, object] | None:
    names = [name for name, _ in parsed.param]
    if not names:
        return None
    if statements > 1:
        parsed.parser.error(f"--param is for one statement, and there are {statements}")
    if all(name is None for name in names):
        return [value for _, value in parsed.param]
    if len(set(names) - {None}) < len(names):
        parsed.parser.error("--param: give all parameters names, each once, or none")
    return dict(parsed.param)


def _read_sql(parsed: argparse.Namespace) -> str | None:
    """Give the SQL from where the arguments say it is; None if they do not and a person sits at standard input."""
    if parsed.sql is not None and parsed.file is not None:
        parsed.parser.error("give the SQL either as an argument or in a file, not both")
    if parsed.file not in (None, "-"):
        return Path(parsed.file).read_text(encoding="utf-8")
    if parsed.sql not in (None, "-"):
        return str(parsed.sql)
    if parsed.sql is None and parsed.file is None and sys.stdin.isatty():
        return None
    return sys.stdin.buffer.read().decode("utf-8")
