"""Frozen data (statistics, progress, results) as JSON, and back by the types that its fields declare."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Mapping, Sequence
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
    kind: Any = type(value)
    return _writer(kind)(value)


def from_json(kind: type[T], value: Any) -> T:
    """Make a value of a type from JSON. Fields of a dataclass that are missing have their defaults, unknown ones are left out.

    >>> from_json(Progress, {"epoch": 3, "epoch_complete": True, "positions": {"t": 5}}).positions
    {'t': 5}
    """
    return cast(T, _reader(cast(Any, kind))(value))


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


@functools.cache
def _writer(kind: Any) -> Callable[[Any], Any]:
    """Give what writes the values of a type. To look at what they are takes longer than to write them."""
    if issubclass(kind, str | int | None):
        return _same
    if issubclass(kind, float):
        return lambda value: value if value - value == 0 else str(value)
    if issubclass(kind, datetime):
        return datetime.isoformat
    if issubclass(kind, Mapping):
        return _write_mapping
    if issubclass(kind, Sequence | AbstractSet):
        return lambda value: [to_json(item) for item in value]
    if is_dataclass(kind):
        names = [field.name for field in fields(kind)]
        return lambda value: {name: to_json(getattr(value, name)) for name in names}
    raise TypeError(f"JSON has no {kind.__name__}")


def _write_mapping(value: Mapping[object, object]) -> Any:
    if all(isinstance(key, str) for key in value):
        return {key: to_json(item) for key, item in value.items()}
    return [[to_json(key), to_json(item)] for key, item in value.items()]


@functools.cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    """Give what reads the values of a type. What its parts are is found out once."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        given = _reader(next(argument for argument in arguments if argument is not type(None)))
        return lambda value: None if value is None else given(value)
    if origin is Literal or kind in (Any, object, str, bool, int):
        return _same
    if kind is float:
        return float
    if kind is datetime:
        return datetime.fromisoformat
    if origin is tuple and arguments[-1] is not Ellipsis:
        readers = [_reader(argument) for argument in arguments]
        return lambda value: tuple(read(item) for read, item in zip(readers, value, strict=True))
    if origin in (tuple, frozenset):
        read = _reader(arguments[0])
        return lambda value: origin(map(read, value))
    if origin is Mapping:
        read_key, read_item = map(_reader, arguments)
        return lambda value: {read_key(key): read_item(item) for key, item in (value.items() if isinstance(value, dict) else value)}
    parts = {name: _reader(hint) for name, hint in field_types(kind).items()}
    return lambda value: kind(**{name: read(value[name]) for name, read in parts.items() if name in value})


def _same(value: Any) -> Any:
    return value
