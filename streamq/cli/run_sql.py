"""Runs the statements of a script, in order, in one database: `streamq query` and `streamq explain`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from rich.console import Console

from streamq.cli.arguments import DatabaseOptions, ExplainCommand, QueryCommand, SqlOptions, UsageError
from streamq.cli.opening import open_database
from streamq.cli.results import Results
from streamq.cli.script import ScriptStatement, in_script
from streamq.cli.sink import open_sink
from streamq.cli.statements import Runner
from streamq.cli.terminal import Terminal
from streamq.database import Database
from streamq.errors import SqlError
from streamq.sql.parse import parse_one
from streamq.sql.statements import Select


async def run_query(command: QueryCommand, terminal: Terminal, notes: Console) -> None:
    """Run `streamq query`: rows go to the output, what else people should know to `notes`.

    Raises:
        StreamqError: a statement failed; those before it have run.
        OSError: the output cannot be written.
    """
    if command.watch and not any(map(_is_continuous, command.sql.statements)):
        raise UsageError("--watch follows a continuous query: one with EMIT CHANGES or EMIT FINAL")
    progress = notes if command.progress and _is_free(command, terminal, notes) else None
    with open_sink(command.output) as sink:
        plain = terminal if command.output is None else Terminal(None, None, color=False)
        results = Results(sink, command.format, plain, lasting=command.output is None, max_rows=command.max_rows, progress=progress)
        async with open_database(command.sql.database) as db:
            await _register(db, command.sql)
            runner = Runner(db, results, notes, watch=command.watch, own=_is_own(command.sql), timeout_s=command.timeout_s)
            await _run_script(command.sql, lambda sql: runner.run(sql, command.sql.parameters))


async def run_explain(command: ExplainCommand, terminal: Terminal, notes: Console) -> None:
    """Run `streamq explain`: queries are explained, the statements before and between them run.

    Raises:
        StreamqError: a statement failed; those before it have run.
    """
    with open_sink(None) as sink:
        results = Results(sink, "table", terminal, lasting=True)
        async with open_database(command.sql.database) as db:
            await _register(db, command.sql)
            runner = Runner(db, results, notes, own=_is_own(command.sql))

            async def run_statement(sql: str) -> None:
                if isinstance(select := parse_one(sql), Select):
                    if command.analyze and select.emit is not None:
                        await runner.finish_sources(select)
                    text = await db.explain(sql, command.sql.parameters, analyze=command.analyze)
                    await results.write_text(text.rstrip("\n") + "\n")
                else:
                    await db.execute(sql, command.sql.parameters)

            await _run_script(command.sql, run_statement)


async def _register(db: Database, options: SqlOptions) -> None:
    for name, path in options.relations:
        await db.register(name, path, watermark=options.watermarks.get(name))


async def _run_script(options: SqlOptions, run_statement: Callable[[str], Awaitable[None]]) -> None:
    for statement in options.statements:
        try:
            await run_statement(statement.text)
        except SqlError as error:
            raise in_script(error, statement, options.script) from error


def _is_own(options: SqlOptions) -> bool:
    return isinstance(options.database, DatabaseOptions)


def _is_continuous(statement: ScriptStatement) -> bool:
    parsed = parse_one(statement.text)
    return isinstance(parsed, Select) and parsed.emit is not None


def _is_free(command: QueryCommand, terminal: Terminal, notes: Console) -> bool:
    """Tell whether a bar on standard error disturbs no rows: a table is printed after it, other formats must go elsewhere."""
    return notes.is_terminal and (command.format == "table" or command.output is not None or terminal.width is None)
