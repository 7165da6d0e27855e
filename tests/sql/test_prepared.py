"""Prepared queries: bound once for all that come alike, and what they give is always what binding them anew would."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from decimal import Decimal
from enum import IntEnum

import pyarrow as pa
import pytest

from streamq.errors import BindError, SqlSyntaxError, UnsupportedError
from streamq.sql.bind import bind_query
from streamq.sql.binder import Binder
from streamq.sql.catalog import RelationInfo
from streamq.sql.logical import BoundQuery
from streamq.sql.parse import parse_select
from streamq.sql.prepared import MAX_FORMS, MAX_QUERY, MAX_TEXT, PreparedSelect, PreparedSelects

SCHEMA = pa.schema({"id": pa.int64(), "name": pa.string(), "at": pa.timestamp("us"), "day": pa.date32(), "tags": pa.list_(pa.string())})
CATALOG = {"t": RelationInfo("t", "registered", SCHEMA)}


class Small(IntEnum):
    """A number with another name."""

    ONE = 1


@pytest.fixture(scope="module")
def binder() -> Iterator[Binder]:
    binder = Binder()
    yield binder
    binder.close()


def prepared(sql: str) -> PreparedSelect:
    return PreparedSelect(parse_select(sql))


def anew(query: PreparedSelect, parameters: Sequence[object], binder: Binder) -> BoundQuery:
    """Bind a query that was never bound before."""
    return bind_query(query.select, CATALOG, parameters, binder=binder)


def test_values_of_a_type_share_a_plan(binder: Binder) -> None:
    """A parameter that is compared with a column is told by its type: the plan is the same, the value each time's own."""
    query = prepared("SELECT name FROM t WHERE id = ? AND day BETWEEN ? AND ? AND name IN ('a', ?)")
    first = query.bind(CATALOG, [1, None, dt.date(2020, 1, 1), "x"], binder)
    second = query.bind(CATALOG, [-7, None, dt.date(2021, 1, 1), "y"], binder)
    assert second.plan is first.plan
    assert second == anew(query, [-7, None, dt.date(2021, 1, 1), "y"], binder)
    assert [value for _, value in first.parameters] == [1, None, dt.date(2020, 1, 1), "x"]


@pytest.mark.parametrize(
    ("sql", "values"),
    [
        ("SELECT * FROM t WHERE id = ?", [1, True, 1.0, "1", None, 2**31, 2**63, Decimal("1"), Decimal("1.00"), Small.ONE]),
        ("SELECT * FROM t WHERE at > ?", [dt.datetime(2020, 1, 1), dt.date(2020, 1, 1), dt.datetime(2020, 1, 1, tzinfo=dt.UTC), "2020"]),
        ("SELECT id, ? AS v FROM t WHERE id < 3", [1, True, 1.0, "1", None, 2**40, b"1", [1], ["1"], {"a": 1}, Decimal("1.5")]),
        ("SELECT id FROM t ORDER BY id LIMIT ?", [1, 2, 10**9]),
        ("SELECT id FROM t QUALIFY row_number() OVER (PARTITION BY name ORDER BY id) <= ?", [1, 2, 3]),
        ("SELECT * FROM (SELECT *, rank() OVER (PARTITION BY name ORDER BY id) AS r FROM t) WHERE r <= ?", [1, 2, None]),
        ("SELECT date_part(?, at) AS v FROM t", ["year", "epoch", ["year", "month"]]),
        ("SELECT struct_extract({'a': id, 'b': name}, ?) AS v FROM t", ["a", "b"]),
        ("SELECT list_aggregate(tags, ?) AS v FROM t", ["count", "min", "histogram"]),
        ("SELECT quantile_cont(id, ?) AS v FROM t", [0.5, 0.25, [0.5, 0.25]]),
        ("SELECT id = ? AS v, count(*) AS n FROM t WHERE id > ? GROUP BY ALL", [1, 2, 5.5]),
        ("SELECT id FROM t WHERE id + ? > 3 AND id = ?", [1, 2, 2.5]),
        ("SELECT name FROM t WHERE name LIKE ?", ["a%", "%a", "a"]),
    ],
)
def test_a_prepared_query_is_what_binding_it_anew_gives(sql: str, values: list[object], binder: Binder) -> None:
    """Whatever was bound before, and for which values: schema, plan, bounds and limits are those of these values."""
    query = prepared(sql)
    for value in [*values, *reversed(values)]:
        parameters = [value] * sql.count("?")
        assert query.bind(CATALOG, parameters, binder) == anew(query, parameters, binder)


