"""Frozen data (statistics, progress, results) as JSON, and back by the types that its fields declare."""

from __future__ import annotations

import functools
import types
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from datetime import datetime
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from streamq.execution.query import Progress
from streamq.plan.explain import StageRun

T = TypeVar("T")

_NAMES = {"StageRun": StageRun}
"""Types that a module of statistics imports for annotations alone."""


def to_json(value: object) -> Any:
    """Give a value of frozen data as JSON has it: times as ISO 8601, mappings with keys that are no text as pairs, infinities as text."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if value - value == 0 else str(value)
        case datetime():
            return value.isoformat()
        case Mapping():
            if all(isinstance(key, str) for key in value):
                return {key: to_json(item) for key, item in value.items()}
            return [[to_json(key), to_json(item)] for key, item in value.items()]
        case Sequence() | AbstractSet():
            return [to_json(item) for item in value]
        case _ if is_dataclass(value):
            return {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
        case _:
            raise TypeError(f"JSON has no {type(value).__name__}")


def from_json(kind: type[T], value: Any) -> T:
    """Make a value of a type from JSON. Fields of a dataclass that are missing have their defaults, unknown ones are left out.

    >>> from_json(Progress, {"epoch": 3, "epoch_complete": True, "positions": {"t": 5}}).positions
    {'t': 5}
    """
    return cast(T, _read(kind, value))


def field_types(kind: type) -> dict[str, Any]:
    """Give the types of a dataclass's fields, by name."""
    return get_type_hints(kind, localns=_NAMES)


def progress_to_json(progress: Progress) -> dict[str, Any]:
    """Give where a batch stands."""
    return cast(dict[str, Any], to_json(progress))


def progress_from_json(value: Mapping[str, Any]) -> Progress:
    """Make the progress of a batch; its watermarks are times."""
    progress = from_json(Progress, value)
    watermarks = {name: None if text is None else datetime.fromisoformat(str(text)) for name, text in progress.watermarks.items()}
    return Progress(progress.epoch, progress.epoch_complete, watermarks, progress.positions)


def _read(kind: Any, value: Any) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        if value is None:
            return None
        return _read(next(argument for argument in arguments if argument is not type(None)), value)
    if origin is Literal or kind in (Any, object, str, bool, int):
        return value
    if kind is float:
        return float(value)
    if kind is datetime:
        return datetime.fromisoformat(value)
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return tuple(_read(arguments[0], item) for item in value)
        return tuple(_read(argument, item) for argument, item in zip(arguments, value, strict=True))
    if origin is frozenset:
        return frozenset(_read(arguments[0], item) for item in value)
    if origin is Mapping:
        pairs = value.items() if isinstance(value, dict) else value
        return {_read(arguments[0], key): _read(arguments[1], item) for key, item in pairs}
    return kind(**{name: _read(hint, value[name]) for name, hint in _fields(kind).items() if name in value})


@functools.cache
def _fields(kind: type) -> Mapping[str, Any]:
    """Give the types of a dataclass's fields. They are written as text, which takes long to read."""
    hints = get_type_hints(kind, localns=_NAMES)
    return {field.name: hints[field.name] for field in fields(kind)}
