"""What users insert and register, as the body of a request: an Arrow IPC stream that is made as it is sent."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, AsyncIterable
from functools import partial
from typing import Any

import anyio.to_thread
import pyarrow as pa

from streamq.errors import SourceError, UnsupportedError
from streamq.sql.catalog import RelationInfo
from streamq.storage.rows import arrow_table, table_of
from streamq.wire.arrow import ERROR, ArrowEncoder
from streamq.wire.errors import error_record


async def table_body(table: pa.Table) -> AsyncGenerator[bytes]:
    """Give a table."""
    encoder = ArrowEncoder(table.schema)
    for batch in table.to_batches():
        yield await anyio.to_thread.run_sync(encoder.encode, batch)
    yield encoder.end()


async def reader_body(name: str, reader: pa.RecordBatchReader) -> AsyncGenerator[bytes]:
    """Give what a reader reads for the relation `name`, batch by batch.

    Raises:
        SourceError: reading failed.
    """
    encoder = ArrowEncoder(reader.schema)
    while (batch := await anyio.to_thread.run_sync(_next_batch, name, reader)) is not None:
        yield await anyio.to_thread.run_sync(encoder.encode, batch)
    yield encoder.end()


async def items_body(items: AsyncIterable[object], relation: RelationInfo) -> AsyncGenerator[bytes]:
    """Give the items of an async iterable, each as a batch of the relation's schema.

    Where no rows can be made of an item, or there is an error in reading them, the body ends with the reason: the service tells how many
    rows had gone in before.
    """
    encoder = ArrowEncoder(relation.schema)
    try:
        async for item in items:
            table = await anyio.to_thread.run_sync(partial(table_of, item, relation.schema, relation=relation.name))
            for batch in table.combine_chunks().to_batches():
                yield await anyio.to_thread.run_sync(encoder.encode, batch)
    except SourceError as error:
        yield encoder.note({ERROR: error_record(error)})
        return
    yield encoder.end()


def upload_reader(name: str, data: Any) -> pa.RecordBatchReader:
    """Open what is registered, to be read once.

    Raises:
        UnsupportedError: it is a path: the service has other files than this program.
        SourceError: it has no Arrow data.
    """
    module = sys.modules.get("pyarrow.dataset")
    if module is not None and isinstance(data, module.Dataset):
        return data.scanner().to_reader()
    if isinstance(data, str | list | tuple) or hasattr(data, "__fspath__"):
        raise UnsupportedError(
            "a service cannot read this program's files", hint="register `pyarrow.dataset.dataset(path)`: its rows are sent to the service"
        )
    table = arrow_table(data, name)
    if table is None:
        raise SourceError(f"{name}: {type(data).__name__} has no Arrow data; register a data frame, or anything with __arrow_c_stream__")
    return table.to_reader()


def _next_batch(name: str, reader: pa.RecordBatchReader) -> pa.RecordBatch | None:
    try:
        return next(reader, None)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{name}: reading the rows to send failed: {error}") from error
