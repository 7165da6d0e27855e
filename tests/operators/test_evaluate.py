"""SQL prepared once and run over batch after batch."""

from __future__ import annotations

import pyarrow as pa
import pytest

from streamq.errors import DataError, QueryError
from streamq.kernels.evaluate import Evaluator
from streamq.kernels.session import Session

SCHEMA = pa.schema([("a", pa.int64()), ("o.b", pa.string())])


def rows(*values: int) -> pa.RecordBatch:
    """Make a batch with these values."""
    return pa.record_batch([pa.array(values, pa.int64()), pa.array([str(value) for value in values], pa.string())], schema=SCHEMA)


def test_each_call_reads_its_own_batch(evaluator: Evaluator) -> None:
    """A call sees the rows that it was given, in their order, whatever was before."""
    prepared = evaluator.prepare('SELECT a * 2 AS x FROM "in"', {"in": SCHEMA}, "test")
    assert prepared({"in": rows(3, 1, 2)}, {}).to_pydict() == {"x": [6, 2, 4]}
    assert prepared({"in": rows(5)}, {}).to_pydict() == {"x": [10]}


def test_tables_that_are_not_given_are_empty(evaluator: Evaluator) -> None:
    """Nothing of an earlier call is left."""
    prepared = evaluator.prepare("SELECT count(*) AS n FROM l LEFT JOIN r USING (a)", {"l": SCHEMA, "r": SCHEMA}, "test")
    assert prepared({"l": rows(1), "r": rows(1, 1)}, {}).column(0).to_pylist() == [2]
    assert prepared({"l": rows(1)}, {}).column(0).to_pylist() == [1]
    assert prepared({}, {}).column(0).to_pylist() == [0]


def test_tables_of_several_chunks(evaluator: Evaluator) -> None:
    """A table is read whole, and the result is one batch."""
    prepared = evaluator.prepare('SELECT a, "o.b" FROM "in"', {"in": SCHEMA}, "test")
    table = pa.Table.from_batches([rows(*range(n * 50_000, (n + 1) * 50_000)) for n in range(5)])
    assert prepared({"in": table}, {}).column(0).equals(table.column(0).combine_chunks())


def test_two_queries_with_tables_of_one_name(evaluator: Evaluator) -> None:
    """What one query reads has nothing to do with what another one does."""
    one, other = (evaluator.prepare(f'SELECT a + {n} AS x FROM "in"', {"in": SCHEMA}, "test") for n in (1, 2))
    assert one({"in": rows(1)}, {}).column(0).to_pylist() == [2]
    assert other({"in": rows(5)}, {}).column(0).to_pylist() == [7]
    assert one({}, {}).num_rows == 0


def test_values_change_between_calls(evaluator: Evaluator) -> None:
    """Parameters have the values and the types of the call; those that the text does not name are not looked at."""
    prepared = evaluator.prepare('SELECT $p + a AS x, typeof($p) AS t FROM "in"', {"in": SCHEMA}, "test")
    assert prepared({"in": rows(1)}, {"p": 1, "q": object()}).to_pylist() == [{"x": 2, "t": "INTEGER"}]
    assert prepared({"in": rows(1)}, {"p": 1.0, "q": object()}).to_pylist() == [{"x": 2.0, "t": "DOUBLE"}]
    assert prepared({"in": rows(1)}, {"p": 5, "q": object()}).to_pylist() == [{"x": 6, "t": "INTEGER"}]


def test_goes_on_after_an_error(evaluator: Evaluator) -> None:
    """A row that an expression fails on ends its call, and leaves nothing behind."""
    prepared = evaluator.prepare('SELECT 1 // a AS x FROM "in"', {"in": SCHEMA}, "quotient")
    with pytest.raises(DataError, match=r"^quotient: "):
        prepared({"in": rows(1, 0)}, {})
    assert prepared({"in": rows(1)}, {}).column(0).to_pylist() == [1]


def test_text_that_is_no_sql(evaluator: Evaluator) -> None:
    """Text that DuckDB cannot parse is refused when it is prepared."""
    with pytest.raises(QueryError, match=r"^test: "):
        evaluator.prepare("SELEKT 1", {}, "test")


def test_close_leaves_the_session(tmp_path_factory: pytest.TempPathFactory) -> None:
    """An evaluator closes what it opened, and no more."""
    with Session(1 << 28, str(tmp_path_factory.mktemp("duckdb"))) as session:
        for _ in range(2):
            with Evaluator(session) as evaluator:
                assert evaluator.prepare("SELECT 1 AS x", {}, "test")({}, {}).column(0).to_pylist() == [1]
