"""Binding: what a user's text means, and what is wrong with it, where, and what to write instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pytest

from streamq.errors import BindError, SqlError, UnsupportedError
from streamq.sql.bind import bind_query
from streamq.sql.binder import Binder
from streamq.sql.catalog import RelationInfo
from streamq.sql.logical import Block, Bound, BoundQuery, Scan, Whole
from streamq.sql.parse import parse_one
from streamq.sql.statements import Select

TIME = pa.timestamp("us")
CATALOG = {
    relation.name: relation
    for relation in (
        RelationInfo(
            "market_data",
            "source",
            pa.schema({"symbol": pa.string(), "exchange": pa.string(), "price": pa.float64(), "volume": pa.int64(), "at_time": TIME}),
            system_columns=True,
            watermark=("at_time", "at_time"),
        ),
        RelationInfo("customers", "table", pa.schema({"id": pa.int32(), "name": pa.string(), "joined": pa.date32()}), primary_key=("id",)),
        RelationInfo("cheap", "view", pa.schema({"symbol": pa.string()}), view_sql="SELECT symbol FROM market_data WHERE price < 1"),
    )
}


@pytest.fixture(scope="module")
def binder() -> Iterator[Binder]:
    binder = Binder()
    yield binder
    binder.close()


def bind(sql: str, binder: Binder, parameters: Sequence[object] | Mapping[str, object] | None = None) -> BoundQuery:
    statement = parse_one(sql)
    assert isinstance(statement, Select)
    return bind_query(statement, CATALOG, parameters, binder=binder)


def fail(sql: str, binder: Binder, parameters: Sequence[object] | Mapping[str, object] | None = None) -> SqlError:
    with pytest.raises(SqlError) as info:
        bind(sql, binder, parameters)
    return info.value


def only_scan(bound: BoundQuery) -> Scan:
    assert isinstance(bound.plan, Block | Whole)
    (leaf,) = bound.plan.leaves
    assert isinstance(leaf, Scan)
    return leaf


def test_unknown_column_has_its_place(binder: Binder) -> None:
    """An unknown column is named with line and column of the user's text."""
    error = fail("SELECT symbol,\n  nope\nFROM market_data", binder)
    assert isinstance(error, BindError)
    assert "nope" in error.message
    assert (error.line, error.column) == (2, 3)


def test_unknown_column_keeps_candidates(binder: Binder) -> None:
    """DuckDB's candidates become the hint."""
    error = fail("SELECT symbo FROM market_data", binder)
    assert "symbol" in (error.hint or "")


def test_place_survives_a_rewritten_text(binder: Binder) -> None:
    """Where the text had to be rewritten, the place is still that in the user's text."""
    error = fail("SELECT _offset,\n  nope\nFROM market_data", binder)
    assert (error.line, error.column) == (2, 3)


def test_missing_columns_of_the_first_seed_query_are_named(binder: Binder) -> None:
    """A query over columns that do not exist names the column."""
    error = fail(
        """SELECT symbol, _TIMESTAMP as processing_time, _PARTITION as kafka_partition,
    CASE WHEN volume > hourly_avg_volume * 2.0 THEN 'high_volume_alert'
        WHEN price > daily_high * 0.99 THEN 'near_high' ELSE 'normal' END as status_flag
FROM market_data WHERE volume > 10000;""",
        binder,
    )
    assert isinstance(error, BindError)
    assert "hourly_avg_volume" in error.message
    assert (error.line, error.column) == (2, 24)


def test_unknown_relation_suggests_a_near_one(binder: Binder) -> None:
    """A misspelt relation is named with what may have been meant."""
    error = fail("SELECT * FROM market_dat", binder)
    assert "market_dat" in error.message
    assert "market_data" in (error.hint or "")
    assert (error.line, error.column) == (1, 15)


