"""Parameters of a statement in a JSON request: as they are where JSON has them, else as a row of an Arrow stream."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from streamq.errors import BindError
from streamq.sql.statements import Parameters


def parameters_to_json(params: Parameters) -> dict[str, Any]:
    """Give the members of a request that carry parameters.

    >>> parameters_to_json([7, "x"])
    {'params': [7, 'x']}

    Raises:
        BindError: a value has no Arrow type.
    """
    if params is None:
        return {}
    if _is_plain(params):
        return {"params": dict(params) if isinstance(params, Mapping) else list(params)}
    named = isinstance(params, Mapping)
    values = params.items() if isinstance(params, Mapping) else ((str(number), value) for number, value in enumerate(params))
    columns = {name: _column(name, value) for name, value in values}
    sink = pa.BufferOutputStream()
    batch = pa.record_batch(columns)
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return {"params_arrow": b64encode(sink.getvalue()).decode(), "params_named": named}


def parameters_from_json(request: Mapping[str, Any]) -> Parameters:
    """Take the parameters out of a request.

    Raises:
        ValueError: they are neither a list nor an object, or no Arrow stream.
    """
    if "params_arrow" in request:
        try:
            row = pa.ipc.open_stream(b64decode(request["params_arrow"], validate=True)).read_all().to_pylist()[0]
        except (pa.ArrowException, ValueError, TypeError, IndexError) as error:
            raise ValueError(f"params_arrow is not one row of an Arrow IPC stream in base64: {error}") from None
        return row if request.get("params_named") else list(row.values())
    params = request.get("params")
    if params is None or isinstance(params, list | dict):
        return params
    raise ValueError(f"params must be a list or an object, not {type(params).__name__}")


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
        case Mapping():
            return all(type(key) is str and _is_plain(item) for key, item in value.items())
        case tuple():
            return False
        case _:
            return False


def _column(name: str, value: object) -> pa.Array:
    try:
        return pa.array([value])
    except (pa.ArrowException, OverflowError) as error:
        raise BindError(f"the parameter {name} cannot be sent to the service: {type(value).__name__} has no Arrow type ({error})") from None
