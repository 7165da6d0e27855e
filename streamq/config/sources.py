"""Where settings come from: arguments, else ``STREAMQ_*`` in the environment, else a file, else the default."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from streamq.config.checks import WrongSetting
from streamq.config.file import ConfigFile, beside
from streamq.config.service import FILES

T = TypeVar("T")
_TRUE, _FALSE = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True, slots=True)
class Setting:
    """A value, and where it was set: ``default``, an option, a variable, or a file."""

    name: str
    value: Any
    origin: str


def find_settings(
    kinds: Sequence[type], arguments: Mapping[str, tuple[str, Any]], environ: Mapping[str, str], file: ConfigFile | None = None
) -> dict[str, Setting]:
    """Look for the settings that dataclasses have, by name.

    `arguments` have the option with the value.

    Raises:
        WrongSetting: a value is of the wrong type; the message says where it was set.
    """
    found: dict[str, Setting] = {}
    for kind in kinds:
        hints = get_type_hints(kind)
        for field in fields(kind):
            found[field.name] = _find(field, hints[field.name], arguments, environ, file)
    return found


def make(kind: type[T], settings: Mapping[str, Setting]) -> T:
    """Make a dataclass of its settings.

    Raises:
        WrongSetting: a value is out of range, or does not go with another; the message says where it was set.
    """
    assert isinstance(kind, type)
    values = {field.name: settings[field.name].value for field in fields(kind)}  # type: ignore[arg-type]
    try:
        return kind(**values)
    except WrongSetting as error:
        origin = settings[error.name].origin
        if origin in (error.name, "default"):
            raise
        raise WrongSetting(error.name, f"{origin}: {error}") from None


def from_text(name: str, text: str, kind: Any) -> Any:
    """Read a setting's value from a text.

    >>> from_text("port", "8_471", int), from_text("hosts", "a.example, b.example", tuple[str, ...]), from_text("insecure", "yes", bool)
    (8471, ('a.example', 'b.example'), True)

    Raises:
        WrongSetting: it is none of this type.
    """
    plain = _without_none(kind)
    try:
        match plain:
            case _ if plain is not kind and text.lower() in ("", "none"):
                return None
            case _ if plain in (int, float):
                return plain(text)
            case _ if plain is bool:
                return {**dict.fromkeys(_TRUE, True), **dict.fromkeys(_FALSE, False)}[text.lower()]
            case _ if get_origin(plain) is tuple:
                return tuple(part.strip() for part in text.split(",") if part.strip())
            case _:
                return _checked(name, text, plain)
    except (ValueError, KeyError):
        raise WrongSetting(name, f"{name} must be {_words(kind)}, not {text!r}") from None


def from_data(name: str, value: Any, kind: Any) -> Any:
    """Take a setting's value from data that has types, as a file does.

    Raises:
        WrongSetting: it is of another type.
    """
    plain = _without_none(kind)
    if get_origin(plain) is tuple and isinstance(value, list) and all(isinstance(part, str) for part in value):
        return tuple(value)
    if plain is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if get_origin(plain) is Literal or (get_origin(plain) is None and type(value) is plain):
        return _checked(name, value, plain)
    raise WrongSetting(name, f"{name} must be {_words(kind)}, not {value!r}")


def _find(
    field: Field[Any], kind: Any, arguments: Mapping[str, tuple[str, Any]], environ: Mapping[str, str], file: ConfigFile | None
) -> Setting:
    name = field.name
    if name in arguments:
        option, value = arguments[name]
        return Setting(name, value, option)
    variable = f"STREAMQ_{name.upper()}"
    origin = variable
    try:
        if variable in environ:
            return Setting(name, from_text(name, environ[variable], kind), variable)
        if file is not None and name in file.settings:
            origin = str(file.path)
            value = from_data(name, file.settings[name], kind)
            return Setting(name, beside(file.path, value) if name in FILES and value is not None else value, origin)
    except WrongSetting as error:
        raise WrongSetting(name, f"{origin}: {error}") from None
    default = field.default if field.default_factory is MISSING else field.default_factory()
    return Setting(name, default, "default")


def _checked(name: str, value: Any, kind: Any) -> Any:
    if get_origin(kind) is Literal and value not in get_args(kind):
        raise WrongSetting(name, f"{name} must be {_words(kind)}, not {value!r}")
    return value


def _without_none(kind: Any) -> Any:
    """Give the type of a setting that may be None.

    >>> _without_none(int | None), _without_none(str)
    (<class 'int'>, <class 'str'>)
    """
    if get_origin(kind) in (types.UnionType, Union):
        return next(part for part in get_args(kind) if part is not type(None))
    return kind


def _words(kind: Any) -> str:
    """Say what a setting is.

    >>> _words(int | None), _words(Literal["text", "json"]), _words(bool)
    ('a whole number', 'text or json', 'true or false')
    """
    plain = _without_none(kind)
    if get_origin(plain) is Literal:
        *others, last = get_args(plain)
        return f"{', '.join(others)} or {last}"
    if get_origin(plain) is tuple:
        return "a list of texts"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[plain]
