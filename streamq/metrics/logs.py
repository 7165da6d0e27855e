"""Writes log records as JSON, one object a line."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Formats a record as a JSON object: time (UTC), level, logger, message, and the fields that its event carries.

    ::

        handler = logging.StreamHandler()
        handler.setFormatter(streamq.metrics.JsonFormatter())
        logging.getLogger("streamq").addHandler(handler)
    """

    def format(self, record: logging.LogRecord) -> str:
        """Give the record's line, without its end. A field that JSON has no type for is written as its `str`."""
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields.update((name, value) for name, value in vars(record).items() if name not in _STANDARD)
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str)
