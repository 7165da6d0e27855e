"""The program `streamq`: from arguments to an exit code. The only place where errors become text."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Sequence
from functools import partial
from typing import assert_never

import anyio
from rich.console import Console
from rich.text import Text

from streamq.cli.arguments import (
    CancelCommand,
    Command,
    DemoCommand,
    ExplainCommand,
    InsertCommand,
    Invocation,
    QueriesCommand,
    QueryCommand,
    ServeCommand,
    ShellCommand,
    TokenCommand,
    UsageError,
    parse_arguments,
)
from streamq.cli.signals import SIGNALS, exit_code, run_until_signal
from streamq.cli.terminal import find_terminal
from streamq.errors import ConnectionLost, QueryTimeout, SqlError, StreamqError, StreamTruncated, Unauthorized

OK, FAILED, WRONG, TIMED_OUT, UNREACHABLE = 0, 1, 2, 3, 4
SIGNALLED = 128
INTERRUPTED = exit_code(signal.SIGINT)
BROKEN_PIPE = 141
"""What shells give for a program that SIGPIPE ended."""


def main() -> None:
    """Run the program with the arguments of the process, and end the process."""
    code = run()
    sys.stderr.flush()
    if code > SIGNALLED:
        # A thread may still be writing to a reader that has stopped reading: nothing must wait for it.
        os._exit(code)
    sys.exit(code)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run the program and give its exit code.

    Raises:
        SystemExit: the arguments are wrong, or ask for help or the version.
    """
    try:
        invocation = parse_arguments(arguments)
        return anyio.run(run_until_signal, partial(_run_command, invocation), _signals(invocation.command), backend=invocation.backend)
    except KeyboardInterrupt:
        return INTERRUPTED


def _signals(command: Command) -> Sequence[signal.Signals]:
    """Give what ends a command. In a shell, Ctrl-C ends a statement only."""
    return (signal.SIGTERM,) if isinstance(command, ShellCommand) and command.interactive else SIGNALS


async def _run_command(invocation: Invocation) -> int:
    notes = Console(stderr=True, no_color=True if invocation.color is False else None, highlight=False)
    if invocation.verbose:
        _log_to(notes)
    try:
        await _dispatch(invocation, notes)
    except BrokenPipeError:
        return BROKEN_PIPE
    except (StreamqError, UsageError, OSError) as error:
        if invocation.verbose:
            notes.print_exception()
        notes.print(Text.assemble(("error: ", "bold red"), _describe(error)), soft_wrap=True)
        return _code_of(error)
    return OK


async def _dispatch(invocation: Invocation, notes: Console) -> None:
    # Imported where they are needed: help and wrong arguments need no engine, a query no demonstration.
    terminal = find_terminal(invocation.color)
    match invocation.command:
        case QueryCommand() as command:
            from streamq.cli.run_sql import run_query

            await run_query(command, terminal, notes)
        case ExplainCommand() as command:
            from streamq.cli.run_sql import run_explain

            await run_explain(command, terminal, notes)
        case InsertCommand() as command:
            from streamq.cli.inserting import run_insert

            await run_insert(command, notes)
        case QueriesCommand() as command:
            from streamq.cli.running import run_queries

            await run_queries(command, terminal)
        case CancelCommand() as command:
            from streamq.cli.running import run_cancel

            await run_cancel(command, notes)
        case ShellCommand() as command:
            from streamq.cli.shell import run_shell

            await run_shell(command, terminal, notes)
        case ServeCommand() as command:
            from streamq.cli.serving import run_serve

            await run_serve(command)
        case TokenCommand() as command:
            from streamq.cli.tokens import run_token

            run_token(command)
        case DemoCommand() as command:
            from streamq.cli.demo import run_demo

            await run_demo(command, terminal)
        case command:
            assert_never(command)


def _describe(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _code_of(error: Exception) -> int:
    match error:
        case SqlError() | UsageError():
            return WRONG
        case QueryTimeout():
            return TIMED_OUT
        case ConnectionLost() | StreamTruncated() | Unauthorized():
            return UNREACHABLE
        case _:
            return FAILED


def _log_to(notes: Console) -> None:
    from rich.logging import RichHandler

    logger = logging.getLogger("streamq")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(RichHandler(console=notes, show_path=False))
