"""`streamq serve`: the service, and `streamq token`: who may use it."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, fields
from typing import Any, get_type_hints

from streamq.cli.arguments.common import Commands, add_command, add_common, add_register
from streamq.config.checks import WrongSetting
from streamq.config.service import Limits, ServiceConfig
from streamq.config.sources import from_text
from streamq.config.tokens import RIGHTS, Right

_HELP = """\
Offer a database over HTTP, to streamq.connect("http://127.0.0.1:8471") and to any program that reads Arrow, NDJSON or
server-sent events.

The database is in memory and lives as long as the command. It has the files that -r names; clients create and fill the
rest. SQL reads these relations and nothing else of this machine.

Without tokens the service listens only where no other machine can reach it. With --token-file every request needs a
token (see `streamq token`), and other machines need --certificate too. Ctrl-C and SIGTERM end it: queries have a time of
grace to complete, and the clients of those that do not are told. SIGHUP reads tokens and certificates anew.

Every option is also a variable (--max-queries is STREAMQ_MAX_QUERIES) and a line of streamq.toml (max_queries = 100), in
this order. --print-config shows what holds, and where it was set.
"""

_EXAMPLES = """\
examples:
  streamq serve -r 'flights=flights/*.parquet'
  curl http://127.0.0.1:8471/v1/query -H 'Content-Type: application/json' -H 'Accept: application/x-ndjson' \\
       -d '{"sql": "SELECT origin, count(*) AS n FROM flights GROUP BY origin"}'
  streamq token --name ops --rights write --file tokens
  streamq serve --host 0.0.0.0 --token-file tokens --certificate server.pem --private-key server.key

"""

_TOKEN_HELP = """\
Make a token for a service, and its line for the service's token file.

The token is shown now and never again: the file has only its hash. Rights are read (query, explain, list), write (these,
insert, finish, upload, late rows) and admin (these, CREATE, DROP, cancel the queries of others).

With --file the line is appended to the file, and only the token is printed. A running service learns of it by SIGHUP.
"""

_TOKEN_EXAMPLES = """\
examples:
  streamq token --name grafana --rights read --file tokens
  STREAMQ_TOKEN="$(streamq token --name ops --rights admin --file tokens)"

"""


@dataclass(frozen=True, slots=True)
class ServeCommand:
    """`streamq serve`.

    `arguments` are the settings that were given, by name, each with the option that gave it. `config` is the file that was named.
    """

    arguments: Mapping[str, tuple[str, Any]]
    relations: tuple[tuple[str, str], ...]
    config: str | None = None
    print_config: bool = False


@dataclass(frozen=True, slots=True)
class TokenCommand:
    """`streamq token`. Without a `file` its line is printed."""

    name: str
    right: Right
    file: str | None


def add_serve(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add `streamq serve`."""
    parser = add_command(commands, "serve", "offer a database over HTTP", _HELP, examples=_EXAMPLES)
    add_register(parser)
    parser.add_argument(
        "--config", metavar="FILE", help="the configuration (default: what STREAMQ_CONFIG names, else streamq.toml, if it is there)"
    )
    parser.add_argument("--print-config", action="store_true", help="show all settings with where they were set, and end")
    _add_settings(parser.add_argument_group("who may use it, and how it listens"), ServiceConfig)
    _add_settings(parser.add_argument_group("limits"), Limits)
    add_common(parser)
    parser.set_defaults(read=_read)


def add_token(commands: Commands[argparse.ArgumentParser]) -> None:
    """Add `streamq token`."""
    parser = add_command(commands, "token", "make a token for a service", _TOKEN_HELP, examples=_TOKEN_EXAMPLES)
    parser.add_argument("--name", required=True, help="whose token it is: logs and limits go by this name")
    parser.add_argument("--rights", choices=RIGHTS, required=True, help="what it may do: each includes those before it")
    parser.add_argument("--file", metavar="FILE", help="append the line there")
    parser.set_defaults(read=_read_token, backend="asyncio", verbose=False, color=None)


def option_of(field: Field[Any]) -> str:
    """Give the option of a setting."""
    return field.metadata["flag"] or _dashed(field.name)


def _dashed(name: str) -> str:
    return "--" + name.replace("_", "-")


def _add_settings(group: argparse._ArgumentGroup, kind: type[ServiceConfig | Limits]) -> None:
    hints = get_type_hints(kind)
    for field in fields(kind):
        about, option = field.metadata["help"], option_of(field)
        if hints[field.name] is bool:
            group.add_argument(option, dest=field.name, action="store_true", default=argparse.SUPPRESS, help=about)
            continue
        default = ",".join(field.default) if isinstance(field.default, tuple) else field.default
        group.add_argument(
            *dict.fromkeys((option, _dashed(field.name))),
            dest=field.name,
            type=_reader(field.name, hints[field.name]),
            default=argparse.SUPPRESS,
            metavar=field.metadata["metavar"],
            help=about if default in (None, "") else f"{about} (default: {default})",
        )


def _reader(name: str, kind: Any) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return from_text(name, text, kind)
        except WrongSetting as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def _read(parsed: argparse.Namespace) -> ServeCommand:
    given = vars(parsed)
    options = {field.name: option_of(field) for kind in (ServiceConfig, Limits) for field in fields(kind)}
    arguments = {name: (option, given[name]) for name, option in options.items() if name in given}
    for name, option, value in (
        ("executor", "--executor", parsed.executor),
        ("target_partitions", "--partitions", parsed.partitions),
        ("workers", "--workers", parsed.workers),
    ):
        if value is not None:
            arguments[name] = (option, value)
    return ServeCommand(arguments, tuple(parsed.register), parsed.config, parsed.print_config)


def _read_token(parsed: argparse.Namespace) -> TokenCommand:
    return TokenCommand(parsed.name, parsed.rights, parsed.file)
