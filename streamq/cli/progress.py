"""Shows on the terminal how far something is, once it takes long enough for someone to wonder."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import anyio
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

from streamq.execution.stream import QueryBatchStream
from streamq.flow.scopes import one_error

DELAY_S = 0.5
"""What is quicker shows nothing."""
INTERVAL_S = 0.1


@dataclass(frozen=True, slots=True)
class Measured:
    """How far something is: `done` of `total`, in any unit; None is not known."""

    text: str
    done: int
    total: int | None


async def measure_stream(stream: QueryBatchStream) -> Measured:
    """Tell how far the scans of a started query are."""
    statistics = await stream.statistics()
    read = statistics.rows_done if statistics.continuous is None else statistics.continuous.total_rows_in
    done = min(statistics.rows_done, statistics.rows_to_read)
    return Measured(f"{read:,} rows read, {statistics.rows_out:,} out", done, statistics.rows_to_read or None)


class ProgressShown:
    """Draws what `measure` tells while the block runs; afterwards nothing of it is left on the terminal. `console` None draws nothing."""

    def __init__(self, measure: Callable[[], Awaitable[Measured]], console: Console | None) -> None:
        self._measure = measure
        self._console = console
        self._tasks = anyio.create_task_group()

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        if self._console is not None:
            self._tasks.start_soon(_draw, self._measure, self._console)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool | None:
        self._tasks.cancel_scope.cancel()
        try:
            return await self._tasks.__aexit__(kind, error, trace)
        except BaseExceptionGroup as group:
            failure = one_error(group)
            if failure is error:
                return False
            raise failure from failure.__cause__


async def _draw(measure: Callable[[], Awaitable[Measured]], console: Console) -> None:
    await anyio.sleep(DELAY_S)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as progress:
        task = progress.add_task("", total=None)
        while True:
            now = await measure()
            progress.update(task, total=now.total, completed=now.done, description=now.text)
            progress.refresh()
            await anyio.sleep(INTERVAL_S)
