"""The command line's arguments, as typed data.

- `parser`: the whole of it, from words to an `Invocation`;
- `query` (and explain), `insert`, `running` (queries, cancel), `shell`, `serve`, `demo`: a module for each group of commands, with their
  data, help and arguments;
- `common`: what commands share; `connection`: which service they speak to; `values`: the words that arguments are made of.
"""

from streamq.cli.arguments.common import DatabaseOptions, Format, UsageError
from streamq.cli.arguments.connection import ServiceOptions
from streamq.cli.arguments.demo import DemoCommand
from streamq.cli.arguments.insert import InputFormat, InsertCommand
from streamq.cli.arguments.parser import Command, Invocation, parse_arguments
from streamq.cli.arguments.query import ExplainCommand, QueryCommand, SqlOptions
from streamq.cli.arguments.running import CancelCommand, QueriesCommand
from streamq.cli.arguments.serve import ServeCommand, TokenCommand
from streamq.cli.arguments.shell import ShellCommand
from streamq.cli.arguments.values import parse_parameter, parse_relation, parse_watermark

__all__ = [
    "CancelCommand",
    "Command",
    "DatabaseOptions",
    "DemoCommand",
    "ExplainCommand",
    "Format",
    "InputFormat",
    "InsertCommand",
    "Invocation",
    "QueriesCommand",
    "QueryCommand",
    "ServeCommand",
    "ServiceOptions",
    "ShellCommand",
    "SqlOptions",
    "TokenCommand",
    "UsageError",
    "parse_arguments",
    "parse_parameter",
    "parse_relation",
    "parse_watermark",
]
