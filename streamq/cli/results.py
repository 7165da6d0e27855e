"""Hands the rows of queries to the output, in the format that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar, TypeVarTuple

import anyio.to_thread
import pyarrow as pa
from rich.console import Console

from streamq.cli.arguments import Format
from streamq.cli.change_rows import ChangeRows
from streamq.cli.formats import open_writer
from streamq.cli.progress import ProgressShown, measure_stream
from streamq.cli.sink import ByteSink
from streamq.cli.table import Excerpt, table_text
from streamq.cli.terminal import Terminal
from streamq.cli.wording import count
from streamq.execution.stream import QueryBatchStream
from streamq.sql.order import OutputTerm

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


class Results:
    """Writes one result after the other. `progress` is the console on which to show how far a query is, None for nowhere.

    Cancelling does not wait for a write to `sink` if the sink is `lasting`, which means that its descriptor stays open whatever happens.
    """

    def __init__(
        self,
        sink: ByteSink,
        kind: Format,
        terminal: Terminal,
        *,
        lasting: bool,
        max_rows: int | None = None,
        progress: Console | None = None,
    ) -> None:
        self.kind = kind
        self._sink = sink
        self._lasting = lasting
        self._terminal = terminal
        self._max_rows = max_rows
        self._progress = progress

    async def write_stream(self, stream: QueryBatchStream) -> None:
        """Write the answer of a started query: all of it, or for a table its first rows, after which it is no longer read.

        Raises:
            StreamqError: the query failed; what was written is not the whole answer.
            OSError: the output cannot be written.
        """
        if self.kind == "table":
            async with ProgressShown(partial(measure_stream, stream), self._progress):
                excerpt = await first_rows(stream, self._terminal.row_limit(self._max_rows))
            await self._write_excerpt(excerpt)
            return
        await self._write_batches(stream)

    async def write_changes(self, stream: QueryBatchStream) -> None:
        """Write what a started continuous query gives, as it comes; of a table as many rows as were asked for, after which it is left.

        Raises:
            StreamqError: the query failed.
            OSError: the output cannot be written.
        """
        if self.kind != "table":
            await self._write_batches(stream)
            return
        rows = ChangeRows(stream.schema, width=self._terminal.width, color=self._terminal.color)
        shown, limit = 0, self._max_rows or None
        async for batch in stream:
            part = batch if limit is None else batch.slice(0, limit - shown)
            await self.write_text(await self._in_thread(rows.draw, part))
            shown += part.num_rows
            if part.num_rows < batch.num_rows:
                await self.write_text(f"the first {count(shown, 'row')}; there are more\n")
                return
        if not shown:
            await self.write_text(rows.draw(pa.RecordBatch.from_pylist([], stream.schema)))
        await self.write_text(count(shown, "row" if stream.changelog == "append" else "change") + "\n")

    async def watch(self, stream: QueryBatchStream, order: Sequence[OutputTerm]) -> None:
        """Show the result of a started continuous query as a table that follows its changes.

        Raises:
            StreamqError: the query failed.
            OSError: the output cannot be written.
        """
        # Brings the compiled kernels, which nothing else here needs.
        from streamq.cli.watch import Watch

        await Watch(stream, order, self._terminal, self._max_rows, self.write_text).run()

    async def _write_batches(self, stream: QueryBatchStream) -> None:
        assert self.kind != "table"
        async with ProgressShown(partial(measure_stream, stream), self._progress):
            writer = await self._in_thread(open_writer, self.kind, stream.schema, self._sink)
            async for batch in stream:
                await self._in_thread(writer.write, batch)
            await self._in_thread(writer.end)

    async def write_table(self, table: pa.Table) -> None:
        """Write rows that are here already."""
        if self.kind == "table":
            await self._write_excerpt(Excerpt(table, more=False))
            return
        writer = await self._in_thread(open_writer, self.kind, table.schema, self._sink)
        for batch in table.to_batches():
            await self._in_thread(writer.write, batch)
        await self._in_thread(writer.end)

    async def write_text(self, text: str) -> None:
        """Write text for people, whatever the format."""
        await self._in_thread(self._sink.write, text.encode())

    async def _write_excerpt(self, excerpt: Excerpt) -> None:
        await self.write_text(table_text(excerpt, width=self._terminal.width, color=self._terminal.color))

    async def _in_thread(self, function: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        return await anyio.to_thread.run_sync(function, *arguments, abandon_on_cancel=self._lasting)


async def first_rows(stream: QueryBatchStream, limit: int | None) -> Excerpt:
    """Read at most the first `limit` rows (None: all) and whether there are more.

    Raises:
        StreamqError: the query failed.
    """
    batches: list[pa.RecordBatch] = []
    rows = 0
    async for batch in stream:
        batches.append(batch)
        rows += batch.num_rows
        if limit is not None and rows > limit:
            break
    table = pa.Table.from_batches(batches, stream.schema)
    return Excerpt(table.slice(0, limit), more=limit is not None and rows > limit)