def test_another_catalog_is_bound_anew(binder: Binder) -> None:
    """A relation with the same name and another schema gives another plan, and so does the first one when it is back."""
    query = prepared("SELECT * FROM t WHERE id = ?")
    other = {"t": RelationInfo("t", "registered", pa.schema({"id": pa.string()}))}
    before = query.bind(CATALOG, [1], binder)
    assert query.bind(other, [1], binder).schema == pa.schema({"id": pa.string()})
    after = query.bind(CATALOG, [1], binder)
    assert after == before
    assert after.plan is not before.plan


def test_what_a_view_stands_for_is_not_kept_beyond_it(binder: Binder) -> None:
    """A view of another definition is another plan, though the query's text is the same."""
    query = prepared("SELECT * FROM v")
    definitions = ("SELECT id FROM t", "SELECT 1::BIGINT AS id")
    views = [{**CATALOG, "v": RelationInfo("v", "view", pa.schema({"id": pa.int64()}), view_sql=sql)} for sql in definitions]
    assert [query.bind(view, None, binder).relations for view in (*views, views[0])] == [{"t"}, set(), {"t"}]


@pytest.mark.parametrize("clock", ["now()", "CURRENT_DATE", "today()"])
def test_the_time_is_each_times_own(clock: str, binder: Binder) -> None:
    """A plan with the time in it is made each time."""
    query = prepared(f"SELECT {clock} AS c, id FROM t WHERE id = ?")
    assert query.bind(CATALOG, [1], binder).plan is not query.bind(CATALOG, [1], binder).plan


def test_wrong_parameters_stay_wrong(binder: Binder) -> None:
    """A query that has run says the same of values that are missing or left over as one that has not."""
    query = prepared("SELECT id FROM t WHERE id = $a AND name = $b")
    query.bind(CATALOG, {"a": 1, "b": "x"}, binder)
    for wrong, complaint in (
        ({"a": 1}, "no value for parameter \\$b"),
        ({"a": 1, "b": 2, "c": 3}, "no parameter \\$c"),
        ([1, 2], "by name"),
    ):
        with pytest.raises(BindError, match=complaint):
            query.bind(CATALOG, wrong, binder)


def test_few_plans_are_kept_of_a_query(binder: Binder) -> None:
    """Of a query whose plan depends on a value, those of the last values are kept."""
    query = prepared("SELECT id FROM t LIMIT ?")
    first = query.bind(CATALOG, [0], binder)
    assert query.bind(CATALOG, [0], binder).plan is first.plan
    for limit in range(1, MAX_FORMS + 1):
        query.bind(CATALOG, [limit], binder)
    assert query.bind(CATALOG, [0], binder).plan is not first.plan
    assert query.bind(CATALOG, [MAX_FORMS], binder).plan is query.bind(CATALOG, [MAX_FORMS], binder).plan


def test_few_queries_are_kept() -> None:
    """Of all texts the last ones are kept, as far as there is room; a very long one is not."""
    queries = PreparedSelects()
    text = "SELECT {:0200}"
    first = queries.get(text.format(0))
    assert queries.get(text.format(0)) is first
    for number in range(1, MAX_TEXT // len(text.format(0)) + 1):
        queries.get(text.format(number))
    assert queries.get(text.format(0)) is not first
    assert queries.get(text.format(number)) is queries.get(text.format(number))
    long = f"SELECT '{'x' * MAX_QUERY}'"
    assert queries.get(long) is not queries.get(long)


def test_what_is_no_query_is_not_kept() -> None:
    """A text that is wrong is wrong each time."""
    queries = PreparedSelects()
    for _ in range(2):
        with pytest.raises(SqlSyntaxError):
            queries.get("SELECT FROM WHERE")
        with pytest.raises(UnsupportedError, match="this is DROP"):
            queries.get("DROP TABLE t")