@pytest.mark.parametrize(
    "source",
    ["read_csv('x.csv')", "read_parquet('x.parquet')", "'x.parquet'", "glob('*')", "read_text('x')", "duckdb_settings()",
     "information_schema.tables", "main.customers", "query('SELECT 1')", "pragma_table_info('customers')"],
)  # fmt: skip
def test_sql_reaches_nothing_but_the_catalog(source: str, binder: Binder) -> None:
    """Files, settings and other schemas cannot be read by SQL."""
    assert isinstance(fail(f"SELECT * FROM {source}", binder), BindError)


@pytest.mark.parametrize("call", ["getenv('HOME')", "current_setting('threads')"])
def test_functions_reach_nothing_outside(call: str, binder: Binder) -> None:
    """Scalar functions that read the environment are refused."""
    assert isinstance(fail(f"SELECT {call} FROM customers", binder), BindError)


def test_ungrouped_column_gets_the_rewrite_as_hint(binder: Binder) -> None:
    """An ungrouped column's hint is an aggregate by event time, and that runs."""
    error = fail("SELECT symbol, price FROM market_data GROUP BY symbol", binder)
    assert "LAST(price ORDER BY at_time)" in (error.hint or "")
    assert isinstance(bind("SELECT symbol, LAST(price ORDER BY at_time) FROM market_data GROUP BY symbol", binder).plan, Block)


def test_type_error_is_a_bind_error_without_noise(binder: Binder) -> None:
    """Types that do not fit are told in a few words."""
    error = fail("SELECT sum(symbol) FROM market_data", binder)
    assert isinstance(error, BindError)
    assert "sum" in error.message
    assert "Binder Error" not in str(error)
    assert len(str(error).splitlines()) < 8


def test_schema_is_duckdbs(binder: Binder) -> None:
    """Names and types of the result are those that DuckDB gives the text."""
    schema = bind("SELECT count(*), sum(volume) AS s, avg(price), 1 / 2 AS half FROM market_data", binder).schema
    assert schema == pa.schema({"count_star()": pa.int64(), "s": pa.decimal128(38, 0), "avg(price)": pa.float64(), "half": pa.float64()})


def test_star_has_no_system_columns(binder: Binder) -> None:
    """`*` gives the user's columns, also beside a system column that is named."""
    assert bind("SELECT *, _OFFSET FROM market_data", binder).schema.names == [*CATALOG["market_data"].schema.names, "_offset"]


def test_tables_have_no_system_columns(binder: Binder) -> None:
    """Only sources carry system columns."""
    assert "_offset" in fail("SELECT _offset FROM customers", binder).message


@pytest.mark.parametrize(
    ("sql", "parameters"),
    [("SELECT id FROM customers WHERE id = ? AND name = ?", [3, "x"]), ("SELECT id FROM customers WHERE name = $2 AND id = $1", [3, "x"]),
     ("SELECT id FROM customers WHERE id = $a AND name = $b", {"a": 3, "b": "x"})],
)  # fmt: skip
def test_parameters_are_named_by_number(sql: str, parameters: Sequence[object] | Mapping[str, object], binder: Binder) -> None:
    """Every spelling of a parameter becomes `$p1`, `$p2`."""
    bound = bind(sql, binder, parameters)
    assert sorted(bound.parameters) == [("p1", 3), ("p2", "x")]
    assert isinstance(bound.plan, Block)
    assert "id = $p1" in (bound.plan.where or "")


@pytest.mark.parametrize(
    ("sql", "parameters", "named"),
    [("SELECT ? FROM customers", [], "$1"), ("SELECT ? FROM customers", None, "$1"), ("SELECT ? FROM customers", [1, 2], "$2"),
     ("SELECT $a FROM customers", {"b": 1}, "$a"), ("SELECT $a FROM customers", {"a": 1, "b": 1}, "$b"),
     ("SELECT $a FROM customers", [1], "$a"),
     ("SELECT ? FROM customers", {"a": 1}, "names"), ("SELECT id FROM customers", [1], "$1"), ("SELECT $2 FROM customers", [1, 2], "$1")],
)  # fmt: skip
def test_wrong_parameters_are_named(
    sql: str, parameters: Sequence[object] | Mapping[str, object] | None, named: str, binder: Binder
) -> None:
    """Missing and left-over parameters, and the wrong kind of values, are bind errors that say which."""
    error = fail(sql, binder, parameters)
    assert isinstance(error, BindError)
    assert named in error.message


