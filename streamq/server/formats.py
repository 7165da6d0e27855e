"""How a result looks on the wire: an Arrow IPC stream, JSON lines, or server-sent events.

Each says how the result ended in its last batch, line or event, so that a body that was cut is never taken for a whole one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

import pyarrow as pa

from streamq.execution.query import Progress
from streamq.execution.statistics import QueryStatistics
from streamq.execution.stream import QueryBatchStream
from streamq.storage.text import type_name
from streamq.wire import arrow
from streamq.wire.arrow import ArrowEncoder
from streamq.wire.errors import error_record
from streamq.wire.json_lines import JsonLines, unique_names
from streamq.wire.pieces import Pieces
from streamq.wire.records import progress_to_json, to_json

NDJSON = "application/x-ndjson"
EVENTS = "text/event-stream"


class ResultFormat(Protocol):
    """Writes one result. Every method gives bytes that are sent in the order of the calls."""

    content_type: str
    makes_text: bool
    """Whether values are written as text. `begin`, and `batch` where there are many, then take too long for the event loop: JSON is made by
    a DuckDB of its own, which takes some milliseconds to open."""
    keep_alive: bytes
    """What says nothing but that the connection is in use; empty where the format has no such thing."""
    cut_by_errors: bool
    """Whether a body with an error in it has no end in HTTP either, for clients that look no deeper. Browsers lose what they have not yet
    read of such a body, and that may be the error."""

    def begin(self, stream: QueryBatchStream) -> bytes:
        """Say what is known when the query has started."""

    def batch(self, batch: pa.RecordBatch, progress: Progress) -> Pieces:
        """Write a batch, and where it stands."""

    def rest(self) -> None:
        """Keep as little as can be until the next call, which may be long in coming."""

    def end(self, statistics: QueryStatistics, progress: Progress) -> bytes:
        """Say that the result is complete."""

    def error(self, error: Exception, statistics: QueryStatistics) -> bytes:
        """Say that it is not, and why."""


class ArrowResult:
    """An Arrow IPC stream with the rest in its metadata, see `streamq.wire`."""

    content_type = arrow.CONTENT_TYPE
    makes_text = False
    keep_alive = b""
    cut_by_errors = True

    def begin(self, stream: QueryBatchStream) -> bytes:
        """Give the schema, and a batch without rows that says where the query starts."""
        self._encoder = ArrowEncoder(stream.schema, _description(stream))
        self._progress = stream.progress
        self._said = {arrow.PROGRESS: progress_to_json(stream.progress)}
        return self._encoder.note(self._said)

    def batch(self, batch: pa.RecordBatch, progress: Progress) -> Pieces:
        """Give a batch."""
        if progress != self._progress:
            self._progress, self._said = progress, {arrow.PROGRESS: progress_to_json(progress)}
        return self._encoder.pieces(batch, self._said)

    def rest(self) -> None:
        """Let go of Arrow's writer."""
        self._encoder.rest()

    def end(self, statistics: QueryStatistics, progress: Progress) -> bytes:
        """Give a batch without rows, and Arrow's end-of-stream marker."""
        return (
            self._encoder.note({arrow.END: {"statistics": to_json(statistics), "progress": progress_to_json(progress)}})
            + self._encoder.end()
        )

    def error(self, error: Exception, statistics: QueryStatistics) -> bytes:
        """Give a batch without rows, behind which nothing comes."""
        return self._encoder.note({arrow.ERROR: {**error_record(error), "statistics": to_json(statistics)}})


class LinesResult:
    """JSON lines: a row each, and a last one with the member `streamq`, which is ``end`` or ``error``."""

    content_type = NDJSON
    makes_text = True
    keep_alive = b""
    cut_by_errors = True

    def begin(self, stream: QueryBatchStream) -> bytes:
        """Give nothing: the first line is a row."""
        self._lines = JsonLines(stream.schema)
        return b""

    def batch(self, batch: pa.RecordBatch, progress: Progress) -> Pieces:
        """Give a line for each row."""
        return [self._lines.encode(batch)] if batch.num_rows else []

    def rest(self) -> None:
        """Do nothing: the next batch needs what there is."""

    def end(self, statistics: QueryStatistics, progress: Progress) -> bytes:
        """Give the line that says that these were all."""
        return _json({"streamq": "end", "rows": statistics.rows_out}) + b"\n"

    def error(self, error: Exception, statistics: QueryStatistics) -> bytes:
        """Give the line that says that these were not all."""
        return _json({"streamq": "error", **error_record(error)}) + b"\n"


class EventsResult:
    """Server-sent events: `query`, then `rows` (a list of objects, with its epoch), at last `end` or `error`."""

    content_type = EVENTS
    makes_text = True
    keep_alive = b":\n\n"
    cut_by_errors = False

    def begin(self, stream: QueryBatchStream) -> bytes:
        """Give the columns and what the query is."""
        self._lines = JsonLines(stream.schema)
        # Under these names they are in the rows, which are objects.
        named = zip(unique_names(stream.schema.names), stream.schema.types, strict=True)
        columns = [{"name": name, "type": str(kind), "sql_type": type_name(kind)} for name, kind in named]
        return _event("query", _json({**_description(stream), "columns": columns}))

    def batch(self, batch: pa.RecordBatch, progress: Progress) -> Pieces:
        """Give the rows of a batch in one event."""
        rows = bytes(self._lines.encode(batch)).removesuffix(b"\n").replace(b"\n", b",") if batch.num_rows else b""
        return [_event("rows", b'{"progress":' + _json(progress_to_json(progress)) + b',"rows":[' + rows + b"]}")]

    def rest(self) -> None:
        """Do nothing: the next batch needs what there is."""

    def end(self, statistics: QueryStatistics, progress: Progress) -> bytes:
        """Give the event that says that these were all."""
        return _event("end", _json({"rows": statistics.rows_out}))

    def error(self, error: Exception, statistics: QueryStatistics) -> bytes:
        """Give the event that says that these were not all."""
        return _event("error", _json(error_record(error)))


FORMATS: Mapping[str, type[ResultFormat]] = {kind.content_type: kind for kind in (ArrowResult, LinesResult, EventsResult)}
"""The formats by content type, in order of preference."""


def choose_format(accept: str) -> ResultFormat | None:
    """Choose the format that a client prefers, by the header Accept; None if it takes none of them.

    >>> choose_format("text/html, application/x-ndjson;q=0.5").content_type
    'application/x-ndjson'
    >>> choose_format("*/*").content_type, choose_format("image/png")
    ('application/vnd.apache.arrow.stream', None)
    """
    weights = {kind: _weight(kind, accept or "*/*") for kind in FORMATS}
    best = max(weights, key=lambda kind: weights[kind])
    return FORMATS[best]() if weights[best] > 0 else None


def _weight(content_type: str, accept: str) -> float:
    ranges = {}
    for part in accept.lower().split(","):
        name, _, parameters = part.partition(";")
        quality = parameters.replace(" ", "").removeprefix("q=")
        try:
            ranges[name.strip()] = float(quality or 1)
        except ValueError:
            ranges[name.strip()] = 1.0
    wide = content_type.partition("/")[0] + "/*"
    return next((ranges[name] for name in (content_type, wide, "*/*") if name in ranges), 0.0)


def _description(stream: QueryBatchStream) -> dict[str, Any]:
    return {"id": stream.query_id, "changelog": stream.changelog, "key": None if stream.key is None else list(stream.key)}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def _event(name: str, data: bytes) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"
