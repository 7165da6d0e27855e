"""JSON Schema of frozen data, as `streamq.wire.records.to_json` writes it."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Any, Literal, Union, get_args, get_origin

from streamq.wire.records import field_types

Schema = dict[str, Any]


def schema_of(kind: Any, definitions: dict[str, Schema]) -> Schema:
    """Give the schema of a type's values. Those of dataclasses are put into `definitions` under their names, and referred to.

    >>> schema_of(tuple[int, ...] | None, {})
    {'anyOf': [{'type': 'array', 'items': {'type': 'integer'}}, {'type': 'null'}]}
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if is_dataclass(kind) and isinstance(kind, type):
        return _dataclass(kind, definitions)
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema_of(one, definitions) for one in arguments]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple and arguments[-1] is not Ellipsis:
        items = [schema_of(one, definitions) for one in arguments]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "maxItems": len(items)}
    if origin in (tuple, frozenset, list):
        return {"type": "array", "items": schema_of(arguments[0], definitions)}
    if origin is Mapping:
        return _mapping(arguments[0], arguments[1], definitions)
    return dict(_PLAIN[kind])


_PLAIN: Mapping[Any, Schema] = {
    type(None): {"type": "null"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    str: {"type": "string"},
    # What JSON has no number for is written as text.
    float: {"anyOf": [{"type": "number"}, {"enum": ["inf", "-inf", "nan"]}]},
    datetime: {"type": "string", "format": "date-time"},
    object: {},
    Any: {},
}


def _dataclass(kind: type, definitions: dict[str, Schema]) -> Schema:
    name = kind.__name__
    if name not in definitions:
        definitions[name] = {}
        hints = field_types(kind)
        properties = {field.name: schema_of(hints[field.name], definitions) for field in fields(kind)}
        definitions[name] = {
            "type": "object",
            "description": (kind.__doc__ or "").strip().split("\n\n")[0],
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }
    return {"$ref": f"#/components/schemas/{name}"}


def _mapping(key: Any, value: Any, definitions: dict[str, Schema]) -> Schema:
    values = schema_of(value, definitions)
    if key is str:
        return {"type": "object", "additionalProperties": values}
    pair = {"type": "array", "prefixItems": [schema_of(key, definitions), values], "minItems": 2, "maxItems": 2}
    # Keys that are no text make it pairs; with none of either it is an empty object.
    return {"anyOf": [{"type": "array", "items": pair}, {"type": "object", "maxProperties": 0}]}
