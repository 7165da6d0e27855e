"""What the two ends of a worker process say to each other, and how it is framed.

A frame is its length in eight bytes and a pickled message. The socket is private to a process and its worker, so
pickle is safe. Batches do not travel here: a worker puts them into its ring and says where.
"""

from __future__ import annotations

import pickle
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from streamq.execution.commands import Answer, Cancelled, Command, Done, Failed

_LENGTH = struct.Struct("!Q")


@dataclass(frozen=True, slots=True)
class Setup:
    """A worker's first message: who it is, what it may use, and the directory to remove if its parent dies."""

    worker: int
    parent_pid: int
    memory_bytes: int
    directory: str
    spill_directory: str
    slots: int
    slot_bytes: int


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker has started."""


@dataclass(frozen=True, slots=True)
class InSlot:
    """A job's next batches are in slot number `slot` of the ring: `length` bytes of an Arrow stream.

    With `lend` they need not be copied.
    """

    job_id: int
    slot: int
    length: int
    lend: bool


@dataclass(frozen=True, slots=True)
class Inline:
    """A job's next batches, which no slot can hold, as an Arrow stream."""

    job_id: int
    data: bytes


ToWorker = Setup | Command
FromWorker = Ready | InSlot | Inline | Answer | Done | Failed | Cancelled


def pack(message: ToWorker | FromWorker) -> bytes:
    """Frame a message.

    >>> [message for message in Frames().feed(pack(Ready()) + pack(Inline(1, b"rows")))]
    [Ready(), Inline(job_id=1, data=b'rows')]
    """
    body = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(body)) + body


class Frames:
    """Takes bytes as they arrive, gives messages as they are complete."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[ToWorker | FromWorker]:
        """Add bytes and give the messages that they complete."""
        self._buffer += data
        while len(self._buffer) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._buffer)
            end = _LENGTH.size + length
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]
            yield pickle.loads(body)
