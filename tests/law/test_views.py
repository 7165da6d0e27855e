"""The law for materialized views, over generated queries, stories and ways to read them."""

from __future__ import annotations

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

import streamq
from tests.law.continuous import for_following, stories, ways
from tests.law.engine import Engine
from tests.law.law import float_magnitude
from tests.law.queries import SHAPES, Shape
from tests.law.relations import relations
from tests.law.test_continuous import CASES, all_rows
from tests.law.test_law import kinds_for
from tests.law.views import keep, readings

pytestmark = pytest.mark.by_turns


@settings(max_examples=CASES.max_examples // 2)
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
@given(data=st.data())
def test_a_view_is_the_answer(engine: Engine, shape: Shape, data: st.DataObject) -> None:
    """After every write, a view of any query of the shape is DuckDB's answer; its followers fold to such answers."""
    t = data.draw(relations("t", data.draw(kinds_for(shape))), label="t")
    u = data.draw(relations("u", data.draw(kinds_for(shape)), max_rows=12, prefix="u"), label="u")
    query = for_following(data.draw(st.composite(shape)(t, u), label="query"))
    story = data.draw(stories((t, u)), label="story")
    way, reading = data.draw(ways, label="way"), data.draw(readings, label="reading")
    magnitude = float_magnitude(all_rows(story))
    with engine.holding(story.relations, way.executor, empty=True):
        try:
            engine.call(keep, engine.databases[way.executor], query, story, way, magnitude, reading)
        except streamq.StreamqError as error:
            note(f"{type(error).__name__}: {error}")
            raise
