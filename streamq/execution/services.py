"""Services: what a worker keeps for a query, and is asked again and again, between the turns of jobs.

This layer knows only how a service is opened, called, interrupted and closed. What it does, and what modules that takes, comes with the
pickled setup, which is read in the worker: one that hosts no service imports nothing for it.
"""

from __future__ import annotations

import ctypes
import pickle
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

import pyarrow as pa

from streamq.errors import QueryError
from streamq.execution.commands import Answer, Event
from streamq.kernels.session import Session


class Service(Protocol):
    """What answers calls, in the worker's thread."""

    def call(self, request: object) -> object:
        """Answer one call; both are pickled on their way.

        Raises:
            StreamqError: it failed, and the service ends.
        """

    def interrupt(self) -> None:
        """Make `call` end soon, with an error. From another thread; nothing happens while none runs."""

    def close(self) -> None:
        """Give everything back."""


class ServiceSetup(Protocol):
    """How a service begins."""

    def open(self, session: Session) -> Service:
        """Make the service. It may open cursors of the session for as long as it is open."""


class OpenService:
    """A service in its worker, with the calls that wait for their turns."""

    def __init__(self, job_id: int, setup: bytes) -> None:
        self.job_id = job_id
        self.queued = False
        self._setup = setup
        self._service: Service | None = None
        self._service_lock = threading.Lock()
        self._calls: deque[bytes] = deque()
        self._busy_s = 0.0

    @property
    def may_advance(self) -> bool:
        return bool(self._calls)

    @property
    def busy_s(self) -> float:
        """The time in turns that have ended."""
        return self._busy_s

    def call(self, payload: bytes) -> None:
        """Take in a call."""
        self._calls.append(payload)

    def take_turn(self, session: Session, worker: int, tell: Callable[[Event], None]) -> None:
        """Answer the next call. A turn that raises is the last."""
        began = time.perf_counter()
        try:
            service = self._service or self._open(session)
            answer = service.call(pickle.loads(self._calls.popleft()))
        except AssertionError as error:
            raise QueryError(f"internal error: {error}") from error
        finally:
            self._busy_s += time.perf_counter() - began
        tell(Answer(self.job_id, pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)))

    def interrupt(self) -> None:
        with self._service_lock:
            if self._service is not None:
                self._service.interrupt()

    def close(self) -> None:
        """Let go of the service and of the calls that wait."""
        self._calls.clear()
        # With the lock: nobody interrupts what is being closed.
        with self._service_lock:
            service, self._service = self._service, None
            if service is not None:
                service.close()
        del service
        _give_memory_back()

    def _open(self, session: Session) -> Service:
        setup: ServiceSetup = pickle.loads(self._setup)
        service = setup.open(session)
        with self._service_lock:
            self._service = service
        return service


def _give_memory_back() -> None:
    """Have the C library give freed pages to the system: what a service kept may have been much, for long."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
    pa.default_memory_pool().release_unused()
