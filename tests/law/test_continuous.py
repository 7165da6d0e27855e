"""The law for continuous queries, over generated queries, stories and ways to run them."""

from __future__ import annotations

import os

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.law.continuous import Follower, Story, Way, follow, for_following, stories, ways
from tests.law.engine import Engine
from tests.law.law import Query, float_magnitude
from tests.law.queries import SHAPES, Shape
from tests.law.relations import relations
from tests.law.test_law import kinds_for

pytestmark = pytest.mark.by_turns
CASES = settings(max_examples=6 if os.environ.get("HYPOTHESIS_PROFILE") != "long" else 1_000)
"""As many cases of every shape: a few hundred in all."""


@CASES
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
@given(data=st.data())
def test_changes_fold_to_the_answer(engine: Engine, shape: Shape, data: st.DataObject) -> None:
    """After every epoch of any query of the shape, the folded changes are DuckDB's answer over the rows consumed."""
    fewest = data.draw(st.sampled_from([0, 10, 30]), label="fewest rows")
    t = data.draw(relations("t", data.draw(kinds_for(shape)), min_rows=fewest), label="t")
    u = data.draw(relations("u", data.draw(kinds_for(shape)), max_rows=12, prefix="u"), label="u")
    query = for_following(data.draw(st.composite(shape)(t, u), label="query"))
    story = data.draw(stories((t, u)), label="story")
    check(engine, query, story, data.draw(ways, label="way"))


def check(engine: Engine, query: Query, story: Story, way: Way) -> None:
    """Fail if the changes of a query do not fold to DuckDB's answer at any epoch."""
    db, magnitude = engine.databases[way.executor], float_magnitude(all_rows(story))
    with engine.holding(story.relations, way.executor, empty=True):
        (error,) = engine.call(follow, db, story, lambda past: Follower(db, query, past, way, magnitude))
    if error is not None:
        raise error


def all_rows(story: Story) -> list[pa.Table]:
    """Give all rows that a story writes."""
    return [relation.rows for relation in story.relations] + [write.rows for write in story.writes if write.rows is not None]
