"""Runs what is typed into a shell, one statement or command after the other."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import assert_never

from rich.text import Text

from streamq.cli.shell.commands import HELP, DescribeRelation, Help, List, Quit, ShellLine, Switch, parse_command
from streamq.cli.statements import Runner
from streamq.cli.wording import seconds
from streamq.database import Database


class Session:
    """A shell's state: how results are shown."""

    def __init__(self, runner: Runner, *, timing: bool = False) -> None:
        self._runner = runner
        self._timing = timing

    @property
    def db(self) -> Database:
        """The database."""
        return self._runner.db

    async def run(self, text: str) -> bool:
        """Run a statement or a command; gives whether the shell goes on.

        Raises:
            StreamqError, UsageError: it failed.
            OSError: the output cannot be written.
        """
        if text.lstrip().startswith("\\"):
            return await self._command(parse_command(text))
        began = time.perf_counter()
        try:
            await self._runner.run(text)
        finally:
            if self._timing:
                self.note(f"time: {seconds(time.perf_counter() - began)}")
        return True

    def note(self, text: str) -> None:
        """Say something besides rows."""
        self._runner.notes.print(Text(text, "dim"), soft_wrap=True)

    def fail(self, text: str) -> None:
        """Say what went wrong."""
        self._runner.notes.print(Text.assemble(("error: ", "bold red"), text), soft_wrap=True)

    async def _command(self, command: ShellLine) -> bool:
        match command:
            case List():
                await self._runner.run("SHOW RELATIONS")
            case DescribeRelation(name=name):
                await self._describe(name)
            case Switch(what="watch", on=on):
                self._runner = replace(self._runner, watch=not self._runner.watch if on is None else on)
                self.note(f"continuous queries are shown as {'their result' if self._runner.watch else 'changes'}")
            case Switch(on=on):
                self._timing = not self._timing if on is None else on
                self.note(f"timing is {'on' if self._timing else 'off'}")
            case Help():
                await self._runner.results.write_text(HELP)
            case Quit():
                return False
            case _:
                assert_never(command)
        return True

    async def _describe(self, name: str) -> None:
        await self._runner.run(f"DESCRIBE {name}")
        for relation in await self.db.relations():
            if relation.name.lower() == name.strip('"').lower():
                self.note(f"{relation.kind} {relation.name}" + (f" AS {relation.view_sql}" if relation.view_sql else ""))
