"""The law for time windows and late rows: EMIT CHANGES after every epoch, EMIT FINAL at the end, once for every row."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.law.continuous import Collector, Follower, Story, follow, stories, ways
from tests.law.engine import Engine
from tests.law.relations import EPOCH, Column, Hold, Relation
from tests.law.test_continuous import CASES
from tests.law.windows import SHAPES, Shape, Times, times

pytestmark = pytest.mark.by_turns
COLUMNS = (Column("id", "big"), Column("k", "int"), Column("v", "int"), Column("ts", "ts"))
SCHEMA = pa.schema([("id", pa.int64()), ("k", pa.int32()), ("v", pa.int32()), ("ts", pa.timestamp("us"))])


@st.composite
def timed(draw: st.DrawFn, name: str, delay: int, holds: tuple[Hold, ...], max_rows: int = 40) -> Relation:
    """Make a relation whose event times go forward, more or less."""
    step = st.tuples(st.sampled_from([0, 1, 5, 20, 60, 200, -5, -30, -90]), st.integers(0, 9))
    # Left alone, most lists would be too short for a window to close.
    steps = draw(st.lists(step, min_size=draw(st.sampled_from([0, max_rows // 2, max_rows])), max_size=max_rows))
    now, rows = 0, []
    for number, (step, dice) in enumerate(steps):
        now += step
        late = -150 if dice == 9 else 0
        ts = None if dice == 8 else EPOCH + dt.timedelta(seconds=now + late)
        rows.append(
            {"id": number, "k": draw(st.sampled_from([None, 0, 0, 1, 2])), "v": draw(st.sampled_from([None, -1, 0, 1, 3])), "ts": ts}
        )
    cuts = tuple(sorted(draw(st.lists(st.integers(0, len(rows)), max_size=5))))
    watermark = f"ts - INTERVAL '{delay}' SECOND"
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    return Relation(name, COLUMNS, table, draw(st.sampled_from(holds)), cuts, draw(st.integers(1, max(len(rows), 1))), watermark)


@st.composite
def scenes(draw: st.DrawFn, shape: Shape) -> tuple[Any, Story]:
    """A query of the shape, and a story for it."""
    t: Times = draw(times)
    holds: tuple[Hold, ...] = ("source", "partitioned", "source", "arrow", "files")
    relations = [draw(timed("t", t.delay, holds)), draw(timed("u", t.delay, holds, max_rows=20))]
    return shape(draw, t), draw(stories(relations))


@CASES
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
@given(data=st.data())
def test_windows_are_the_answer(engine: Engine, shape: Shape, data: st.DataObject) -> None:
    """After every epoch the folded changes are DuckDB's answer over the consumed rows that were not late; EMIT FINAL gives each of its
    rows over all of these once, and never another.
    """
    query, story = data.draw(scenes(shape))
    way, other = data.draw(ways, label="way of the changes"), data.draw(ways, label="way of the final rows")
    db = engine.databases[way.executor]
    with engine.holding(story.relations, way.executor, empty=True):
        wrong = engine.call(follow, db, story, lambda past: Follower(db, query, past, way), lambda past: Collector(db, query, past, other))
    assert wrong == [None, None]
