"""A shell whose standard input is no terminal: statements run as they come, and the first error ends it."""

from __future__ import annotations

import sys

import anyio.to_thread

from streamq.cli.script import is_complete, split_statements
from streamq.cli.shell.session import Session


async def run_piped(session: Session) -> None:
    """Read statements from standard input to its end.

    Raises:
        StreamqError, UsageError: a statement failed; those before it have run.
        OSError: the output cannot be written.
    """
    text = ""
    while line := await _next_line():
        if not text.strip() and line.lstrip().startswith("\\"):
            if not await session.run(line):
                return
            continue
        text += line
        if is_complete(text):
            await _run(session, text)
            text = ""
    await _run(session, text)


async def _run(session: Session, text: str) -> None:
    for statement in split_statements(text):
        await session.run(statement.text)


async def _next_line() -> str:
    # What waits for a pipe is left waiting when the command ends.
    line: bytes = await anyio.to_thread.run_sync(sys.stdin.buffer.readline, abandon_on_cancel=True)
    return line.decode()
