"""A worker process: ``python -m streamq._worker SOCKET_FD MEMORY_FD FREE_FD``.

The main thread runs jobs. A second thread takes commands, interrupts what is cancelled, and ends the process when the
parent is gone, however it went: its end of the socket closes, or the system says so by a signal. Imports only what a worker
needs, because a process that starts quickly can be replaced quickly.
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import socket
import sys
import threading
from queue import SimpleQueue
from typing import NoReturn

from streamq.execution.commands import BatchesReady, Cancel, Command, Event
from streamq.execution.freed_memory import LARGEST_HEAP_BLOCK, keep_freed_memory
from streamq.execution.protocol import Frames, FromWorker, Inline, InSlot, Ready, Setup, ToWorker, pack
from streamq.execution.ring import Ring, RingFull, write_batches
from streamq.execution.runner import JobRunner, work
from streamq.execution.without_pandas import without_pandas
from streamq.kernels.session import Session

RECEIVE_BYTES = 65_536
ATTEMPTS = 100
"""How often the removal of a directory is tried while others may still write into it."""
PR_SET_PDEATHSIG = 1
ORPHANED = signal.SIGUSR2
"""The signal by which the system tells that the parent is gone, if something else holds the socket open."""
KEPT_BYTES = 64 << 20
"""What DuckDB frees between one batch and the next."""


def main() -> None:
    """Run jobs until the parent is gone."""
    socket_fd, memory_fd, free_fd = map(int, sys.argv[1:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = socket.socket(fileno=socket_fd)
    frames = Frames()
    setup, *early = _first_messages(connection, frames)
    assert isinstance(setup, Setup)
    parent = _Parent(connection, frames, setup)
    keep_freed_memory(LARGEST_HEAP_BLOCK, KEPT_BYTES)
    ring = Ring(memory_fd, free_fd, setup.slots, setup.slot_bytes)
    # What just fills a slot would not fit with its headers.
    runner = JobRunner(Session(setup.memory_bytes, setup.spill_directory), setup.worker, setup.slot_bytes * 15 // 16)
    commands: SimpleQueue[Command | None] = SimpleQueue()
    threading.Thread(target=parent.listen, args=(runner, commands, early), daemon=True).start()
    parent.tell(Ready())
    work(runner, commands, lambda events: parent.tell(*[_put(event, ring) for event in events]))


def _first_messages(connection: socket.socket, frames: Frames) -> list[ToWorker | FromWorker]:
    while data := connection.recv(RECEIVE_BYTES):
        if messages := list(frames.feed(data)):
            return messages
    os._exit(0)


def _put(event: Event, ring: Ring) -> FromWorker:
    if not isinstance(event, BatchesReady):
        return event
    try:
        return InSlot(event.job_id, *ring.put(event.batches), event.lend)
    except RingFull:
        return Inline(event.job_id, write_batches(event.batches))


class _Parent:
    """The process that this worker works for, and what happens when it is gone."""

    def __init__(self, connection: socket.socket, frames: Frames, setup: Setup) -> None:
        self._connection = connection
        self._frames = frames
        self._setup = setup
        # A signal's number is written to this pipe by the C handler, even while the main thread is deep in DuckDB.
        self._signals, wakeup = os.pipe()
        os.set_blocking(wakeup, False)
        signal.signal(ORPHANED, lambda number, frame: None)
        signal.set_wakeup_fd(wakeup)
        prctl = getattr(ctypes.CDLL(None), "prctl", None)
        if prctl is not None:
            prctl(PR_SET_PDEATHSIG, ORPHANED)
        if os.getppid() != setup.parent_pid:
            self._leave()

    def tell(self, *messages: FromWorker) -> None:
        """Send messages."""
        try:
            self._connection.sendall(b"".join(map(pack, messages)))
        except ConnectionError:
            self._leave()

    def listen(self, runner: JobRunner, commands: SimpleQueue[Command | None], early: list[ToWorker | FromWorker]) -> None:
        """Take commands until the parent is gone."""
        for message in early:
            _obey(message, runner, commands)
        ready = select.poll()
        ready.register(self._connection, select.POLLIN)
        ready.register(self._signals, select.POLLIN)
        while True:
            readable = {fd for fd, _ in ready.poll()}
            data = b"" if self._signals in readable else self._receive()
            if not data:
                self._leave()
            for message in self._frames.feed(data):
                _obey(message, runner, commands)

    def _receive(self) -> bytes:
        try:
            return self._connection.recv(RECEIVE_BYTES)
        except ConnectionError:
            return b""

    def _leave(self) -> NoReturn:
        """End this orphaned process and remove the pool's directory.

        The last to use it has to, and nobody knows who that is, so all try. The main thread and other workers may still
        create files while this goes on, but never the directory itself.
        """
        attempts = ATTEMPTS
        while attempts and os.path.exists(self._setup.directory):
            shutil.rmtree(self._setup.directory, ignore_errors=True)
            attempts -= 1
        os._exit(os.EX_OK)


def _obey(message: ToWorker | FromWorker, runner: JobRunner, commands: SimpleQueue[Command | None]) -> None:
    assert not isinstance(message, Setup)
    commands.put(message)  # type: ignore[arg-type]
    if isinstance(message, Cancel):
        runner.interrupt(message.job_id)


if __name__ == "__main__":
    with without_pandas():
        main()
