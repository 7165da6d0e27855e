"""The inside of a worker: jobs that are open on one session, advanced a few batches at a time in turn.

Synchronous and without I/O of its own: a thread or a process around it takes commands in and hands events out. A job
takes a turn when its reader has granted one, or when it writes files; otherwise it costs nothing but its memory. A service
takes a turn for every call. Every job, and every service, ends in exactly one of `Done`, `Failed` and `Cancelled`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import assert_never

from streamq.execution.commands import Answer, BatchesReady, Call, Cancel, Cancelled, Command, Event, Failed, Grant, Host, Open
from streamq.execution.jobs import Job
from streamq.execution.open_job import OpenJob
from streamq.execution.services import OpenService
from streamq.execution.turns import Turns
from streamq.kernels.session import Interrupted, Session, is_fatal, translate


def work(runner: JobRunner, commands: SimpleQueue[Command | None], deliver: Callable[[Sequence[Event]], None]) -> None:
    """Obey commands and give jobs their turns, until the command None. New commands come before the next turn."""
    while True:
        while not runner.runnable or not commands.empty():
            command = commands.get()
            if command is None:
                return
            runner.obey(command)
        if events := runner.step():
            deliver(events)


class JobRunner:
    """Runs the jobs of worker number `worker`.

    All methods belong to the worker's thread, except the interrupts, which are for every other. The batches of a turn
    have at most `turn_bytes` together (one row may be larger).
    """

    def __init__(self, session: Session, worker: int, turn_bytes: int) -> None:
        self._session = session
        self._worker = worker
        self._turn_bytes = turn_bytes
        self._jobs: dict[int, OpenJob | OpenService] = {}
        self._turns = Turns[OpenJob | OpenService]()
        self._ended: deque[Event] = deque()

    @property
    def runnable(self) -> bool:
        """`step` has something to do."""
        return bool(self._turns or self._ended)

    def obey(self, command: Command) -> None:
        """Do what a command says."""
        match command:
            case Open(job_id, job, credits):
                self.open(job_id, job, credits)
            case Host(job_id, setup):
                self._jobs[job_id] = OpenService(job_id, setup)
            case Call(job_id, request):
                self.call(job_id, request)
            case Grant(job_id, credits):
                self.grant(job_id, credits)
            case Cancel(job_id):
                self.cancel(job_id)
            case _:
                assert_never(command)

    def open(self, job_id: int, job: Job, credits: int) -> None:
        """Take a job in. Its SQL starts at its first turn."""
        opened = self._jobs[job_id] = OpenJob(job_id, job, credits, self._turn_bytes)
        self._queue(opened, newcomer=True)

    def grant(self, job_id: int, credits: int) -> None:
        """Let a job take more turns. A job that has ended needs none."""
        if isinstance(opened := self._jobs.get(job_id), OpenJob):
            opened.credits += credits
            self._queue(opened)

    def call(self, job_id: int, request: bytes) -> None:
        """Let a service answer a call in a turn. One that has ended answers no more."""
        if isinstance(opened := self._jobs.get(job_id), OpenService):
            opened.call(request)
            self._queue(opened)

    def cancel(self, job_id: int) -> None:
        """End a job now. A job that has ended stays as it ended."""
        if (opened := self._jobs.get(job_id)) is not None:
            self._end(opened)
            self._ended.append(Cancelled(job_id, opened.busy_s))

    def interrupt(self, job_id: int) -> None:
        """Stop the SQL that a job is executing at this moment, from another thread.

        Nothing happens if it is another job's turn, so whoever cancels repeats this until the job has ended.
        """
        if (opened := self._jobs.get(job_id)) is not None:
            opened.interrupt()

    def interrupt_all(self) -> None:
        """Stop whatever is executing at this moment, from another thread."""
        for opened in list(self._jobs.values()):
            opened.interrupt()

    def step(self) -> Sequence[Event]:
        """Give one job its turn. Without events: a turn that had none, or nothing to do."""
        if self._ended:
            return [self._ended.popleft()]
        if not self._turns:
            return []
        opened = self._turns.take()
        opened.queued = False
        events: list[Event] = []
        try:
            opened.take_turn(self._session, self._worker, events.append)
        except Exception as error:  # whatever a job fails with is the end of that job only
            events.append(self._failure(opened, error))
        if not events or isinstance(events[-1], BatchesReady | Answer):
            self._queue(opened)
        else:
            self._end(opened)
        return events

    def close(self) -> None:
        """End every job and the session."""
        for opened in list(self._jobs.values()):
            self._end(opened)
        self._session.close()

    def _failure(self, opened: OpenJob | OpenService, error: Exception) -> Event:
        if is_fatal(error) or (error.__cause__ is not None and is_fatal(error.__cause__)):
            self._session.close()
            self._session = self._session.reopened()
        failure = translate(error)
        if isinstance(failure, Interrupted):
            return Cancelled(opened.job_id, opened.busy_s)
        return Failed(opened.job_id, failure, opened.busy_s)

    def _queue(self, opened: OpenJob | OpenService, *, newcomer: bool = False) -> None:
        if not opened.queued and opened.may_advance:
            opened.queued = True
            self._turns.add(opened, newcomer=newcomer)

    def _end(self, opened: OpenJob | OpenService) -> None:
        del self._jobs[opened.job_id]
        if opened.queued:
            self._turns.remove(opened)
        opened.close()
