"""Where results go: a file descriptor, or a file that appears only once it is complete.

Bytes are written unbuffered, so nothing is left to be flushed into a pipe that has no reader any more.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

STDOUT_FD = 1


class ByteSink(Protocol):
    """Takes bytes, waiting until they are gone."""

    def write(self, data: bytes | memoryview) -> None: ...


class FdSink:
    """Writes to a file descriptor that someone else closes.

    Raises (from `write`):
        BrokenPipeError: nobody reads the other end.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, data: bytes | memoryview) -> None:
        """Write all of `data`, however little the descriptor takes at once."""
        rest = memoryview(data).cast("B")
        while rest:
            rest = rest[os.write(self._fd, rest) :]


@contextmanager
def open_sink(path: str | None) -> Iterator[ByteSink]:
    """Open standard output (None) or a file.

    A new or regular file is written under another name beside it and takes its place at the end, if the block ends without an
    error: an incomplete answer is never found under the name that was asked for. Devices and pipes are written as they are.

    Raises:
        OSError: the file cannot be made.
    """
    if path is None:
        yield FdSink(STDOUT_FD)
        return
    target = Path(path)
    if target.exists() and not stat.S_ISREG(target.stat().st_mode):
        with target.open("wb", buffering=0) as file:
            yield FdSink(file.fileno())
        return
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "the directory does not exist", path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with partial.open("xb", buffering=0) as file:
            yield FdSink(file.fileno())
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
