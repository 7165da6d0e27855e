"""Opens a shell: its database, its output, and who gives it statements."""

from __future__ import annotations

import importlib.util

from rich.console import Console

from streamq.cli.arguments import DatabaseOptions, ServiceOptions, ShellCommand, UsageError
from streamq.cli.opening import open_database
from streamq.cli.results import Results
from streamq.cli.shell.piped import run_piped
from streamq.cli.shell.session import Session
from streamq.cli.sink import open_sink
from streamq.cli.statements import Runner
from streamq.cli.terminal import Terminal

_NEEDED = ("prompt_toolkit", "platformdirs")


async def run_shell(command: ShellCommand, terminal: Terminal, notes: Console) -> None:
    """Run `streamq shell`.

    Raises:
        UsageError: what it needs is not installed.
        StreamqError: the service cannot be reached; a statement that did not come from a person failed.
        OSError: the output cannot be written.
    """
    if command.interactive and (missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]):
        raise UsageError(f"streamq shell needs {' and '.join(missing)}: pip install 'streamq[shell]'")
    with open_sink(None) as sink:
        progress = notes if command.interactive else None
        results = Results(sink, "table", terminal, lasting=True, max_rows=command.max_rows, progress=progress)
        async with open_database(command.database) as db:
            for name, path in command.relations:
                await db.register(name, path, watermark=command.watermarks.get(name))
            # A person can end what follows a source. Nobody else would, where statements come from a pipe.
            own = isinstance(command.database, DatabaseOptions) and not command.interactive
            runner = Runner(db, results, notes, watch=command.watch, own=own, timeout_s=command.timeout_s)
            session = Session(runner, timing=command.timing)
            if not command.interactive:
                await run_piped(session)
                return
            from streamq.cli.shell.interactive import Interactive

            await Interactive(session, _place(command), color=terminal.color).run()


def _place(command: ShellCommand) -> str | None:
    """Say where the database is; None for this program."""
    return command.database.url if isinstance(command.database, ServiceOptions) else None
