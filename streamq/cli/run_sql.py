"""Runs the statements of a script, in order, in one database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from rich.console import Console

from streamq.cli.arguments import DatabaseOptions, ExplainCommand, QueryCommand, SqlOptions, UsageError
from streamq.cli.results import Results
from streamq.cli.script import in_script
from streamq.cli.sink import open_sink
from streamq.cli.terminal import Terminal
from streamq.cli.wording import count
from streamq.engine import Database, connect
from streamq.errors import SqlError
from streamq.sql.parse import parse_one
from streamq.sql.statements import Explain, Select


def open_database(options: DatabaseOptions) -> connect:
    """Make a database as the command line says, to be used with ``async with``.

    Raises:
        UsageError: a setting, of the command line or in the environment, is out of range.
    """
    try:
        return connect(executor=options.executor, target_partitions=options.partitions, workers=options.workers)
    except ValueError as error:
        raise UsageError(str(error)) from error


async def run_query(command: QueryCommand, terminal: Terminal, notes: Console) -> None:
    """Run `streamq query`: rows go to the output, what else people should know to `notes`.

    Raises:
        StreamqError: a statement failed; those before it have run.
        OSError: the output cannot be written.
    """
    progress = notes if command.progress and _is_free(command, terminal, notes) else None
    with open_sink(command.output) as sink:
        plain = terminal if command.output is None else Terminal(None, None, color=False)
        results = Results(sink, command.format, plain, lasting=command.output is None, max_rows=command.max_rows, progress=progress)

        async def run_statement(db: Database, sql: str) -> None:
            match parse_one(sql):
                case Select():
                    async with db.query(sql, command.sql.parameters, timeout=command.timeout_s) as stream:
                        await results.write_stream(stream)
                case statement:
                    outcome = await db.execute(sql, command.sql.parameters)
                    if outcome.table is None:
                        notes.print(f"{outcome.kind}: {count(outcome.rows, 'row')}" if outcome.rows else outcome.kind, style="dim")
                    elif isinstance(statement, Explain) and command.format == "table":
                        await results.write_text("\n".join([*outcome.table.column(0).to_pylist(), ""]))
                    else:
                        await results.write_table(outcome.table)

        await _run_script(command.sql, run_statement)


async def run_explain(command: ExplainCommand, terminal: Terminal) -> None:
    """Run `streamq explain`: queries are explained, the statements before and between them run.

    Raises:
        StreamqError: a statement failed; those before it have run.
    """
    with open_sink(None) as sink:
        results = Results(sink, "table", terminal, lasting=True)

        async def run_statement(db: Database, sql: str) -> None:
            if isinstance(parse_one(sql), Select):
                text = await db.explain(sql, command.sql.parameters, analyze=command.analyze)
                await results.write_text(text.rstrip("\n") + "\n")
            else:
                await db.execute(sql, command.sql.parameters)

        await _run_script(command.sql, run_statement)


async def _run_script(options: SqlOptions, run_statement: Callable[[Database, str], Awaitable[None]]) -> None:
    async with open_database(options.database) as db:
        for name, path in options.relations:
            await db.register(name, path)
        for statement in options.statements:
            try:
                await run_statement(db, statement.text)
            except SqlError as error:
                raise in_script(error, statement, options.script) from error


def _is_free(command: QueryCommand, terminal: Terminal, notes: Console) -> bool:
    """Tell whether a bar on standard error disturbs no rows: a table is printed after it, other formats must go elsewhere."""
    return notes.is_terminal and (command.format == "table" or command.output is not None or terminal.width is None)
