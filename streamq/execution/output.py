"""Where the rows for the reader go: LIMIT and OFFSET, exactly, over batches that arrive from many tasks."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa

from streamq.flow.channel import Channel


class ReaderOutput:
    """Cuts what arrives to OFFSET and LIMIT, gives it the result's schema, and sends it to the reader's channel.

    A batch is counted before it is sent, so the cut is exact whatever order tasks come in; the output is satisfied once the
    limit is reached *and* every batch that counts towards it has been sent.
    """

    def __init__(self, channel: Channel, schema: pa.Schema, limit: int | None, offset: int) -> None:
        self._channel = channel
        self._schema = schema
        self._skip = offset
        self._left = limit
        self._sending = 0
        self._stop: Callable[[], None] | None = None

    def when_satisfied(self, stop: Callable[[], None]) -> None:
        """Call `stop` once no further row can be part of the answer."""
        self._stop = stop
        self._check()

    async def send(self, batch: pa.RecordBatch) -> None:
        """Send the part of a batch that belongs to the answer. Waits while the reader's channel is full."""
        cut = self._cut(batch)
        self._sending += 1
        try:
            if cut.num_rows:
                await self._channel.send(self._conform(cut))
        finally:
            self._sending -= 1
        self._check()

    def _cut(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        skipped = min(self._skip, batch.num_rows)
        self._skip -= skipped
        batch = batch.slice(skipped)
        if self._left is not None:
            batch = batch.slice(0, self._left)
            self._left -= batch.num_rows
        return batch

    def _conform(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if batch.schema.equals(self._schema):
            return batch
        columns = [column.cast(field.type) for column, field in zip(batch.columns, self._schema, strict=True)]
        return pa.RecordBatch.from_arrays(columns, schema=self._schema)

    def _check(self) -> None:
        if self._left == 0 and not self._sending and self._stop is not None:
            self._stop()
