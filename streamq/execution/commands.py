"""What a worker is told and what it tells, whether it is a thread or a process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from streamq.errors import StreamqError
from streamq.execution.jobs import Job, JobResult


@dataclass(frozen=True, slots=True)
class BatchesReady:
    """The next batches of a job: those of one turn. With `lend` its reader lets go of them soon."""

    job_id: int
    batches: Sequence[pa.RecordBatch]
    lend: bool = False


@dataclass(frozen=True, slots=True)
class Done:
    """A job has given all its rows."""

    job_id: int
    result: JobResult


@dataclass(frozen=True, slots=True)
class Failed:
    """A job ended with an error."""

    job_id: int
    error: StreamqError
    busy_s: float


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A job ended because it was cancelled; nothing of it is left."""

    job_id: int
    busy_s: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service has answered to its next call."""

    job_id: int
    payload: bytes


Event = BatchesReady | Answer | Done | Failed | Cancelled


@dataclass(frozen=True, slots=True)
class Open:
    """Run a job; it may take `credits` turns until more are granted."""

    job_id: int
    job: Job
    credits: int


@dataclass(frozen=True, slots=True)
class Grant:
    """Let a job take more turns."""

    job_id: int
    credits: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """End a job."""

    job_id: int


@dataclass(frozen=True, slots=True)
class Host:
    """Keep a service, which is called like a job and ends like one. `payload` is a pickled `ServiceSetup`."""

    job_id: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Call:
    """Let a service answer. `payload` is a pickled request, whose meaning is the service's own."""

    job_id: int
    payload: bytes


Command = Open | Host | Call | Grant | Cancel
