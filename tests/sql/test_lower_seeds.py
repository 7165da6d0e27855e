"""The seed queries of the streaming world: each is one block, so that it can be distributed."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest

from streamq.errors import BindError
from streamq.sql.bind import bind_query
from streamq.sql.binder import Binder
from streamq.sql.catalog import RelationInfo
from streamq.sql.logical import Block, BoundQuery, Derived
from streamq.sql.parse import parse_one
from streamq.sql.statements import Select

INT, FLOAT, TEXT, TIME = pa.int64(), pa.float64(), pa.string(), pa.timestamp("us")


def source(name: str, **columns: pa.DataType) -> RelationInfo:
    watermark = ("event_time", "event_time") if "event_time" in columns else None
    return RelationInfo(name, "source", pa.schema(columns), system_columns=True, watermark=watermark)


CATALOG = {
    relation.name: relation
    for relation in (
        source("orders", order_id=INT, customer_id=INT, product_id=INT, order_amount=FLOAT, order_date=TIME),
        source("sensor_readings", device_id=INT, sensor_type=TEXT, value=FLOAT, event_time=TIME),
        source("posts", hashtags=pa.list_(TEXT), likes=INT, retweets=INT, replies=INT, engagement_score=FLOAT, event_time=TIME),
        source("transactions", customer_id=INT, amount=FLOAT, event_time=TIME),
        source("trades", trade_id=INT, symbol=TEXT, price=FLOAT, volume=INT, event_time=TIME),
        source("quotes", symbol=TEXT, bid_price=FLOAT, event_time=TIME),
        source("market_data", trader_id=INT, symbol=TEXT, price=FLOAT, quantity=INT, event_time=TIME),
        RelationInfo("customers", "table", pa.schema({"customer_id": INT, "customer_tier": TEXT}), primary_key=("customer_id",)),
    )
}
SLIDING = "SLIDING(event_time, INTERVAL '10' MINUTE, INTERVAL '1' MINUTE)"
QUERIES = {
    "unnest": """SELECT hashtag, COUNT(*) AS mention_count, SUM(likes) AS total_likes, AVG(engagement_score) AS avg_engagement
        FROM posts CROSS JOIN UNNEST(hashtags) AS hashtag GROUP BY hashtag""",
    "session": """SELECT customer_id, SESSION(event_time, INTERVAL '45' MINUTE) AS session_window, COUNT(*) AS event_count,
        CASE WHEN COUNT(*) > 20 THEN 'suspicious_velocity' WHEN SUM(amount) > 10000.0 THEN 'high_value_alert'
        ELSE 'normal' END AS fraud_flag
        FROM transactions GROUP BY customer_id, SESSION(event_time, INTERVAL '45' MINUTE)""",
    "sliding": f"""SELECT device_id, sensor_type, {SLIDING} AS window, AVG(value) AS avg_value,
        (LAST(value ORDER BY event_time) - AVG(value)) / STDDEV(value) AS z_score
        FROM sensor_readings GROUP BY device_id, sensor_type, {SLIDING}
        HAVING ABS((LAST(value ORDER BY event_time) - AVG(value)) / STDDEV(value)) > 3.0""",
    "tumbling rank": """SELECT hashtag, TUMBLING(event_time, INTERVAL '5' MINUTE) AS window, COUNT(*) AS mention_count,
        SUM(likes + retweets + replies) AS total_engagement,
        RANK() OVER (PARTITION BY window ORDER BY total_engagement DESC) AS trending_rank
        FROM posts CROSS JOIN UNNEST(hashtags) AS hashtag GROUP BY hashtag, TUMBLING(event_time, INTERVAL '5' MINUTE)
        HAVING COUNT(*) > 100 EMIT CHANGES""",
    "global": "SELECT COUNT(*) AS total_trades, AVG(price) AS avg_price, SUM(price * volume) AS total_value FROM trades",
    "having": """SELECT customer_id, SUM(amount) AS total_spent FROM transactions GROUP BY customer_id HAVING SUM(amount) > (
        SELECT AVG(customer_total) * 2.0
        FROM (SELECT SUM(amount) AS customer_total FROM transactions GROUP BY customer_id) AS customer_totals)""",
    "join": """SELECT o.order_id, c.customer_tier FROM orders o JOIN customers c ON o.customer_id = c.customer_id
        WHERE o.order_date >= CURRENT_DATE - INTERVAL '30' DAY""",
    "interval join": """SELECT t.trade_id, q.bid_price FROM trades t JOIN quotes q ON t.symbol = q.symbol
        AND q.event_time BETWEEN t.event_time - INTERVAL '1' SECOND AND t.event_time + INTERVAL '1' SECOND""",
    "self join": """SELECT o1.customer_id AS a, o2.customer_id AS b, COUNT(DISTINCT o1.product_id) AS common,
        ARRAY_AGG(DISTINCT o1.product_id) AS of_a
        FROM orders o1 JOIN orders o2 ON o1.product_id = o2.product_id AND o1.customer_id != o2.customer_id
        GROUP BY o1.customer_id, o2.customer_id HAVING COUNT(DISTINCT o1.product_id) >= 3""",
    "window clause": """SELECT trader_id, symbol, COUNT(*) AS trade_count, SUM(price * quantity) AS total_value
        FROM market_data GROUP BY trader_id, symbol WINDOW TUMBLING(1m) EMIT CHANGES""",
}


@pytest.fixture(scope="module")
def binder() -> Iterator[Binder]:
    binder = Binder()
    yield binder
    binder.close()


def bind(sql: str, binder: Binder) -> BoundQuery:
    statement = parse_one(sql)
    assert isinstance(statement, Select)
    return bind_query(statement, CATALOG, binder=binder)


def block(name: str, binder: Binder) -> Block:
    plan = bind(QUERIES[name], binder).plan
    assert isinstance(plan, Block), getattr(plan, "reason", plan)
    return plan


@pytest.mark.parametrize("name", QUERIES)
def test_seed_query_is_a_block(name: str, binder: Binder) -> None:
    """Every seed query is taken apart, continuous ones too."""
    assert block(name, binder).items


def test_ungrouped_value_names_its_rewrite(binder: Binder) -> None:
    """A bare column in a sliding window's aggregate is an error whose hint is the rewrite."""
    with pytest.raises(BindError) as info:
        bind(f"SELECT device_id, (value - AVG(value)) AS z FROM sensor_readings GROUP BY device_id, {SLIDING}", binder)
    assert "LAST(value ORDER BY event_time)" in (info.value.hint or "")
    assert (info.value.line, info.value.column) == (1, 20)


def test_rank_is_over_the_groups(binder: Binder) -> None:
    """The rank by an alias is a window function over all groups of a window."""
    plan = block("tumbling rank", binder)
    assert plan.unnests
    (partition,) = plan.partition_by
    assert len(partition) == 1
    assert "total_engagement" in plan.items[-1].sql


def test_threshold_is_a_query_of_its_own(binder: Binder) -> None:
    """The subquery of HAVING is a leaf that is read after aggregation."""
    (leaf,) = block("having", binder).output_subqueries
    assert isinstance(leaf, Derived)
    assert isinstance(leaf.query, Block)
    assert leaf.query.keys == ()


def test_time_bound_is_a_residual(binder: Binder) -> None:
    """An interval join has its equality as key and its time bound as residual."""
    (join,) = block("interval join", binder).joins
    assert [key[1:3] for key in join.keys] == [("symbol", "symbol")]
    assert join.residual
