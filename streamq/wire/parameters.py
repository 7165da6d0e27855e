"""Parameters of a statement in a JSON request: as they are where JSON has them, else as a row of an Arrow stream."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from itertools import islice
from typing import Any

import pyarrow as pa

from streamq.errors import BindError
from streamq.sql.statements import Parameters
from streamq.wire.arrow import ArrowDecoder
from streamq.wire.plain_size import plain_bytes


def parameters_to_json(params: Parameters) -> dict[str, Any]:
    """Give the members of a request that carry parameters.

    >>> parameters_to_json([7, "x"])
    {'params': [7, 'x']}

    Raises:
        BindError: a value has no Arrow type.
    """
    if params is None:
        return {}
    named = isinstance(params, Mapping)
    plain = dict(params) if isinstance(params, Mapping) else list(params)
    if _is_plain(plain):
        return {"params": plain}
    values = params.items() if isinstance(params, Mapping) else ((str(number), value) for number, value in enumerate(params))
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
        case None | bool() | int() | str():
            return type(value) in (type(None), bool, int, str)
        case float():
            return type(value) is float and value - value == 0
        case list():
            return all(map(_is_plain, value))
        case dict():
            return all(type(key) is str and _is_plain(item) for key, item in value.items())
        case _:
            return False


def _column(name: str, value: object) -> pa.Array:
    try:
        return pa.array([value])
    except (pa.ArrowException, OverflowError) as error:
        raise BindError(f"the parameter {name} cannot be sent to the service: {type(value).__name__} has no Arrow type ({error})") from None
