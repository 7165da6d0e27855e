"""A shell at a terminal: a person types, and Ctrl-C cancels what runs."""

from __future__ import annotations

import signal
import sys

import anyio
import anyio.abc

from streamq import __version__
from streamq.cli.arguments import UsageError
from streamq.cli.script import split_statements
from streamq.cli.shell.completion import Names, load_functions
from streamq.cli.shell.prompt import Prompt
from streamq.cli.shell.session import Session
from streamq.errors import StreamqError
from streamq.flow.scopes import raising_one


class Interactive:
    """Reads, runs, and goes on. `place` is the address of a service, None for a database in this program."""

    def __init__(self, session: Session, place: str | None, *, color: bool) -> None:
        self._session = session
        self._place = place
        self._names = Names()
        self._prompt = Prompt(self._names, color=color)
        self._running: anyio.CancelScope | None = None

    async def run(self) -> None:
        """Run until the person leaves.

        Raises:
            StreamqError: the service cannot be reached at the start.
            BrokenPipeError: the terminal is gone.
        """
        await self._learn_names()
        await self._greet()
        with raising_one():
            async with anyio.create_task_group() as tasks:
                if sys.platform != "win32":
                    await tasks.start(self._cancel_on_interrupt)
                while (text := await self._prompt.read()) is not None:
                    if not await self._run(text):
                        break
                tasks.cancel_scope.cancel()

    async def _run(self, text: str) -> bool:
        """Run what was typed, up to its first failure; gives whether the shell goes on."""
        command = text.lstrip().startswith("\\")
        going_on = True
        try:
            with anyio.CancelScope() as self._running:
                for statement in [text] if command else [statement.text for statement in split_statements(text)]:
                    going_on = await self._session.run(statement)
                await self._learn_names()
            if self._running.cancelled_caught:
                self._session.note("cancelled")
        except BrokenPipeError:
            raise
        except (StreamqError, UsageError, OSError) as error:
            self._session.fail(str(error))
        finally:
            self._running = None
        return going_on

    async def _cancel_on_interrupt(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """While a line is typed, Ctrl-C is a key; while a statement runs, it is a signal."""
        with anyio.open_signal_receiver(signal.SIGINT) as signals:
            task_status.started()
            async for _ in signals:
                if self._running is not None:
                    # What comes next begins behind the ^C that the terminal shows.
                    self._session.note("")
                    self._running.cancel()

    async def _learn_names(self) -> None:
        self._names.learn(await self._session.db.relations())

    async def _greet(self) -> None:
        self._names.functions = await anyio.to_thread.run_sync(load_functions)
        where = "a database in memory, which lives as long as this shell" if self._place is None else self._place
        self._session.note(f"streamq {__version__}: {where}. \\? for help, \\q or Ctrl-D to leave.")
        if self._prompt.history_lost is not None:
            self._session.note(f"what is typed is not kept: {self._prompt.history_lost}")
