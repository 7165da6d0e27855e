"""Parameters of a statement in a JSON request: as they are where JSON has them, else as a row of an Arrow stream."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from itertools import islice
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa

from streamq.errors import BindError
from streamq.sql.statements import Parameters, check_parameters
from streamq.wire.arrow import ArrowDecoder
from streamq.wire.plain_size import plain_bytes

_VALUES = (type(None), bool, int, float, str, bytes, bytearray, memoryview, date, time, timedelta, Decimal, UUID, np.ndarray)
"""What a database in this program takes too."""


def parameters_to_json(params: Parameters) -> dict[str, Any]:
    """Give the members of a request that carry parameters.

    >>> parameters_to_json([7, "x"])
    {'params': [7, 'x']}

    Raises:
        BindError: they are neither a sequence nor a mapping, or a value cannot be sent.
    """
    check_parameters(params)
    if params is None:
        return {}
    named = isinstance(params, Mapping)
    plain = {str(name): value for name, value in params.items()} if isinstance(params, Mapping) else list(params)
    if _is_plain(plain):
        return {"params": plain}
    values = plain.items() if isinstance(plain, dict) else ((str(number), value) for number, value in enumerate(plain))
    columns = {name: _column(name, value) for name, value in values}
    sink = pa.BufferOutputStream()
    batch = pa.record_batch(columns)
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return {"params_arrow": b64encode(sink.getvalue()).decode(), "params_named": named}


def parameters_from_json(request: Mapping[str, Any], max_bytes: int) -> Parameters:
    """Take the parameters out of a request. As Arrow they come to at most `max_bytes`.

    Raises:
        ValueError: they are neither a list nor an object, or not one row of an Arrow stream.
    """
    if "params_arrow" in request:
        try:
            row = _only_row(b64decode(request["params_arrow"], validate=True), max_bytes)
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            raise ValueError(f"params_arrow is not one row of an Arrow IPC stream in base64: {error}") from None
        return row if request.get("params_named") else list(row.values())
    params = request.get("params")
    if params is None or isinstance(params, list | dict):
        return params
    raise ValueError(f"params must be a list or an object, not {type(params).__name__}")


def _only_row(stream: bytes, max_bytes: int) -> dict[str, Any]:
    """Read a stream of one row, of a sender that is not trusted: offsets may point anywhere, a few bytes stand for any number of values.

    Raises:
        ValueError, pa.ArrowException: it is none, or comes to more than `max_bytes`.
    """
    # No more than that are read: a few bytes are a batch too.
    batches = [decoded.batch for decoded in islice(ArrowDecoder(max_bytes).feed(stream), 2)]
    if [batch.num_rows for batch in batches] != [1]:
        raise ValueError("it has another number of rows")
    batches[0].validate(full=True)
    if (size := plain_bytes(batches[0])) > max_bytes:
        raise ValueError(f"its values come to {size:,} bytes, more than the {max_bytes:,} that are allowed")
    row: dict[str, Any] = batches[0].to_pylist()[0]
    return row


def _is_plain(value: object) -> bool:
    """Tell whether JSON gives back exactly this value."""
    match value:
        case None | bool():
            return True
        case int():
            # Longer ones are no values of SQL, and not all are taken from JSON.
            return type(value) is int and value.bit_length() <= 128
        case str():
            return type(value) is str and _is_text(value)
        case float():
            return type(value) is float and value - value == 0
        case list():
            return all(map(_is_plain, value))
        case dict():
            return all(_is_plain(key) and isinstance(key, str) and _is_plain(item) for key, item in value.items())
        case _:
            return False


def _is_text(value: str) -> bool:
    """Tell whether a text is one: half of a surrogate pair is no character."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _column(name: str, value: object) -> pa.Array:
    if (kind := _foreign(value)) is not None:
        raise BindError(
            f"a parameter of the Python type {_name(kind)} is no SQL value",
            hint="pass numbers, strings, bytes, dates, times, Decimal, UUID, lists or dicts of these, or None",
        )
    if not _is_text(name):
        raise BindError(f"there is no parameter {name!r}: half of a surrogate pair is no character")
    try:
        return pa.array([value])
    except (pa.ArrowException, OverflowError, ValueError, TypeError) as error:
        raise BindError(f"the parameter {name} cannot be sent to the service: {type(value).__name__} has no Arrow type ({error})") from None


def _foreign(value: object) -> type | None:
    """Give the type of a value, or of one in it, of which SQL has none, whatever Arrow makes of it; None if there is none."""
    match value:
        case list() | tuple():
            return next(filter(None, map(_foreign, value)), None)
        case dict():
            return next(filter(None, map(_foreign, value.values())), None)
        case _:
            return None if isinstance(value, _VALUES) else type(value)


def _name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
