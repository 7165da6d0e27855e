"""Workers that are threads of this process: cheap to reach, for small queries and for platforms without shared memory files.

A thread cannot be killed. DuckDB lets go of the interpreter lock while it works, and is interrupted when a job is cancelled.
"""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from queue import SimpleQueue
from typing import Literal

from streamq.config import Config
from streamq.execution.budget import session_bytes
from streamq.execution.commands import Cancel, Command
from streamq.execution.jobs import Job
from streamq.execution.pool import Pool, PostReport, WorkerEnded, WorkerReady
from streamq.execution.runner import JobRunner, work
from streamq.kernels.session import Session


class ThreadPool(Pool):
    """Runs jobs in threads. An async context manager."""

    kind: Literal["process", "thread"] = "thread"

    def _check_platform(self) -> None:
        """Do nothing: there are threads everywhere."""

    def _start_worker(self, number: int, post: PostReport) -> _ThreadLink:
        return _ThreadLink(number, self.config, os.path.join(self.directory, f"worker-{number}"), post)

    @asynccontextmanager
    async def _reachable(self, job: Job) -> AsyncIterator[Job]:
        yield job


class _ThreadLink:
    """One thread with its session."""

    pid = None

    def __init__(self, number: int, config: Config, directory: str, post: PostReport) -> None:
        self._number = number
        self._config = config
        self._directory = directory
        self._post = post
        self._commands: SimpleQueue[Command | None] = SimpleQueue()
        self._runner: JobRunner | None = None
        # A daemon, so that a program whose event loop was torn down without leaving the pool can still exit.
        self._thread = threading.Thread(target=self._main, name=f"streamq worker {number}", daemon=True)
        self._thread.start()

    def send(self, command: Command) -> None:
        self._commands.put(command)
        if isinstance(command, Cancel) and self._runner is not None:
            self._runner.interrupt(command.job_id)

    def kill(self) -> None:
        """Do nothing: the interrupts go on."""

    def stop(self) -> None:
        self._commands.put(None)
        if self._runner is not None:
            self._runner.interrupt_all()

    def join(self) -> None:
        self._thread.join()

    def _main(self) -> None:
        reason = "was stopped"
        try:
            session = Session(session_bytes(self._config, "thread"), self._directory)
            runner = self._runner = JobRunner(session, self._number, self._config.slot_bytes)
            self._post(self, [WorkerReady()])
            try:
                work(runner, self._commands, lambda events: self._post(self, events))
            finally:
                self._runner = None
                runner.close()
        except Exception as error:  # the thread's last words: they fail its jobs
            reason = f"ended with {type(error).__name__}: {error}"
        finally:
            self._post(self, [WorkerEnded(reason)])
