"""The bounded channel: order, bounds, completion, failure."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pyarrow as pa
import pytest
from anyio.lowlevel import checkpoint

from streamq.flow.channel import ByteBudget, Channel

pytestmark = pytest.mark.anyio


def numbers(first: int, count: int) -> pa.RecordBatch:
    return pa.record_batch({"n": pa.array(range(first, first + count), pa.int64())})


async def read_all(channel: Channel) -> list[int]:
    values: list[int] = []
    while (batch := await channel.receive()) is not None:
        values += batch.column("n").to_pylist()
    return values


async def test_everything_sent_is_received_in_order() -> None:
    """A reader sees what one sender sent, in order, then the end."""
    channel = Channel(max_rows=5, max_bytes=1 << 20)
    received: list[int] = []

    async def read() -> None:
        received.extend(await read_all(channel))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        for start in range(0, 30, 3):
            await channel.send(numbers(start, 3))
        channel.close()
    assert received == list(range(30))


@pytest.mark.parametrize(("max_rows", "max_bytes"), [(10, 1 << 20), (1 << 20, 80)])
async def test_sender_waits_at_the_bound_and_goes_on_after_a_receive(max_rows: int, max_bytes: int) -> None:
    """Rows and bytes each bound what waits: a full channel suspends the sender until the reader takes a batch."""
    channel = Channel(max_rows, max_bytes)
    await channel.send(numbers(0, 10))
    sent = anyio.Event()

    async def send() -> None:
        await channel.send(numbers(10, 1))
        sent.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        for _ in range(10):
            await checkpoint()
        assert not sent.is_set()
        assert (await channel.receive()).num_rows == 10
        await sent.wait()
    assert channel.statistics().rows == 1
    assert channel.statistics().blocked_s > 0


async def test_many_senders_lose_nothing_at_the_bound() -> None:
    """With eight senders at a tight bound the reader gets every row once, each sender's in order."""
    channel = Channel(max_rows=4, max_bytes=1 << 20)

    async def send(sender: int) -> None:
        for step in range(20):
            await channel.send(numbers(sender * 1000 + step * 3, 3))

    async def send_all() -> None:
        async with anyio.create_task_group() as senders:
            for sender in range(8):
                senders.start_soon(send, sender)
        channel.close()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send_all)
        values = await read_all(channel)
    for sender in range(8):
        assert [v for v in values if v // 1000 == sender] == list(range(sender * 1000, sender * 1000 + 60))
    assert len(values) == 8 * 60


async def test_an_error_is_read_at_once_and_again() -> None:
    """An aborted channel drops what waits, and every later read raises its error: no short answer looks whole."""
    channel = Channel(10, 1 << 20)
    await channel.send(numbers(0, 3))
    channel.abort(ValueError("broken"))
    for _ in range(2):
        with pytest.raises(ValueError, match="broken"):
            await channel.receive()


async def test_an_error_after_the_close_still_counts_until_the_reader_has_all() -> None:
    """Between the end of sending and the last read a failure (a deadline) still reaches the reader."""
    channel = Channel(10, 1 << 20)
    await channel.send(numbers(0, 3))
    channel.close()
    channel.abort(TimeoutError("late"))
    with pytest.raises(TimeoutError):
        await channel.receive()


async def test_an_error_after_everything_was_read_changes_nothing() -> None:
    """A complete answer stays complete."""
    channel = Channel(10, 1 << 20)
    await channel.send(numbers(0, 3))
    channel.close()
    assert await read_all(channel) == [0, 1, 2]
    channel.abort(ValueError("too late"))
    assert await channel.receive() is None


async def test_a_failure_comes_behind_what_was_sent() -> None:
    """What waits is read, then what had no room, then the error, at every call; the budget has it all back at once."""
    budget = ByteBudget(1 << 20)
    channel = Channel(3, 1 << 20, budget)
    await channel.send(numbers(0, 3))
    channel.fail(ValueError("broken"), [numbers(3, 3), numbers(6, 1)])
    assert (budget.used, channel.statistics().rows) == (0, 7)
    assert [(await channel.receive()).num_rows for _ in range(3)] == [3, 3, 1]
    for _ in range(2):
        with pytest.raises(ValueError, match="broken"):
            await channel.receive()
    assert (budget.used, channel.statistics().bytes) == (0, 0)


async def test_who_lets_go_of_a_failed_channel_reads_its_failure() -> None:
    """What waits is dropped; the first error stays."""
    channel = Channel(10, 1 << 20)
    await channel.send(numbers(0, 3))
    channel.fail(ValueError("broken"))
    channel.abort(TimeoutError("late"))
    with pytest.raises(ValueError, match="broken"):
        await channel.receive()
    assert channel.statistics().bytes == 0


@pytest.mark.parametrize("end", [Channel.abort, Channel.fail])
async def test_an_error_wakes_a_waiting_reader(end: Callable[[Channel, Exception], None]) -> None:
    """A reader that waits on an empty channel gets it."""
    channel = Channel(10, 1 << 20)
    failures: list[str] = []

    async def read() -> None:
        try:
            await channel.receive()
        except ValueError as error:
            failures.append(str(error))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        await checkpoint()
        end(channel, ValueError("broken"))
    assert failures == ["broken"]


async def test_a_cancelled_send_leaves_the_channel_usable() -> None:
    """Cancelling a blocked sender drops only its batch."""
    channel = Channel(1, 1 << 20)
    await channel.send(numbers(0, 1))
    with anyio.move_on_after(0):
        await channel.send(numbers(1, 1))
    channel.close()
    assert await read_all(channel) == [0]


@pytest.mark.parametrize("come", [lambda channel: channel.close(), lambda channel: channel.abort(ValueError("broken"))])
async def test_who_has_no_task_is_called_for_the_next_thing(come: Callable[[Channel], None]) -> None:
    """A reader is called once, for a batch or for the end, whatever it is; where something is there already it is told at once."""
    channel, calls = Channel(max_rows=5, max_bytes=1 << 20), []
    assert channel.answer(lambda: calls.append("batch"))
    await channel.send(numbers(0, 1))
    await channel.send(numbers(1, 1))
    assert calls == ["batch"]
    assert not channel.answer(lambda: calls.append("never"))
    assert [await channel.receive() is None for _ in range(2)] == [False, False]
    assert channel.answer(lambda: calls.append("taken back"))
    channel.answer(None)
    assert channel.answer(lambda: calls.append("end"))
    come(channel)
    assert calls == ["batch", "end"]
    assert not channel.answer(lambda: calls.append("never"))
