"""Queries that streaming systems describe in their own notes, with the rows that those notes work out, or should have."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import cache

import pyarrow as pa

from tests.law.law import Row
from tests.law.relations import Hold
from tests.oracle import connect_duckdb

NINE = dt.datetime(2024, 5, 1, 9)


@dataclass(frozen=True, slots=True)
class Seed:
    """A query, the relations it reads as SQL that makes their rows, and its rows. `columns` are the outputs that are compared."""

    sql: str
    relations: dict[str, str]
    expected: Callable[[], list[Row]]
    columns: tuple[str, ...] = ()
    hold: Hold = "parquet"


def minutes(count: float) -> dt.datetime:
    return NINE + dt.timedelta(minutes=count)


ORDERS = """
    SELECT * FROM (VALUES
        (1, 'c1', 10.0, DATE '2024-01-01'), (2, 'c2', 5.5, DATE '2024-01-03'), (3, 'c1', NULL, DATE '2024-01-02'),
        (4, NULL, 7.25, NULL), (5, NULL, 0.75, DATE '2024-02-01'), (6, 'c3', NULL, NULL), (7, 'c1', 20.0, DATE '2023-12-31')
    ) AS v(order_id, customer_id, order_amount, order_date)"""
READINGS = """
    SELECT device_id, sensor_type, value::DOUBLE AS value FROM (VALUES
        ('1', 'a', 2.0), ('1', 'a', 4.0), ('1', 'a', 6.0), ('a|b', 'c', 1.0), ('a', 'b|c', 3.0), ('1', 'b', NULL), ('1', 'a', NULL)
    ) AS v(device_id, sensor_type, value)"""
POSTS = """
    SELECT id, hashtags::VARCHAR[] AS hashtags, likes, engagement_score::DOUBLE AS engagement_score FROM (VALUES
        (1, ['#ai', '#ml', '#tech'], 10, 0.5), (2, ['#ai', '#ai'], 3, 0.25), (3, [], 99, 9.0), (4, NULL, 99, 9.0), (5, ['#ml'], NULL, NULL)
    ) AS v(id, hashtags, likes, engagement_score)"""
TRENDS = """
    SELECT TIMESTAMP '2024-05-01 10:00:00' + to_milliseconds(i * 500) AS event_time, hashtags, likes, retweets, replies,
        0.5::DOUBLE AS engagement_score
    FROM (
        SELECT i, ['#ai'] AS hashtags, 1 AS likes, 0 AS retweets, 0 AS replies FROM range(500) AS r(i)
        UNION ALL SELECT i, ['#ml'], 1, 0, 0 FROM range(450) AS r(i)
        UNION ALL SELECT i, ['#tech', '#rare'], 1, 0, 0 FROM range(100) AS r(i)
        UNION ALL SELECT i, ['#tech'], 1, 0, 0 FROM range(200) AS r(i)
        UNION ALL SELECT i, ['#data'], 0, 2, -1 FROM range(280) AS r(i)
        UNION ALL SELECT 600 + i, ['#ai'], 1, 0, 0 FROM range(101) AS r(i)
    )"""
TRANSACTIONS = """
    SELECT customer_id, event_time, amount::DECIMAL(12,2) AS amount FROM (
        SELECT 'c1' AS customer_id, TIMESTAMP '2024-05-01 10:00:00' + to_minutes(i::INTEGER * 42 // 11) AS event_time,
            CASE WHEN i = 0 THEN 123.50 ELSE 400 END AS amount FROM range(12) AS r(i)
        UNION ALL VALUES
            ('c2', TIMESTAMP '2024-05-01 10:45:00', 6000), ('c2', TIMESTAMP '2024-05-01 10:00:00', 4000.5),
            ('c2', TIMESTAMP '2024-05-01 11:30:00.000001', 1), ('c3', NULL, 5)
        UNION ALL SELECT 'c4', TIMESTAMP '2024-05-01 10:00:00' + to_seconds(i), 1 FROM range(21) AS r(i)
    )"""
# Three prices away from 100.00 whose differences cancel out.
TRADES = """
    SELECT 40::BIGINT AS volume,
        (CASE i WHEN 7 THEN 42.18 WHEN 500001 THEN 195.23 WHEN 999999 THEN 62.59 ELSE 100 END)::DECIMAL(12,2) AS price
    FROM range(1000000) AS r(i)"""
# Eight customers whose totals average 5000.
SPENT = """
    SELECT customer_id, amount::DECIMAL(12,2) AS amount FROM (
        VALUES ('customer_1002', 8000.75), ('customer_1002', 920.00), ('customer_1005', 15600.00), ('customer_1005', 0.50),
            ('customer_1001', 2978.75), ('customer_1001', NULL)
        UNION ALL SELECT 'customer_200' || (i % 5), 250.00 FROM range(50) AS r(i)
    ) AS v(customer_id, amount)"""
DEVICES = """
    SELECT * FROM (VALUES
        ('device_001', 'pump', 'hall', 'ACME'), ('device_002', 'fan', 'roof', 'ACME'), ('device_003', 'gate', NULL, 'Other')
    ) AS v(device_id, device_name, location, manufacturer)"""
PRODUCTS = """
    SELECT * FROM (VALUES ('a', 1), ('a', 2), ('a', 3), ('a', 3), ('b', 3), ('b', 2), ('b', 1), ('c', 1), ('c', 2), ('c', 9), ('d', NULL))
    AS v(customer_id, product_id)"""
QUOTES = """
    SELECT symbol, event_time, bid_price, bid_price + 1 AS ask_price, 1 AS spread FROM (VALUES
        ('A', TIMESTAMP '2024-05-01 10:00:01', 10), ('A', TIMESTAMP '2024-05-01 10:00:02.000001', 11),
        ('A', TIMESTAMP '2024-05-01 09:59:59', 12),
        ('B', TIMESTAMP '2024-05-01 10:00:01', 20), ('A', NULL, 13), ('A', TIMESTAMP '2024-05-01 10:00:02', 14)
    ) AS v(symbol, event_time, bid_price)"""
QUOTED = """
    SELECT * FROM (VALUES
        (1, 'A', TIMESTAMP '2024-05-01 10:00:01', 100), (2, 'A', TIMESTAMP '2024-05-01 10:00:00', 101),
        (3, 'B', TIMESTAMP '2024-05-01 11:00:00', 102)
    ) AS v(trade_id, symbol, event_time, price)"""

SEEDS = {
    "projection": Seed(
        "SELECT id, name, UPPER(name) as name_upper, value * 2 as doubled_value FROM test_stream WHERE value > 100;",
        {"test_stream": "SELECT * FROM (VALUES (1, 'a', 100), (2, 'b', 101), (3, NULL, 200), (4, 'd', NULL)) AS v(id, name, value)"},
        lambda: [(2, "b", "B", 202), (3, None, None, 400)],
    ),
    "group by customer": Seed(
        "SELECT customer_id, COUNT(*) as order_count, SUM(order_amount) as total_spent, AVG(order_amount) as avg_order_value, "
        "MIN(order_date) as first_order, MAX(order_date) as last_order FROM orders GROUP BY customer_id;",
        {
            "orders": ORDERS.replace("order_amount,", "amount_,").replace(
                "SELECT *", "SELECT order_id, customer_id, amount_::DOUBLE AS order_amount, order_date"
            )
        },
        lambda: [
            ("c1", 3, 30.0, 15.0, dt.date(2023, 12, 31), dt.date(2024, 1, 2)),
            ("c2", 1, 5.5, 5.5, dt.date(2024, 1, 3), dt.date(2024, 1, 3)),
            ("c3", 1, None, None, None, None),
            (None, 2, 8.0, 4.0, dt.date(2024, 2, 1), dt.date(2024, 2, 1)),
        ],
    ),
    "group by composite key": Seed(
        "SELECT device_id, sensor_type, COUNT(*) as reading_count, AVG(value) as avg_value, STDDEV(value) as stddev_value, "
        "MIN(value) as min_value, MAX(value) as max_value FROM sensor_readings GROUP BY device_id, sensor_type;",
        {"sensor_readings": READINGS},
        lambda: [
            ("1", "a", 4, 4.0, 2.0, 2.0, 6.0),
            ("1", "b", 1, None, None, None, None),
            ("a|b", "c", 1, 1.0, None, 1.0, 1.0),
            ("a", "b|c", 1, 3.0, None, 3.0, 3.0),
        ],
    ),
    "group by after unnest": Seed(
        "SELECT hashtag, COUNT(*) as mention_count, SUM(likes) as total_likes, AVG(engagement_score) as avg_engagement FROM posts "
        "CROSS JOIN UNNEST(hashtags) AS hashtag GROUP BY hashtag;",
        {"posts": POSTS},
        lambda: [("#ai", 3, 16, 1.0 / 3), ("#ml", 2, 10, 0.5), ("#tech", 1, 10, 0.5)],
        hold="source",
    ),
    "sessions": Seed(
        """SELECT customer_id, SESSION(event_time, INTERVAL '45' MINUTE) as session_window, COUNT(*) as event_count,
            SUM(amount) as session_total, round(AVG(amount), 2) as avg_transaction, MIN(event_time) as session_start,
            MAX(event_time) as session_end,
            CASE WHEN COUNT(*) > 20 THEN 'suspicious_velocity' WHEN SUM(amount) > 10000.0 THEN 'high_value_alert' ELSE 'normal' END
                as fraud_flag
        FROM transactions GROUP BY customer_id, SESSION(event_time, INTERVAL '45' MINUTE)""",
        {"transactions": TRANSACTIONS},
        lambda: [
            ("c1", 12, Decimal("4523.50"), 376.96, minutes(60), minutes(102), "normal"),
            ("c2", 2, Decimal("10000.50"), 5000.25, minutes(60), minutes(105), "high_value_alert"),
            (
                "c2",
                1,
                Decimal("1.00"),
                1.0,
                minutes(150) + dt.timedelta(microseconds=1),
                minutes(150) + dt.timedelta(microseconds=1),
                "normal",
            ),
            ("c4", 21, Decimal("21.00"), 1.0, minutes(60), minutes(60) + dt.timedelta(seconds=20), "suspicious_velocity"),
        ],
        ("customer_id", "event_count", "session_total", "avg_transaction", "session_start", "session_end", "fraud_flag"),
    ),
    "trending hashtags": Seed(
        """SELECT hashtag, TUMBLING(event_time, INTERVAL '5' MINUTE) as window, COUNT(*) as mention_count,
            SUM(likes + retweets + replies) as total_engagement, AVG(engagement_score) as avg_engagement,
            RANK() OVER (PARTITION BY window ORDER BY total_engagement DESC) as trending_rank
        FROM posts CROSS JOIN UNNEST(hashtags) AS hashtag
        GROUP BY hashtag, TUMBLING(event_time, INTERVAL '5' MINUTE)
        HAVING COUNT(*) > 100  -- Minimum mentions for trending""",
        {"posts": TRENDS},
        lambda: [
            ("#ai", (("start", minutes(60)), ("end", minutes(65))), 500, 500, 0.5, 1),
            ("#ml", (("start", minutes(60)), ("end", minutes(65))), 450, 450, 0.5, 2),
            ("#tech", (("start", minutes(60)), ("end", minutes(65))), 300, 300, 0.5, 3),
            ("#data", (("start", minutes(60)), ("end", minutes(65))), 280, 280, 0.5, 4),
            ("#ai", (("start", minutes(65)), ("end", minutes(70))), 101, 101, 0.5, 1),
        ],
    ),
    "global aggregate": Seed(
        "SELECT COUNT(*) as total_trades, SUM(volume) as total_volume, AVG(price) as avg_price, MIN(price) as min_price, "
        "MAX(price) as max_price, SUM(price * volume) as total_value FROM trades;",
        {"trades": TRADES},
        lambda: [(1_000_000, 40_000_000, 100.0, Decimal("42.18"), Decimal("195.23"), Decimal("4000000000.00"))],
    ),
    "global aggregate of nothing": Seed(
        "SELECT COUNT(*) as total_trades, SUM(volume) as total_volume, AVG(price) as avg_price FROM trades;",
        {"trades": f"{TRADES} WHERE false"},
        lambda: [(0, None, None)],
    ),
    "having against a global subquery": Seed(
        """SELECT customer_id, SUM(amount) as total_spent FROM transactions GROUP BY customer_id
        HAVING SUM(amount) > (
            SELECT AVG(customer_total) * 2.0
            FROM (SELECT SUM(amount) as customer_total FROM transactions GROUP BY customer_id) AS customer_totals
        );""",
        {"transactions": SPENT},
        lambda: [("customer_1005", Decimal("15600.50"))],
        hold="source",
    ),
    "co-partitioned join": Seed(
        "SELECT o.order_id, o.customer_id, o.order_amount, c.customer_tier, c.loyalty_points, c.signup_date FROM orders o "
        "JOIN customers c ON o.customer_id = c.customer_id WHERE o.order_date >= CURRENT_DATE - INTERVAL '30' DAY;",
        {
            "orders": "SELECT *, CURRENT_DATE - age AS order_date FROM (VALUES (1, 1001, 10, 1), (5, 1001, 50, 29), "
            "(2, 1002, 20, 0), (8, 1002, 80, 3), "
            "(3, 1003, 30, 1), (9, 1001, 90, 60), (4, NULL, 40, 1)) AS v(order_id, customer_id, order_amount, age)",
            "customers": "SELECT * FROM (VALUES (1001, 'gold', 7, DATE '2020-01-01'), (1002, 'silver', 3, NULL), (1005, 'gold', 1, NULL), "
            "(1008, NULL, NULL, NULL)) AS v(customer_id, customer_tier, loyalty_points, signup_date)",
        },
        lambda: [
            (1, 1001, 10, "gold", 7, dt.date(2020, 1, 1)),
            (5, 1001, 50, "gold", 7, dt.date(2020, 1, 1)),
            (2, 1002, 20, "silver", 3, None),
            (8, 1002, 80, "silver", 3, None),
        ],
    ),
    "broadcast left join": Seed(
        "SELECT r.device_id, r.sensor_type, r.value, d.device_name, d.location, d.manufacturer FROM sensor_readings r "
        "LEFT JOIN device_metadata d ON r.device_id = d.device_id;",
        {
            "sensor_readings": "SELECT printf('device_%03d', i % 4 + 1) AS device_id, 'heat' AS sensor_type, i AS value "
            "FROM range(8) AS r(i)",
            "device_metadata": DEVICES,
        },
        lambda: [
            (
                f"device_{i % 4 + 1:03d}",
                "heat",
                i,
                *((("pump", "hall", "ACME"), ("fan", "roof", "ACME"), ("gate", None, "Other"), (None,) * 3)[i % 4]),
            )
            for i in range(8)
        ],
        hold="arrow",
    ),
    "interval join": Seed(
        """SELECT t.trade_id, t.symbol, t.price as trade_price, q.bid_price, q.ask_price, q.spread
        FROM trades t JOIN quotes q ON t.symbol = q.symbol
            AND q.event_time BETWEEN t.event_time - INTERVAL '1' SECOND AND t.event_time + INTERVAL '1' SECOND;""",
        {"trades": QUOTED, "quotes": QUOTES},
        lambda: [(1, "A", 100, 10, 11, 1), (1, "A", 100, 14, 15, 1), (2, "A", 101, 10, 11, 1), (2, "A", 101, 12, 13, 1)],
        hold="source",
    ),
    "self join": Seed(
        """SELECT o1.customer_id as customer_a, o2.customer_id as customer_b, COUNT(DISTINCT o1.product_id) as common_products,
            list_sort(ARRAY_AGG(DISTINCT o1.product_id)) as customer_a_products,
            list_sort(ARRAY_AGG(DISTINCT o2.product_id)) as customer_b_products
        FROM orders o1 JOIN orders o2 ON o1.product_id = o2.product_id AND o1.customer_id != o2.customer_id
        GROUP BY o1.customer_id, o2.customer_id
        HAVING COUNT(DISTINCT o1.product_id) >= 3;  -- At least 3 common products""",
        {"orders": PRODUCTS},
        lambda: [("a", "b", 3, (1, 2, 3), (1, 2, 3)), ("b", "a", 3, (1, 2, 3), (1, 2, 3))],
    ),
    "keyword-like name": Seed(
        "SELECT id, name, value * 2 as doubled FROM stream WHERE value > 100",
        {"stream": "SELECT i AS id, 'n' || i AS name, i AS value FROM range(103) AS r(i)"},
        lambda: [(101, "n101", 202), (102, "n102", 204)],
        hold="source",
    ),
    "every group in one place": Seed(
        "SELECT customer_id, COUNT(*) FROM orders GROUP BY customer_id",
        {"orders": "SELECT i % 1000 AS customer_id FROM range(100000) AS r(i)"},
        lambda: [(customer, 100) for customer in range(1000)],
    ),
    "per category": Seed(
        "SELECT category, COUNT(*) FROM data GROUP BY category",
        {"data": "SELECT 'c' || (i % 3) AS category FROM range(10000) AS r(i)"},
        lambda: [("c0", 3334), ("c1", 3333), ("c2", 3333)],
        hold="files",
    ),
    "filtered scan": Seed(
        "SELECT * FROM large_table WHERE value > 100",
        {"large_table": "SELECT i AS id, i % 200 AS value FROM range(10007) AS r(i)"},
        lambda: [(i, i % 200) for i in range(10007) if i % 200 > 100],
    ),
    "small scan": Seed(
        "SELECT * FROM small_table", {"small_table": "SELECT i FROM range(50) AS r(i)"}, lambda: [(i,) for i in range(50)], hold="chunks"
    ),
    "limit and offset": Seed(
        "SELECT v FROM small_table ORDER BY v LIMIT 2 OFFSET 1",
        {"small_table": "SELECT * FROM (VALUES (40), (10), (30), (20)) AS v(v)"},
        lambda: [(20,), (30,)],
        hold="source",
    ),
}


@cache
def rows_from(sql: str) -> pa.Table:
    """Make rows by SQL."""
    with connect_duckdb() as connection:
        return connection.sql(sql).to_arrow_table()
