"""LIMIT and OFFSET over batches from many tasks."""

from __future__ import annotations

import anyio
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamq.execution.output import ReaderOutput
from streamq.flow.channel import Channel

pytestmark = pytest.mark.anyio
SCHEMA = pa.schema([("n", pa.int64())])


def cut_all(sizes: list[int], limit: int | None, offset: int) -> tuple[list[int], bool]:
    """Send batches one after the other; give the values that came out and whether the output was satisfied."""
    values: list[int] = []
    stopped: list[bool] = []

    async def run() -> None:
        channel = Channel(1 << 30, 1 << 30)
        output = ReaderOutput(channel, SCHEMA, limit, offset)
        output.when_satisfied(lambda: stopped.append(True))
        first = 0
        for size in sizes:
            await output.send(pa.record_batch({"n": pa.array(range(first, first + size), pa.int64())}))
            first += size
        channel.close()
        while (batch := await channel.receive()) is not None:
            values.extend(batch.column("n").to_pylist())

    anyio.run(run)
    return values, bool(stopped)


@given(sizes=st.lists(st.integers(0, 9), max_size=8), limit=st.none() | st.integers(0, 30), offset=st.integers(0, 30))
def test_limit_and_offset_equal_slicing(sizes: list[int], limit: int | None, offset: int) -> None:
    """What comes out is the slice of everything that was sent, and the output stops its senders when the limit is reached."""
    values, stopped = cut_all(sizes, limit, offset)
    end = None if limit is None else offset + limit
    assert values == list(range(sum(sizes)))[offset:end]
    assert stopped == (limit is not None and len(values) == limit)


async def test_types_are_made_those_of_the_result() -> None:
    """A batch whose types differ from the result's schema is converted."""
    channel = Channel(100, 1 << 20)
    await ReaderOutput(channel, SCHEMA, None, 0).send(pa.record_batch({"x": pa.array([1], pa.int8())}))
    channel.close()
    batch = await channel.receive()
    assert batch is not None
    assert batch.schema == SCHEMA
