"""Which files a path, a glob or a list means, and whether they are still the same."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from streamq.errors import SourceError


@dataclass(frozen=True, slots=True)
class PinnedFile:
    """A file as it was when it was registered."""

    path: str
    size: int
    mtime_ns: int

    def check(self, relation: str) -> None:
        """Check that the file is still the one that was registered.

        Raises:
            SourceError: it is gone, or its size or modification time changed.
        """
        try:
            now = os.stat(self.path)
        except OSError as error:
            raise SourceError(f"{relation}: {self.path} was registered and cannot be read any more: {error.strerror}") from error
        if (now.st_size, now.st_mtime_ns) != (self.size, self.mtime_ns):
            raise SourceError(f"{relation}: {self.path} changed after it was registered; register it again to read it as it is now")


def find_files(relation: str, spec: object) -> tuple[PinnedFile, ...]:
    """Pin the files of a path, glob or list of these, in order of the list, a glob's by name. No file comes twice.

    Raises:
        SourceError: nothing matches, or what does is not a file.
    """
    parts: Sequence[Any] = spec if isinstance(spec, list | tuple) else [spec]
    paths: dict[str, None] = {}
    for part in parts:
        text = os.path.expanduser(os.fspath(part))
        paths.update(dict.fromkeys(os.path.abspath(path) for path in _matches(relation, text)))
    return tuple(_pin(relation, path) for path in paths)


def _matches(relation: str, text: str) -> Iterable[str]:
    # A file may have a name that looks like a pattern.
    if os.path.exists(text) or not glob.has_magic(text):
        return [text]
    found = sorted(path for path in glob.glob(text, recursive=True) if not os.path.isdir(path))
    if not found:
        raise SourceError(f"{relation}: no file matches {text!r} (from {os.getcwd()})")
    return found


def _pin(relation: str, path: str) -> PinnedFile:
    try:
        found = os.stat(path)
        with open(path, "rb") if stat.S_ISREG(found.st_mode) else os.scandir(path):
            pass
    except NotADirectoryError:
        raise SourceError(f"{relation}: {path} is neither a file nor a directory") from None
    except OSError as error:
        raise SourceError(f"{relation}: cannot read {path}: {error.strerror}") from error
    if stat.S_ISDIR(found.st_mode):
        raise SourceError(f"{relation}: {path} is a directory; name the files in it, such as {os.path.join(path, '*.parquet')!r}")
    return PinnedFile(path, found.st_size, found.st_mtime_ns)
