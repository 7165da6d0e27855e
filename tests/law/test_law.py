"""The law, over generated queries, relations and ways to run them."""

from __future__ import annotations

from typing import get_args

import duckdb
import pytest
from hypothesis import given, note
from hypothesis import strategies as st

import streamq
from tests.law.engine import Engine, Run, runs
from tests.law.law import Query, connect_oracle, differences, float_magnitude
from tests.law.queries import SHAPES, Shape, approximate
from tests.law.relations import Kind, Relation, relations

pytestmark = pytest.mark.by_turns
EXACT_KINDS = tuple(kind for kind in get_args(Kind) if kind != "float")


def kinds_for(shape: Shape) -> st.SearchStrategy[list[Kind]]:
    """Column kinds for a shape: dyadic floats, or any floats where no condition can see them."""
    kinds = ("float", "int", "text") if shape is approximate else EXACT_KINDS
    return st.lists(st.sampled_from(kinds), min_size=2, max_size=5)


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
@given(data=st.data())
def test_answer_does_not_depend_on_how_it_was_run(engine: Engine, shape: Shape, data: st.DataObject) -> None:
    """Any query of the shape, over any rows held in any way, gives DuckDB's answer on any executor and partition count."""
    t = data.draw(relations("t", data.draw(kinds_for(shape))), label="t")
    u = data.draw(relations("u", data.draw(kinds_for(shape)), max_rows=12, prefix="u"), label="u")
    query = data.draw(st.composite(shape)(t, u), label="query")
    check(engine, query, (t, u), data.draw(runs, label="run"))


def check(engine: Engine, query: Query, held: tuple[Relation, ...], run: Run) -> None:
    """Fail if streamq's answer differs from DuckDB's, or one of them fails and the other does not."""
    rows = {relation.name: relation.rows for relation in held}
    with connect_oracle(rows) as oracle, engine.holding(held, run.executor):
        try:
            oracle.sql(query.oracle or query.sql).fetchall()
        except duckdb.Error as error:
            note(f"DuckDB: {error}")
            with pytest.raises((streamq.SqlError, streamq.QueryError)):
                engine.answer(query.sql, run)
            return
        answer = engine.answer(query.sql, run)
        wrong = differences(answer, query, oracle, float_magnitude(rows.values()))
        if wrong:
            note(engine.explain(query.sql, run))
        assert not wrong
