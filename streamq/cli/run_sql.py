"""Runs the statements of a script, in order, in one database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from rich.console import Console

from streamq.cli.arguments import DatabaseOptions, ExplainCommand, QueryCommand, SqlOptions, UsageError
from streamq.cli.results import Results
from streamq.cli.script import ScriptStatement, in_script
from streamq.cli.sink import open_sink
from streamq.cli.terminal import Terminal
from streamq.cli.wording import count
from streamq.database import Database
from streamq.engine import connect
from streamq.errors import SqlError
from streamq.sql.order import output_order
from streamq.sql.parse import parse_one
from streamq.sql.statements import Explain, Select
from streamq.sql.tables import names_read


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
                case Select(emit=None):
                    async with db.query(sql, command.sql.parameters, timeout=command.timeout_s) as stream:
                        await results.write_stream(stream)
                case Select() as select:
                    await _finish_sources(db, select)
                    _warn_without_end(db, select, notes)
                    async with db.query(sql, command.sql.parameters, timeout=command.timeout_s) as stream:
                        await (results.watch(stream, output_order(select)) if command.watch else results.write_changes(stream))
                case statement:
                    if isinstance(statement, Explain) and statement.analyze and statement.query.emit is not None:
                        await _finish_sources(db, statement.query)
                    outcome = await db.execute(sql, command.sql.parameters)
                    if outcome.table is None:
                        notes.print(f"{outcome.kind}: {count(outcome.rows, 'row')}" if outcome.rows else outcome.kind, style="dim")
                    elif isinstance(statement, Explain) and command.format == "table":
                        await results.write_text("\n".join([*outcome.table.column(0).to_pylist(), ""]))
                    else:
                        await results.write_table(outcome.table)

        if command.watch and not any(map(_is_continuous, command.sql.statements)):
            raise UsageError("--watch follows a continuous query: one with EMIT CHANGES or EMIT FINAL")
        await _run_script(command.sql, run_statement)


async def run_explain(command: ExplainCommand, terminal: Terminal) -> None:
    """Run `streamq explain`: queries are explained, the statements before and between them run.

    Raises:
        StreamqError: a statement failed; those before it have run.
    """
    with open_sink(None) as sink:
        results = Results(sink, "table", terminal, lasting=True)

        async def run_statement(db: Database, sql: str) -> None:
            if isinstance(select := parse_one(sql), Select):
                if command.analyze and select.emit is not None:
                    await _finish_sources(db, select)
                text = await db.explain(sql, command.sql.parameters, analyze=command.analyze)
                await results.write_text(text.rstrip("\n") + "\n")
            else:
                await db.execute(sql, command.sql.parameters)

        await _run_script(command.sql, run_statement)


async def _run_script(options: SqlOptions, run_statement: Callable[[Database, str], Awaitable[None]]) -> None:
    async with open_database(options.database) as db:
        for name, path in options.relations:
            await db.register(name, path, watermark=options.watermarks.get(name))
        for statement in options.statements:
            try:
                await run_statement(db, statement.text)
            except SqlError as error:
                raise in_script(error, statement, options.script) from error


async def _finish_sources(db: Database, select: Select) -> None:
    """End the sources that a continuous query reads, since no more rows can come while it runs."""
    relations = {relation.name.lower(): relation for relation in (await db.statistics()).relations}
    read = names_read(select)
    if not read <= relations.keys():
        # What is behind the views is not named.
        read = frozenset(relations) - {(select.late_rows_into or "").lower()}
    for name in sorted(read):
        if relations[name].kind == "source":
            await db.finish(name)


def _warn_without_end(db: Database, select: Select, notes: Console) -> None:
    kinds = {relation.name.lower(): relation.kind for relation in db.statistics_nowait().relations}
    endless = [name for name in sorted(names_read(select)) if kinds.get(name, "source") not in ("source", "registered")]
    if endless:
        notes.print(f"this query has no end, because {kinds[endless[0]]} {endless[0]} has none: Ctrl-C stops it", style="dim")


def _is_continuous(statement: ScriptStatement) -> bool:
    parsed = parse_one(statement.text)
    return isinstance(parsed, Select) and parsed.emit is not None


def _is_free(command: QueryCommand, terminal: Terminal, notes: Console) -> bool:
    """Tell whether a bar on standard error disturbs no rows: a table is printed after it, other formats must go elsewhere."""
    return notes.is_terminal and (command.format == "table" or command.output is not None or terminal.width is None)
