"""Rows that clients send: batch by batch, as fast as the database takes them, and no faster.

Who sends may pause between batches, and between lines, but not within.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import anyio.to_thread
import pyarrow as pa
import pyarrow.csv
from starlette.requests import Request

from streamq.errors import SourceError
from streamq.server.bodies import pieces_of
from streamq.server.refusals import TooLarge
from streamq.wire import arrow
from streamq.wire.arrow import ArrowDecoder, NotArrow
from streamq.wire.plain_size import plain_bytes

Hold = Callable[[int], None]
"""Is told how many bytes an upload has in memory, which it may refuse: see `Service.uploading`."""

BLOCK_BYTES = 1 << 20
"""Text is converted in blocks of this size: each is a batch of its own."""
_LARGEST_BLOCK = 2**31 - 1


async def arrow_pieces(request: Request, max_bytes: int, stall_s: float, hold: Hold) -> AsyncIterator[pa.RecordBatch]:
    """Read the body as an Arrow IPC stream, batch by batch.

    Raises:
        SourceError: it is no such stream, or has no end; or the sender has no more rows, and says why (`streamq.error`).
        TooLarge: a batch comes to more than `max_bytes`.
        Stalled: a batch stopped in the middle, for `stall_s`.
    """
    decoder = ArrowDecoder(max_bytes)
    try:
        async with aclosing(pieces_of(request, stall_s, lambda: decoder.ended or decoder.held_bytes > 0)) as body:
            async for data in body:
                hold(decoder.held_bytes + len(data))
                for decoded in decoder.feed(data):
                    if (failure := decoded.metadata.get(arrow.ERROR)) is not None:
                        raise SourceError(str(failure.get("message")))
                    await anyio.to_thread.run_sync(_check_values, [decoded.batch], max_bytes)
                    yield decoded.batch
                _check_nothing_follows(decoder)
    except NotArrow as error:
        raise SourceError(str(error)) from error
    if not decoder.ended:
        raise SourceError("the body ended before the Arrow stream did: what came after the last whole batch is lost")


async def json_pieces(request: Request, max_bytes: int, stall_s: float, hold: Hold) -> AsyncIterator[list[dict[str, Any]]]:
    """Read the body as JSON lines, a row each; gives them in blocks.

    Raises:
        SourceError: a line is no JSON object.
        TooLarge: a line is larger than `max_bytes`.
        Stalled: a line stopped in the middle, for `stall_s`.
    """
    line = 1
    async with aclosing(_blocks(request, max_bytes, stall_s, hold, quoted=False)) as blocks:
        async for block in blocks:
            rows = await anyio.to_thread.run_sync(_json_rows, block, line)
            line += block.count(b"\n")
            if rows:
                yield rows


async def csv_pieces(request: Request, max_bytes: int, stall_s: float, hold: Hold, schema: pa.Schema) -> AsyncIterator[pa.Table]:
    """Read the body as CSV whose first line names columns of `schema`; gives its rows in blocks. An empty field is NULL.

    Raises:
        SourceError: a line has too few or too many fields, or a value is not of its column's type.
        TooLarge: a line is larger than `max_bytes`.
        Stalled: a line stopped in the middle, for `stall_s`.
    """
    header: list[str] | None = None
    async with aclosing(_blocks(request, max_bytes, stall_s, hold, quoted=True)) as blocks:
        async for block in blocks:
            if block.count(b'"') % 2:
                await anyio.to_thread.run_sync(_check_quotes, block)
            names, rows = (header, block) if header is not None else await anyio.to_thread.run_sync(_csv_header, block)
            header = names
            if rows:
                yield await anyio.to_thread.run_sync(_csv_table, rows, names, schema)


async def whole_table(request: Request, max_bytes: int, stall_s: float, setting: str, hold: Hold) -> pa.Table:
    """Read the body as an Arrow IPC stream, whole. `setting` is the one that `max_bytes` comes from.

    Raises:
        SourceError: it is no such stream, or has no end.
        TooLarge: it is larger than `max_bytes`.
        Stalled: nothing of it came for `stall_s`.
    """
    decoder = ArrowDecoder(max_bytes)
    batches, size = [], 0
    try:
        async with aclosing(pieces_of(request, stall_s, lambda: True)) as body:
            async for data in body:
                size += len(data)
                if size > max_bytes:
                    raise TooLarge(
                        f"what is to be written at once is larger than the {max_bytes:,} bytes that this service takes ({setting}): "
                        "write it in parts"
                    )
                hold(size)
                batches += [decoded.batch for decoded in decoder.feed(data)]
                _check_nothing_follows(decoder)
    except NotArrow as error:
        raise SourceError(str(error)) from error
    if not decoder.ended:
        raise SourceError("the body ended before the Arrow stream did")
    assert decoder.schema is not None, "a stream that has ended had a schema"
    await anyio.to_thread.run_sync(_check_values, batches, max_bytes)
    return pa.Table.from_batches(batches, schema=decoder.schema)


async def _blocks(request: Request, max_bytes: int, stall_s: float, hold: Hold, *, quoted: bool) -> AsyncGenerator[bytes]:
    """Cut the body into blocks at ends of lines; of CSV, at those that are not in quotes. Looks at each byte about once."""
    held = bytearray()
    searched, in_quotes = 0, False
    async with aclosing(pieces_of(request, stall_s, lambda: bool(held) and not held.endswith(b"\n"))) as body:
        async for data in body:
            held += data
            hold(len(held))
            if len(held) - searched < BLOCK_BYTES:
                continue
            in_quotes ^= quoted and held.count(b'"', searched) % 2 == 1
            end = _last_line_end(held, searched, in_quotes=in_quotes) if quoted else held.rfind(b"\n", searched) + 1
            searched = len(held) - end
            if end:
                yield bytes(held[:end])
                del held[:end]
            if len(held) > max_bytes:
                raise TooLarge(f"a line is larger than the {max_bytes:,} bytes that this service takes (max_insert_bytes)")
    if held:
        yield bytes(held)


def _last_line_end(text: bytearray, start: int, *, in_quotes: bool) -> int:
    """Give the length up to the last end of a line behind `start` that is not in quotes; 0 if there is none.

    `in_quotes` tells it of the end of the text.

    >>> _last_line_end(bytearray(b'a,"x' + b"\\n" + b'y"' + b"\\n" + b'b,"' + b"\\n"), 0, in_quotes=True)
    8
    """
    end = len(text)
    while end > start:
        quote = text.rfind(b'"', start, end)
        if not in_quotes and (line := text.rfind(b"\n", max(quote, start), end)) >= 0:
            return line + 1
        end, in_quotes = quote, not in_quotes
    return 0


def _json_rows(block: bytes, first_line: int) -> list[dict[str, Any]]:
    return [_json_row(line, number) for number, line in enumerate(block.splitlines(), first_line) if line.strip()]


def _json_row(line: bytes, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"line {number} is no JSON: {error}") from None
    if not isinstance(row, dict):
        raise SourceError(f'line {number} is no object, such as {{"name": 1}}')
    return row


def _csv_header(block: bytes) -> tuple[list[str], bytes]:
    end = _first_line_end(block)
    try:
        lines = list(csv.reader(io.StringIO(block[:end].decode("utf-8-sig"), newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"the first line does not name columns: {error}") from None
    match lines:
        case [[_, *_] as names]:
            return names, block[end:]
        case _:
            # Or the names would be followed by rows that nobody reads.
            raise SourceError("the first line does not name columns: it is empty, has a quote alone, or does not end with a line feed")


def _first_line_end(block: bytes) -> int:
    """Give the length of the first line, whose names may have ends of lines in quotes."""
    end, quotes = 0, 0
    while following := block.find(b"\n", end) + 1:
        quotes += block.count(b'"', end, following)
        end = following
        if quotes % 2 == 0:
            return end
    return len(block)


def _check_quotes(block: bytes) -> None:
    """Check that a block in which a quote is alone ends outside of quotes: in a field that does not begin with one it means nothing."""
    try:
        for _ in csv.reader(io.StringIO(block.decode(errors="replace"), newline=""), strict=True):
            pass
    except csv.Error as error:
        raise SourceError(f"the body is no CSV of these columns, or was cut inside of quotes: {error}") from None


def _csv_table(block: bytes, names: list[str], schema: pa.Schema) -> pa.Table:
    known = {field.name.lower(): field.type for field in schema}
    types = {name: _csv_type(known[name.lower()]) if name.lower() in known else pa.string() for name in names}
    try:
        return pa.csv.read_csv(
            io.BytesIO(block),
            # All at once: a row in two of its own blocks would be an error.
            read_options=pa.csv.ReadOptions(column_names=names, use_threads=False, block_size=min(len(block), _LARGEST_BLOCK)),
            # Where there is one column, an empty line is a row with an empty field.
            parse_options=pa.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=len(names) > 1),
            convert_options=pa.csv.ConvertOptions(
                column_types=types, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
            ),
        )
    except pa.ArrowException as error:
        raise SourceError(f"the body is no CSV of these columns: {error}") from None


def _csv_type(kind: pa.DataType) -> pa.DataType:
    """Give what a field is read as: text, of which times and decimals are made later, but for what text cannot become by itself."""
    return kind if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind) else pa.string()


def _check_nothing_follows(decoder: ArrowDecoder) -> None:
    if decoder.ended and decoder.held_bytes:
        raise SourceError("the body goes on behind the end of its Arrow stream: send one stream at a time")


def _check_values(batches: list[pa.RecordBatch], max_bytes: int) -> None:
    """Look at every value: a sender's offsets must not point outside of its buffers, and what it wrote small must not come to too much."""
    try:
        for batch in batches:
            batch.validate(full=True)
    except pa.ArrowException as error:
        raise SourceError(f"the body is no valid Arrow data: {error}") from error
    if (size := sum(map(plain_bytes, batches))) > max_bytes:
        raise TooLarge(f"the rows come to {size:,} bytes, and at once this service takes {max_bytes:,}: send them in smaller batches")