def test_limit_can_be_a_parameter(binder: Binder) -> None:
    """LIMIT takes its number from a parameter."""
    plan = bind("SELECT id FROM customers ORDER BY id LIMIT ?", binder, [7]).plan
    assert isinstance(plan, Block)
    assert plan.limit == 7


def test_clock_is_one_literal(binder: Binder) -> None:
    """The clock is read once per query."""
    plan = bind("SELECT now() AS a, current_date AS d FROM customers WHERE joined < today()", binder).plan
    assert isinstance(plan, Block)
    assert "now" not in plan.items[0].sql.lower()
    assert plan.where is not None
    assert "CAST('20" in plan.where


def test_volatile_functions_are_told(binder: Binder) -> None:
    """A query with random() is volatile, and runs whole."""
    bound = bind("SELECT random() AS r FROM customers", binder)
    assert bound.volatile
    assert isinstance(bound.plan, Whole)


def test_views_are_expanded(binder: Binder) -> None:
    """A query over a view reads the relations under it."""
    assert bind("SELECT * FROM cheap", binder).relations == {"market_data"}


def test_only_used_columns_are_read(binder: Binder) -> None:
    """A scan reads the columns that the query says, in schema order."""
    assert only_scan(bind("SELECT volume FROM market_data WHERE symbol = 'A' ORDER BY price", binder)).columns == (
        "symbol",
        "price",
        "volume",
    )


def test_counting_reads_one_column(binder: Binder) -> None:
    """A query that needs no column reads the narrowest."""
    assert only_scan(bind("SELECT count(*) FROM customers", binder)).columns == ("id",)


def test_simple_conditions_are_pushed(binder: Binder) -> None:
    """Comparisons with constants become the scan's filter and bounds."""
    scan = only_scan(bind("SELECT price FROM market_data WHERE symbol IN ('A', 'B') AND volume BETWEEN 1 AND 5 AND price * 2 > 3", binder))
    assert scan.filter == "symbol IN ('A', 'B') AND volume BETWEEN 1 AND 5"
    assert scan.bounds == (Bound("symbol", "in", "('A', 'B')"), Bound("volume", ">=", "1"), Bound("volume", "<=", "5"))


def test_conditions_that_can_fail_are_not_pushed(binder: Binder) -> None:
    """A comparison that casts a column stays where it was written."""
    assert only_scan(bind("SELECT price FROM market_data WHERE symbol::INTEGER > 5", binder)).filter is None


def test_null_supplied_side_is_not_filtered(binder: Binder) -> None:
    """A condition on the right side of a LEFT JOIN is not pushed below the join."""
    plan = bind("SELECT m.price FROM market_data m LEFT JOIN customers c ON m.volume = c.id WHERE c.id = 3", binder).plan
    assert isinstance(plan, Block)
    assert [leaf.filter for leaf in plan.leaves if isinstance(leaf, Scan)] == [None, None]


def test_top_n_breaks_ties_by_the_other_inputs(binder: Binder) -> None:
    """ORDER BY with LIMIT is made total by the remaining columns in schema order."""
    plan = bind("SELECT volume, symbol FROM market_data ORDER BY price LIMIT 3", binder).plan
    assert isinstance(plan, Block)
    assert [plan.items[[item.name for item in plan.items].index(term.sql)].sql for term in plan.order] == ["price", "symbol", "volume"]


def test_rank_keeps_its_ties(binder: Binder) -> None:
    """RANK's order gets no further terms; ROW_NUMBER's does."""
    plan = bind("SELECT symbol, rank() OVER (ORDER BY price) AS r, row_number() OVER (ORDER BY price) AS n FROM market_data", binder).plan
    assert isinstance(plan, Block)
    assert plan.items[1].sql == "RANK() OVER (ORDER BY price)"
    assert plan.items[2].sql == "ROW_NUMBER() OVER (ORDER BY price, symbol)"


