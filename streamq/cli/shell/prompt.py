"""The line that is typed: edited, completed and remembered by prompt_toolkit, in a thread, because it brings an event loop of its own."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import anyio
import anyio.to_thread
import platformdirs
from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition, has_completions
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.lexers import PygmentsLexer
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.shortcuts import CompleteStyle
from pygments.lexers.sql import SqlLexer

from streamq.cli.script import is_complete
from streamq.cli.shell.completion import Names

PROMPT = "streamq> "
CONTINUED = "      -> "


class Prompt:
    """Asks for statements. `history_lost` says why they are not kept for the next shell; None: they are."""

    def __init__(self, names: Names, *, color: bool) -> None:
        history, self.history_lost = _open_history()
        self._asking = self._leaving = False
        self._session: PromptSession[str] = PromptSession(
            PROMPT,
            prompt_continuation=CONTINUED,
            multiline=True,
            history=history,
            auto_suggest=AutoSuggestFromHistory(),
            completer=_Completer(names),
            complete_while_typing=False,
            complete_style=CompleteStyle.READLINE_LIKE,
            lexer=PygmentsLexer(SqlLexer) if color else None,
            color_depth=None if color else ColorDepth.DEPTH_1_BIT,
            key_bindings=_keys(),
        )

    async def read(self) -> str | None:
        """Ask until something was typed: a statement, several, or a command; None is Ctrl-D. Ctrl-C begins anew."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._leave_when_cancelled)
            self._asking = True
            try:
                # The thread is waited for, so that the terminal is as it was before.
                text = await anyio.to_thread.run_sync(self._ask)
            finally:
                self._asking = False
            tasks.cancel_scope.cancel()
        return text

    def _ask(self) -> str | None:
        while True:
            try:
                text = self._session.prompt(pre_run=self._check_leaving, handle_sigint=False)
            except KeyboardInterrupt:
                continue
            except EOFError:
                return None
            if text.strip():
                return text

    async def _leave_when_cancelled(self) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            self._leaving, loop = self._asking, self._session.app.loop
            if self._leaving and loop is not None:
                # It may end by itself at this moment.
                with suppress(RuntimeError):
                    loop.call_soon_threadsafe(self._leave)

    def _leave(self) -> None:
        if self._session.app.is_running:
            self._session.app.exit(exception=EOFError())

    def _check_leaving(self) -> None:
        if self._leaving:
            get_app().exit(exception=EOFError())


class _Completer(Completer):
    """Shows names to prompt_toolkit."""

    def __init__(self, names: Names) -> None:
        self._names = names

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        """Give what the word before the cursor may become."""
        before = document.text_before_cursor
        word = before if before.startswith("\\") and " " not in before else document.get_word_before_cursor()
        start = 0 if word.isspace() or word == "." else -len(word)
        for name, kind in self._names.complete(before, document.text):
            yield Completion(name, start_position=start, display_meta=kind)


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @Condition
    def ready() -> bool:
        text = get_app().current_buffer.text
        return text.lstrip().startswith("\\") or is_complete(text)

    @keys.add("enter", filter=ready & ~has_completions)
    def _accept(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    return keys


def _open_history() -> tuple[History, str | None]:
    """Give what was typed before, from a file that only its owner can read: statements may hold secrets."""
    try:
        directory = Path(platformdirs.user_state_path("streamq"))
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = directory / "history"
        os.close(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
    except OSError as error:
        return InMemoryHistory(), f"{error.filename}: {error.strerror}"
    return FileHistory(path), None
