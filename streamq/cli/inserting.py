"""`streamq insert`: the rows of files, sent to a service as they are read."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import ExitStack

import anyio
import anyio.to_thread
import pyarrow as pa
from rich.console import Console

from streamq.cli.arguments import InsertCommand
from streamq.cli.opening import open_database
from streamq.cli.progress import Measured, ProgressShown
from streamq.cli.reading import Piece, RowFile, open_rows
from streamq.cli.wording import count, seconds
from streamq.database import Database

_PER_FILE = 1_000
"""A file's part of a progress bar."""


async def run_insert(command: InsertCommand, notes: Console) -> None:
    """Run `streamq insert`.

    Raises:
        StreamqError: rows do not fit, or the service failed; it says how many rows had gone in.
        UsageError: what a file is cannot be told.
        OSError: a file cannot be read.
    """
    with ExitStack() as opened:
        # All of them, before any rows go in.
        files = [opened.enter_context(open_rows(path, command.format)) for path in command.paths]
        began = time.perf_counter()
        async with open_database(command.service) as db:
            sending = Sending(files, await _schema(db, command.relation))
            console = notes if command.progress and notes.is_terminal else None
            try:
                async with ProgressShown(sending.measure, console):
                    result = await db.insert(command.relation, sending.pieces())
            except anyio.get_cancelled_exc_class():
                notes.print(f"{count(sending.rows, 'row')} had been sent: no more than these went in", style="dim")
                raise
    notes.print(f"{count(result.rows, 'row')} inserted into {command.relation} in {seconds(time.perf_counter() - began)}", style="dim")


class Sending:
    """The rows of files, one file after the other. `rows` have been sent."""

    def __init__(self, files: Sequence[RowFile], schema: pa.Schema) -> None:
        self.rows = 0
        self._files = files
        self._schema = schema

    async def pieces(self) -> AsyncGenerator[Piece]:
        """Read the files."""
        for file in self._files:
            pieces = file.pieces(self._schema)
            # What waits for a pipe is left waiting when the command ends.
            while (piece := await anyio.to_thread.run_sync(_next, pieces, abandon_on_cancel=True)) is not None:
                yield piece
                self.rows += len(piece)

    async def measure(self) -> Measured:
        """Tell how far it is: by the files that are done, and the part of the one that is being read."""
        shares = [file.done / file.total for file in self._files if file.total is not None]
        total = _PER_FILE * len(shares) if len(shares) == len(self._files) else None
        return Measured(f"{count(self.rows, 'row')} sent", round(_PER_FILE * sum(shares)), total)


async def _schema(db: Database, relation: str) -> pa.Schema:
    """Give the columns of a relation; none if there is none, of which `insert` tells best."""
    found = [info.schema for info in await db.relations() if info.name.lower() == relation.lower()]
    return found[0] if found else pa.schema([])


def _next(pieces: Iterator[Piece]) -> Piece | None:
    return next(pieces, None)