def test_first_follows_the_order_of_the_source(binder: Binder) -> None:
    """FIRST over a source means first by partition and offset."""
    plan = bind("SELECT first(price) AS p FROM market_data", binder).plan
    assert isinstance(plan, Block)
    assert plan.calls[0].sql == "FIRST(price ORDER BY _partition, _offset)"
    assert only_scan(bind("SELECT first(price) AS p FROM market_data", binder)).columns == ("price", "_partition", "_offset")


def test_join_keys_have_their_common_type(binder: Binder) -> None:
    """The equalities of a join are its keys, with the type in which they are compared."""
    plan = bind("SELECT 1 AS x FROM market_data m JOIN customers c ON c.id = m.volume AND m.symbol > c.name", binder).plan
    assert isinstance(plan, Block)
    (join,) = plan.joins
    assert (join.kind, join.keys[0][1:], join.residual) == ("inner", ("volume", "id", "BIGINT"), True)


def test_equalities_of_where_are_keys_of_a_comma_join(binder: Binder) -> None:
    """A comma join with an equality in WHERE joins by key."""
    plan = bind("SELECT 1 AS x FROM market_data m, customers c WHERE c.id = m.volume", binder).plan
    assert isinstance(plan, Block)
    assert plan.joins[0].kind == "inner"
    assert plan.joins[0].keys


def test_repeated_aggregates_are_one_call(binder: Binder) -> None:
    """An aggregate that is written several times is computed once."""
    plan = bind("SELECT symbol, sum(price) AS s, sum(price) / count(*) AS m FROM market_data GROUP BY 1 HAVING sum(price) > 3", binder).plan
    assert isinstance(plan, Block)
    assert [call.name for call in plan.calls] == ["s", "count"]


def test_catalog_may_change_between_queries(binder: Binder) -> None:
    """One binder serves catalogs that change."""
    statement = parse_one("SELECT * FROM t")
    assert isinstance(statement, Select)
    for type_ in (pa.int32(), pa.string()):
        catalog = {"t": RelationInfo("t", "table", pa.schema({"v": type_}))}
        assert bind_query(statement, catalog, binder=binder).schema == pa.schema({"v": type_})


def test_window_table_functions_are_relations(binder: Binder) -> None:
    """TUMBLE in FROM adds the window's bounds to the relation's columns."""
    bound = bind("SELECT * FROM TUMBLE(market_data, at_time, INTERVAL '5' MINUTE)", binder)
    assert bound.schema.names == [*CATALOG["market_data"].schema.names, "window_start", "window_end"]


def test_unknown_relation_inside_a_window_is_named(binder: Binder) -> None:
    """The relation that a window function reads must exist."""
    assert "nowhere" in fail("SELECT * FROM TUMBLE(nowhere, ts, INTERVAL '5' MINUTE)", binder).message


def test_pattern_beside_a_system_column_is_unsupported(binder: Binder) -> None:
    """A pattern that would also match system columns is refused, with what to write."""
    error = fail("SELECT COLUMNS('.*'), _offset FROM market_data", binder)
    assert isinstance(error, UnsupportedError)
    assert error.hint


def test_asof_joins_right_side_is_not_filtered(binder: Binder) -> None:
    """WHERE on the right side of an ASOF join must not narrow the rows that it chooses from."""
    sql = "SELECT a.price FROM market_data a ASOF JOIN market_data b ON a.symbol = b.symbol AND a.at_time > b.at_time WHERE b.price > 3"
    plan = bind(sql, binder).plan
    assert isinstance(plan, Block)
    assert [leaf.filter for leaf in plan.leaves if isinstance(leaf, Scan)] == [None, None]


@pytest.mark.parametrize("clause", ["WITH (target_partitions = 3)", "EMIT CHANGES"])
def test_columns_keep_their_names_beside_clauses_of_streams(clause: str, binder: Binder) -> None:
    """What stands behind a query does not change the names that DuckDB gives to expressions in it."""
    sql = "SELECT id ** 2, id::VARCHAR, median(id) FROM customers GROUP BY id"
    assert bind(f"{sql} {clause}", binder).schema.names == bind(sql, binder).schema.names
