"""`CREATE SOURCE … WITH (…)` of a pushed source."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from streamq.config import MAX_PARTITIONS
from streamq.errors import BindError, UnsupportedError
from streamq.sql.statements import Options
from streamq.storage.text import did_you_mean

_KNOWN = ("connector", "shards", "retention_rows", "retention_bytes", "retention")
_WORDS = {"int": "whole number", "timedelta": "interval"}
_T = TypeVar("_T", int, timedelta)


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """`shards` None leaves the number to the configuration. A source with a retention drops its oldest rows."""

    shards: int | None = None
    retention_rows: int | None = None
    retention_bytes: int | None = None
    retention: timedelta | None = None

    @property
    def retains(self) -> bool:
        """Tell whether the source drops rows by itself."""
        return any(limit is not None for limit in (self.retention_rows, self.retention_bytes, self.retention))


def source_options(options: Options, *, sql: str | None = None) -> SourceOptions:
    """Read the options of a pushed source.

    Raises:
        BindError: an option does not exist, or its value is of the wrong type or out of range.
        UnsupportedError: another connector than ``memory``.
    """
    given = dict(options)
    unknown = [name for name in given if name not in _KNOWN]
    if unknown:
        raise BindError(
            f"a source has no option {unknown[0]!r}{did_you_mean(unknown[0], _KNOWN)}",
            sql=sql,
            hint=f"options: {', '.join(_KNOWN)}",
        )
    connector = given.get("connector", "memory")
    if connector != "memory":
        raise UnsupportedError(
            f"there is no connector {connector!r}",
            sql=sql,
            hint="use 'memory', or register() for files",
        )
    shards = _positive(given, "shards", int, sql)
    if shards is not None and shards > MAX_PARTITIONS:
        raise BindError(f"shards must be at most {MAX_PARTITIONS}, not {shards}", sql=sql)
    return SourceOptions(
        shards=shards,
        retention_rows=_positive(given, "retention_rows", int, sql),
        retention_bytes=_positive(given, "retention_bytes", int, sql),
        retention=_positive(given, "retention", timedelta, sql),
    )


def _positive(given: dict[str, object], name: str, kind: type[_T], sql: str | None) -> _T | None:
    value = given.get(name)
    if value is None:
        return None
    if type(value) is kind and value > kind():
        return value
    raise BindError(f"{name} must be a positive {_WORDS[kind.__name__]}, not {value!r}", sql=sql)
