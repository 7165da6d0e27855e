"""Ends a command on Ctrl-C: its tasks are cancelled, so everything it opened is closed before the process ends."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence

import anyio
import anyio.abc

from streamq.flow.scopes import raising_one

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def exit_code(signum: int) -> int:
    """Give the exit code by which shells know a process that a signal ended.

    >>> exit_code(signal.SIGINT)
    130
    """
    return 128 + signum


async def run_until_signal(command: Callable[[], Awaitable[int]], signals: Sequence[signal.Signals] = SIGNALS) -> int:
    """Run a command until it gives its exit code, or until Ctrl-C or a termination signal cancels it.

    A command that has another use for Ctrl-C leaves it out of `signals`.

    A second signal ends the process at once; workers end with it.
    """
    if sys.platform == "win32":
        # There, event loops cannot wait for signals: KeyboardInterrupt cancels the main task instead.
        return await command()
    code = 0
    received: list[int] = []
    with raising_one():
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as scope:
                await tasks.start(_cancel_on_signal, scope, signals, received)
                code = await command()
            tasks.cancel_scope.cancel()
    return exit_code(received[0]) if scope.cancelled_caught else code


async def _cancel_on_signal(
    scope: anyio.CancelScope, awaited: Sequence[signal.Signals], received: list[int], *, task_status: anyio.abc.TaskStatus[None]
) -> None:
    with anyio.open_signal_receiver(*awaited) as signals:
        task_status.started()
        async for signum in signals:
            if received:
                os._exit(exit_code(signum))
            received.append(signum)
            scope.cancel()
