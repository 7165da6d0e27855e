"""Workers that are processes of their own: isolated, limited in memory, and killed when they do not let go.

Each worker has a thread here that starts it, takes its batches out of the ring as they come, and sees it end. The
thread is also the worker's parent as the system knows it, so it lives as long as the worker.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
from contextlib import AbstractAsyncContextManager
from typing import Literal, Self

from streamq.errors import StreamqError
from streamq.execution.budget import ring_slots, session_bytes
from streamq.execution.commands import Answer, BatchesReady, Cancelled, Command, Done, Failed
from streamq.execution.jobs import Job
from streamq.execution.pool import Pool, PostReport, Report, WorkerEnded, WorkerReady
from streamq.execution.protocol import Frames, FromWorker, Inline, InSlot, Ready, Setup, ToWorker, pack
from streamq.execution.ring import Ring, check_platform, read_batches
from streamq.execution.tables import SharedTables

RECEIVE_BYTES = 65_536
START_S = 60.0
"""A worker that has not reported by then never will: it starts in a fraction of a second."""


class ProcessPool(Pool):
    """Runs jobs in worker processes. An async context manager.

    Raises (from entering):
        StreamqError: the platform has no shared memory files.
    """

    kind: Literal["process", "thread"] = "process"

    async def __aenter__(self) -> Self:
        self._tables = SharedTables()
        return await super().__aenter__()

    def _check_platform(self) -> None:
        check_platform()

    def _start_worker(self, number: int, post: PostReport) -> _ProcessLink:
        config = self.config
        setup = Setup(
            worker=number,
            parent_pid=os.getpid(),
            memory_bytes=session_bytes(config, self.kind),
            directory=self.directory,
            spill_directory=os.path.join(self.directory, f"worker-{number}"),
            slots=ring_slots(config),
            slot_bytes=config.slot_bytes,
        )
        return _ProcessLink(setup, post)

    def _reachable(self, job: Job) -> AbstractAsyncContextManager[Job]:
        return self._tables.reachable(job)


class _ProcessLink:
    """One worker process, its socket and its ring."""

    def __init__(self, setup: Setup, post: PostReport) -> None:
        self._setup = setup
        self._post = post
        self._outbox = _Outbox()
        self._process: subprocess.Popen[bytes] | None = None
        self._killed = False
        self._process_lock = threading.Lock()
        self._thread = threading.Thread(target=self._main, name=f"streamq worker {setup.worker}", daemon=True)
        self._outbox.send(pack(setup))
        self._thread.start()

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def send(self, command: Command) -> None:
        self._outbox.send(pack(command))

    def kill(self) -> None:
        with self._process_lock:
            self._killed = True
            if self._process is not None:
                self._process.kill()

    def stop(self) -> None:
        self.kill()

    def join(self) -> None:
        self._thread.join()
        self._outbox.close()

    # In the worker's thread

    def _main(self) -> None:
        try:
            reason = self._run()
        except (OSError, StreamqError) as error:
            reason = f"could not be started: {error}"
        except Exception as error:  # the thread's last words: they fail the worker's jobs
            reason = f"could not be understood: {type(error).__name__}: {error}"
        self._post(self, [WorkerEnded(reason)])

    def _run(self) -> str:
        ring = Ring.make(self._setup.slots, self._setup.slot_bytes)
        try:
            process = self._spawn(ring)
            try:
                self._receive(ring)
            except BaseException:
                process.kill()
                raise
            finally:
                # The other end of the socket closes when the worker's process goes, and no sooner.
                code = process.wait()
        finally:
            ring.close()
        return f"with pid {process.pid} {_describe_exit(code)}"

    def _spawn(self, ring: Ring) -> subprocess.Popen[bytes]:
        theirs = self._outbox.theirs
        # The mask is inherited: Ctrl-C is the parent's to handle, also while the worker still starts.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        fds = (theirs.fileno(), ring.memory_fd, ring.free_fd)
        with self._process_lock:
            process = self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "streamq._worker", *map(str, fds)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=fds,
                env=_environment(),
            )
            if self._killed:
                process.kill()
        theirs.close()
        return process

    def _receive(self, ring: Ring) -> None:
        """Pass on what the worker says, until it says no more."""
        if not self._outbox.wait_readable(START_S):
            raise StreamqError(f"it said nothing within {START_S:g} s")
        frames = Frames()
        while data := self._outbox.receive():
            reports = [_report(message, ring) for message in frames.feed(data)]
            if reports:
                self._post(self, reports)


def _environment() -> dict[str, str]:
    """Give a worker's environment: it finds what this process finds, and numpy starts no threads there.

    A worker does no linear algebra, for which numpy would start one for each processor before it is ready.
    """
    return {"OPENBLAS_NUM_THREADS": "1", **os.environ, "PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path)}


def _report(message: ToWorker | FromWorker, ring: Ring) -> Report:
    match message:
        case InSlot(job_id, slot, length, lend):
            return BatchesReady(job_id, ring.take(slot, length, lend=lend))
        case Inline(job_id, body):
            return BatchesReady(job_id, read_batches(body))
        case Answer() | Done() | Failed() | Cancelled():
            return message
        case Ready():
            return WorkerReady()
        case _:
            raise StreamqError(f"unexpected message {message!r}")


class _Outbox:
    """This process's end of a worker's socket. Sending never blocks, whoever calls."""

    def __init__(self) -> None:
        self._ours, self.theirs = socket.socketpair()
        self._lock = threading.Lock()
        self._waiting = bytearray()
        self._flusher: threading.Thread | None = None

    def send(self, data: bytes) -> None:
        """Send at once what the socket takes; a thread sends the rest as the worker reads. Dropped if the worker is gone."""
        with self._lock:
            if not self._waiting:
                data = data[self._send_now(data) :]
            if data:
                self._waiting += data
                if self._flusher is None:
                    self._flusher = threading.Thread(target=self._flush, name="streamq outbox", daemon=True)
                    self._flusher.start()

    def wait_readable(self, timeout_s: float) -> bool:
        """Wait until the worker says something or is gone; False if it does not in time."""
        poll = select.poll()
        poll.register(self._ours, select.POLLIN)
        return bool(poll.poll(timeout_s * 1_000))

    def receive(self) -> bytes:
        """Wait for what the worker says; nothing when it is gone."""
        try:
            return self._ours.recv(RECEIVE_BYTES)
        except ConnectionResetError:
            return b""

    def close(self) -> None:
        """Close the socket, once the worker is gone."""
        self.theirs.close()
        flusher = self._flusher
        if flusher is not None:
            flusher.join()
        self._ours.close()

    def _send_now(self, data: bytes) -> int:
        try:
            return self._ours.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        except ConnectionError:
            return len(data)

    def _flush(self) -> None:
        while True:
            with self._lock:
                data = bytes(self._waiting[:RECEIVE_BYTES])
                if not data:
                    self._flusher = None
                    return
            try:
                self._ours.sendall(data)
            except ConnectionError:
                data = bytes(self._waiting)
            with self._lock:
                del self._waiting[: len(data)]


def _describe_exit(code: int) -> str:
    """Say how a process ended.

    >>> _describe_exit(-9), _describe_exit(1)
    ('was killed by SIGKILL', 'exited with code 1')
    """
    if code >= 0:
        return f"exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was killed by {name}"
