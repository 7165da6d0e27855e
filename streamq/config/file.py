"""The file ``streamq.toml``: settings by their names, and the relations that a service begins with."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEFAULT = "streamq.toml"
RELATIONS = "relations"


class WrongFile(ValueError):
    """A configuration file cannot be used. The message begins with its name."""


@dataclass(frozen=True, slots=True)
class FileRelation:
    """A relation of the section ``[relations]``: files, and event time if they have any."""

    name: str
    paths: str | list[str]
    watermark: str | None


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """What a file says. Values are not checked yet."""

    path: Path
    settings: Mapping[str, Any]
    relations: tuple[FileRelation, ...]


def read_file(path: Path, known: Collection[str]) -> ConfigFile:
    """Read a configuration file, in which every key is one of `known`.

    Raises:
        WrongFile: it is no TOML, has a key that is unknown, or a relation that says too little.
        OSError: it cannot be read.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WrongFile(f"{path} is no TOML: {error}") from None
    relations = data.pop(RELATIONS, {})
    if not isinstance(relations, dict):
        raise WrongFile(f'{path}: [relations] has lines like flights = "flights/*.parquet"')
    for key in data.keys() - known:
        near = difflib.get_close_matches(key, known, 1)
        raise WrongFile(f"{path}: there is no setting {key!r}{f': is it {near[0]!r}?' if near else ''}")
    return ConfigFile(path, data, tuple(_relation(path, name, said) for name, said in relations.items()))


def beside(path: Path, name: str) -> str:
    """Give a file's name as one that a configuration file means: relative to where that is.

    >>> beside(Path("etc/streamq.toml"), "tokens"), beside(Path("etc/streamq.toml"), "/run/tokens")
    ('etc/tokens', '/run/tokens')
    """
    return str(path.parent / name)


def _relation(path: Path, name: str, said: Any) -> FileRelation:
    paths, watermark = said, None
    if isinstance(said, dict) and said.keys() <= {"path", "watermark"}:
        paths, watermark = said.get("path"), said.get("watermark")
    if not (isinstance(paths, str) or (isinstance(paths, list) and paths and all(isinstance(each, str) for each in paths))) or not (
        watermark is None or isinstance(watermark, str)
    ):
        raise WrongFile(f'{path}: relation {name!r} must be a path, a list of paths, or {{ path = "…", watermark = "…" }}')
    return FileRelation(name, [beside(path, each) for each in paths] if isinstance(paths, list) else beside(path, paths), watermark)
