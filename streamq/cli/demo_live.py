"""The live part of the demonstration: a month of flights, pushed as it happened, with continuous queries that follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import anyio
import anyio.to_thread
import pyarrow as pa
import pyarrow.compute as pc

from streamq.cli.demo_board import Board, draw_board
from streamq.cli.demo_page import Page
from streamq.cli.demo_steps import DAYS, LIVE, LIVE_REMARK, LIVE_SOURCES, LIVE_TITLE, MONTH, REPLAYED, Step
from streamq.cli.folded import Folded
from streamq.cli.table import Excerpt
from streamq.cli.watch import Rate
from streamq.cli.wording import count
from streamq.database import Database
from streamq.execution.statistics import ContinuousStatistics
from streamq.execution.stream import QueryBatchStream
from streamq.flow.scopes import raising_one
from streamq.plan.sizes import human_bytes
from streamq.sql.order import output_order
from streamq.sql.parse import parse_one
from streamq.sql.statements import Select

REPLAY_S = 15.0
"""How long the month takes on a terminal."""
INTERVAL_S = 0.1
SHOWN_DAYS = (10, 20)
"""After so many days a state is shown where nothing can be drawn over."""
KEPT_ROWS = 100
HOURS_AT_ONCE = 12
"""Where nobody looks on, so many hours are pushed at a time."""


@dataclass(frozen=True, slots=True)
class Push:
    """Rows that happened until `end`, by source."""

    end: datetime
    rows: Mapping[str, pa.Table]


@dataclass(eq=False)
class Followed:
    """A query that follows, and its result so far, which is the answer over the first `read` rows of each relation."""

    step: Step
    stream: QueryBatchStream
    folded: Folded
    read: Mapping[str, int] = field(default_factory=dict)


async def show_live(db: Database, page: Page) -> None:
    """Push a month into two sources, and show what the queries that follow make of it.

    Raises:
        BrokenPipeError: nobody reads standard output any more.
    """
    for statement in LIVE_SOURCES:
        await db.execute(statement)
    pushes = await load_month(db, 1 if page.in_place else HOURS_AT_ONCE)
    await page.show_live_intro(LIVE_TITLE, LIVE_REMARK, LIVE_SOURCES, LIVE)
    async with AsyncExitStack() as stack:
        followed = [await _follow(db, step, stack) for step in LIVE]
        replay = Replay(db, page, followed)
        await replay.run(pushes)
        await page.show_facts(await _facts(db, followed))


async def load_month(db: Database, hours: int) -> list[Push]:
    """Give the rows of the month in the order in which they are to be pushed, so many hours at a time."""
    start, stop = (datetime.fromisoformat(text) for text in MONTH)
    tables = {source: await db.fetch(sql, {"start": start, "stop": stop}) for source, sql in REPLAYED}
    return await anyio.to_thread.run_sync(cut_hours, tables, start, hours)


def cut_hours(tables: Mapping[str, pa.Table], start: datetime, hours: int) -> list[Push]:
    """Cut tables, whose column `at` is when a row happened, into runs of some hours; they are given without it."""
    step = pa.scalar(hours * 3_600_000_000, pa.int64())
    first = pa.scalar(start, pa.timestamp("us"))
    numbers = {name: pc.divide(pc.subtract(table.column("at"), first).cast(pa.int64()), step) for name, table in tables.items()}
    wanted = sorted({number for column in numbers.values() for number in pc.unique(column).to_pylist()})
    pushes = []
    for number in wanted:
        rows = {name: table.filter(pc.equal(numbers[name], number)).drop_columns("at") for name, table in tables.items()}
        end = start + (number + 1) * timedelta(hours=hours)
        pushes.append(Push(end, {name: part for name, part in rows.items() if part.num_rows}))
    return pushes


async def _follow(db: Database, step: Step, stack: AsyncExitStack) -> Followed:
    stream = await stack.enter_async_context(db.query(step.sql, progress=True))
    return Followed(step, stream, Folded(stream.schema, stream.changelog, stream.key, output_order(_select(step)), tail_rows=KEPT_ROWS))


class Replay:
    """Pushes rows, and shows the answers meanwhile: in place on a terminal, else a few states."""

    def __init__(self, db: Database, page: Page, followed: Sequence[Followed]) -> None:
        self._db = db
        self._page = page
        self._followed = followed
        self._start, self._stop = (datetime.fromisoformat(text) for text in MONTH)
        self._now = self._start
        self._pushed = {source: 0 for source, _ in REPLAYED}
        self._moved = anyio.Event()
        self._rate = Rate()

    async def run(self, pushes: Sequence[Push]) -> None:
        """Return when all rows are pushed, the sources have ended, and with them the queries."""
        with raising_one():
            async with anyio.create_task_group() as tasks:
                if self._page.in_place:
                    tasks.start_soon(self._draw_on)
                async with anyio.create_task_group() as readers:
                    for followed in self._followed:
                        readers.start_soon(self._read, followed)
                    await self._wait_until_read()
                    await (self._push_in_time(pushes) if self._page.in_place else self._push_with_states(pushes))
                    for source in self._pushed:
                        await self._db.finish(source)
                tasks.cancel_scope.cancel()
        await self._draw()

    async def _push_in_time(self, pushes: Sequence[Push]) -> None:
        started = anyio.current_time()
        for number, push in enumerate(pushes, start=1):
            await self._push(push)
            await anyio.sleep_until(started + REPLAY_S * number / len(pushes))

    async def _push_with_states(self, pushes: Sequence[Push]) -> None:
        shown = [self._start.replace(day=1 + day) for day in SHOWN_DAYS]
        for push in pushes:
            await self._push(push)
            if push.end in shown:
                await self._wait_until_read()
                await self._draw()

    async def _push(self, push: Push) -> None:
        for source, rows in push.rows.items():
            await self._db.insert(source, rows)
            self._pushed[source] += rows.num_rows
        self._now = push.end

    async def _read(self, followed: Followed) -> None:
        stream = followed.stream
        async for batch in stream:
            progress = stream.progress
            followed.folded.add(batch, complete=progress.epoch_complete)
            if progress.epoch_complete:
                followed.read = progress.positions
                self._moved.set()
                self._moved = anyio.Event()

    async def _wait_until_read(self) -> None:
        """Wait until all answers are those over all that was pushed."""
        while not all(map(self._has_read_all, self._followed)):
            await self._moved.wait()

    def _has_read_all(self, followed: Followed) -> bool:
        read = followed.read
        return bool(read) and all(read[source] == rows for source, rows in self._pushed.items() if source in read)

    async def _draw_on(self) -> None:
        while True:
            await self._draw()
            await anyio.sleep(INTERVAL_S)

    async def _draw(self) -> None:
        board = await self._board()
        await self._page.show_picture(lambda width: draw_board(board, width))

    async def _board(self) -> Board:
        statistics = [await _statistics(followed) for followed in self._followed]
        days = statistics[[followed.step for followed in self._followed].index(DAYS)]
        rows = sum(self._pushed.values())
        return Board(
            now=self._now,
            share=min(1.0, (self._now - self._start) / (self._stop - self._start)),
            rows=rows,
            rows_s=self._rate.of(rows) if self._page.in_place else 0.0,
            watermark=days.watermark,
            late_rows=days.late_rows,
            epochs=sum(each.epochs for each in statistics),
            state_bytes=sum(each.state_bytes for each in statistics),
            answers=tuple((followed.step, _excerpt(followed)) for followed in self._followed),
        )


def _excerpt(followed: Followed) -> Excerpt:
    if followed.step != DAYS:
        return followed.folded.excerpt(followed.step.rows)
    # Days that close together come in any order.
    days = followed.folded.excerpt(None).rows.sort_by([("day", "ascending"), ("origin", "ascending")])
    return Excerpt(days.slice(max(0, days.num_rows - DAYS.rows)), more=days.num_rows > DAYS.rows, last=True)


async def _statistics(followed: Followed) -> ContinuousStatistics:
    continuous = (await followed.stream.statistics()).continuous
    assert continuous is not None
    return continuous


async def _facts(db: Database, followed: Sequence[Followed]) -> list[tuple[str, str]]:
    """Say what the whole replay was, and whether the folded changes are what a snapshot query gives over the same rows."""
    statistics = [await _statistics(each) for each in followed]
    changes = sum([(await each.stream.statistics()).rows_out for each in followed])
    late = statistics[[each.step for each in followed].index(DAYS)].late_rows
    equal = [await _is_answer(db, each) for each in followed if each.stream.changelog != "append"]
    return [
        ("ran", f"{count(sum(each.epochs for each in statistics), 'epoch')}, which gave {count(changes, 'row')} of changes"),
        ("kept", f"at most {human_bytes(sum(each.peak_state_bytes for each in statistics))}"),
        ("late", f"{count(late, 'flight')} left after the watermark had passed the end of their day"),
        ("check", f"the folded changes {'are' if all(equal) else 'are NOT'} the answers of snapshot queries over the same rows"),
    ]


async def _is_answer(db: Database, followed: Followed) -> bool:
    answer = await db.fetch(_select(followed.step).sql)
    rows = followed.folded.excerpt(None).rows
    return sorted(map(repr, answer.to_pylist())) == sorted(map(repr, rows.to_pylist()))


def _select(step: Step) -> Select:
    select = parse_one(step.sql)
    assert isinstance(select, Select)
    return select
