"""What `streamq serve` runs with: options, variables and a file put together, and written out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from streamq.cli.arguments import ServeCommand, UsageError
from streamq.config import Config
from streamq.config.checks import WrongSetting
from streamq.config.file import DEFAULT, ConfigFile, FileRelation, WrongFile, read_file
from streamq.config.service import Limits, ServiceConfig
from streamq.config.sources import Setting, find_settings, make

_KINDS = (ServiceConfig, Limits, Config)
_FILE_VARIABLE = "STREAMQ_CONFIG"


@dataclass(frozen=True, slots=True)
class ServeSettings:
    """Everything that a service begins with. `found` says where each setting was set, `origins` each relation."""

    service: ServiceConfig
    limits: Limits
    database: Config
    relations: Mapping[str, FileRelation]
    found: Mapping[str, Setting]
    origins: Mapping[str, str]


def load_settings(command: ServeCommand, environ: Mapping[str, str]) -> ServeSettings:
    """Put the settings together: options before variables before the file before defaults.

    Raises:
        UsageError: a setting is wrong, or the file; the message says which, and where it was set.
        OSError: the file cannot be read.
    """
    try:
        file = _read_file(command, environ)
        found = find_settings(_KINDS, command.arguments, environ, file)
        service, limits, database = make(ServiceConfig, found), make(Limits, found), make(Config, found)
    except (WrongSetting, WrongFile) as error:
        raise UsageError(str(error)) from error
    relations = {} if file is None else {relation.name: relation for relation in file.relations}
    origins = {name: str(file.path) for name in relations} if file is not None else {}
    for name, path in command.relations:
        relations[name], origins[name] = FileRelation(name, path, None), "-r"
    return ServeSettings(service, limits, database, relations, found, origins)


def describe_settings(settings: ServeSettings) -> str:
    """Write the settings as a file would say them, each with where it was set. Tokens are not among them: they are in a file of their own.

    A setting that is not set is a comment.
    """
    lines = []
    for kind in _KINDS:
        lines += [_line(settings.found[field.name]) for field in fields(kind)]
        lines.append("")
    lines.append("[relations]")
    for name, relation in settings.relations.items():
        value = _toml(relation.paths)
        if relation.watermark is not None:
            value = f"{{ path = {value}, watermark = {_toml(relation.watermark)} }}"
        lines.append(f"{_toml(name)} = {value}  # {settings.origins[name]}")
    return "\n".join(lines) + "\n"


def _read_file(command: ServeCommand, environ: Mapping[str, str]) -> ConfigFile | None:
    named = command.config or environ.get(_FILE_VARIABLE)
    if named is None and not Path(DEFAULT).exists():
        return None
    return read_file(Path(named or DEFAULT), {field.name for kind in _KINDS for field in fields(kind)})


def _line(setting: Setting) -> str:
    if setting.value is None:
        return f"# {setting.name} is not set"
    return f"{setting.name} = {_toml(setting.value)}  # {setting.origin}"


def _toml(value: Any) -> str:
    """Write a value as TOML.

    >>> print(_toml("a\\tb"), _toml(True), _toml(2.5), _toml(("a", "b")))
    "a\\tb" true 2.5 ["a", "b"]
    """
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
