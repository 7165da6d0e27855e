"""The queries that streaming systems describe in their own notes, over relations of a size at which plans differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from streamq.plan.relations import ScanArrow
from streamq.plan.splits import ColumnRange, Lease, Split
from streamq.sql.catalog import RelationInfo

TIME = pa.timestamp("us")


@dataclass(frozen=True, slots=True)
class Described:
    """What is known of a relation before any row of it is read: enough to plan by, and no rows."""

    schema: pa.Schema
    splits: Sequence[Split]
    unit: Literal["row group", "shard"] = "row group"
    partition_keys: tuple[str, ...] = ()
    in_memory: bool = False
    at_hand: bool = False
    exact: bool = True

    @property
    def rows(self) -> int:
        return sum(split.rows for split in self.splits)

    @property
    def bytes(self) -> int:
        return sum(split.bytes for split in self.splits)

    @property
    def max_parallelism(self) -> int:
        return max(1, len(self.splits))

    def read(self, lease: Lease | None, columns: Sequence[str], filter: str | None = None) -> ScanArrow:
        return ScanArrow(self.schema.empty_table().select(list(columns)))


def file(columns: dict[str, pa.DataType], groups: int, *, rows: int = 122_880, ranges: Sequence[tuple[ColumnRange, ...]] = ()) -> Described:
    """Describe a Parquet file of row groups of 4 MB (or 32 bytes a row, where they are small)."""
    return Described(
        pa.schema(columns),
        [
            Split(0, n * rows, None if n == groups - 1 else (n + 1) * rows, rows, 32 * rows, ranges[n] if ranges else ())
            for n in range(groups)
        ],
    )


def source(columns: dict[str, pa.DataType], *partition_by: str) -> Described:
    """Describe a pushed source with four shards of a million rows."""
    shards = [Split(shard, 0, None, 1_000_000, 32_000_000) for shard in range(4)]
    return Described(pa.schema(columns), shards, "shard", partition_by, in_memory=True)


def volumes(*highest: int) -> list[tuple[ColumnRange, ...]]:
    """Say that row groups have volumes from 1 to a highest."""
    return [(ColumnRange("volume", 1, high, 0),) for high in highest]


MARKET = {
    "symbol": pa.string(), "exchange": pa.string(), "price": pa.float64(), "volume": pa.int64(), "hourly_avg_volume": pa.float64(),
    "daily_high": pa.float64(),
}  # fmt: skip
ORDERS = {
    "order_id": pa.int64(),
    "customer_id": pa.int64(),
    "product_id": pa.int64(),
    "order_amount": pa.float64(),
    "order_date": pa.date32(),
}
CUSTOMERS = {"customer_id": pa.int64(), "customer_tier": pa.string(), "loyalty_points": pa.int64(), "signup_date": pa.date32()}
READINGS = {"device_id": pa.string(), "sensor_type": pa.string(), "value": pa.float64(), "event_time": TIME}
DEVICES = {"device_id": pa.string(), "device_name": pa.string(), "location": pa.string(), "manufacturer": pa.string()}
POSTS = {
    "hashtags": pa.list_(pa.string()), "likes": pa.int64(), "retweets": pa.int64(), "replies": pa.int64(), "engagement_score": pa.float64(),
    "event_time": TIME,
}  # fmt: skip
TRANSACTIONS = {"customer_id": pa.int64(), "amount": pa.decimal128(12, 2), "event_time": TIME}
TRADES = {"trade_id": pa.int64(), "symbol": pa.string(), "price": pa.decimal128(12, 2), "volume": pa.int64(), "event_time": TIME}
QUOTES = {"symbol": pa.string(), "bid_price": pa.float64(), "ask_price": pa.float64(), "spread": pa.float64(), "event_time": TIME}
STREAM = {"id": pa.int64(), "name": pa.string(), "value": pa.int64()}


@dataclass(frozen=True, slots=True)
class Seed:
    """A query, the relations that it reads, and the strategy that it gets over them, as EXPLAIN writes it."""

    sql: str
    relations: dict[str, Described]
    strategy: str

    def catalog(self) -> dict[str, RelationInfo]:
        """Describe the relations to the binder."""
        return {
            name: RelationInfo(name, "registered" if known.unit == "row group" else "source", known.schema, known.unit == "shard")
            for name, known in self.relations.items()
        }


GROUP_BY_CUSTOMER = "SELECT customer_id, COUNT(*) FROM orders GROUP BY customer_id"
CO_PARTITIONED = """SELECT o.order_id, o.customer_id, o.order_amount, c.customer_tier, c.loyalty_points, c.signup_date
FROM orders o JOIN customers c ON o.customer_id = c.customer_id
WHERE o.order_date >= DATE '2026-01-01' - INTERVAL '30' DAY"""

SEEDS = {
    "E1.1 conditional metrics": Seed(
        """SELECT symbol, exchange, price, volume,
    CASE WHEN volume > hourly_avg_volume * 2.0 THEN 'high_volume_alert' WHEN price > daily_high * 0.99 THEN 'near_high' ELSE 'normal' END
        AS status_flag
FROM market_data WHERE symbol IN ('AAPL', 'GOOGL', 'MSFT') AND exchange = 'NASDAQ' AND volume > 10000""",
        {"market_data": file(MARKET, 6, ranges=volumes(90_000, 9_000, 10_000, 10_001, 50_000, 400))},
        "Passthrough(round_robin)",
    ),
    "E1.2 projection": Seed(
        "SELECT id, name, UPPER(name) AS name_upper, value * 2 AS doubled_value FROM test_stream WHERE value > 100",
        {"test_stream": source(STREAM)},
        "Passthrough(round_robin)",
    ),
    "E2.1 group by": Seed(
        """SELECT customer_id, COUNT(*) AS order_count, SUM(order_amount) AS total_spent, AVG(order_amount) AS avg_order_value,
    MIN(order_date) AS first_order, MAX(order_date) AS last_order
FROM orders GROUP BY customer_id""",
        {"orders": file(ORDERS, 8)},
        "TwoPhaseAggregation",
    ),
    "E2.1 group by the partition key": Seed(
        "SELECT customer_id, COUNT(*) AS order_count, AVG(order_amount) AS avg_order_value FROM orders GROUP BY customer_id",
        {"orders": source(ORDERS, "customer_id")},
        "FullyPartitionable(customer_id)",
    ),
    "E2.2 group by two keys": Seed(
        """SELECT device_id, sensor_type, COUNT(*) AS reading_count, AVG(value) AS avg_value, STDDEV(value) AS stddev_value,
    MIN(value) AS min_value, MAX(value) AS max_value
FROM sensor_readings GROUP BY device_id, sensor_type""",
        {"sensor_readings": file(READINGS, 8)},
        "TwoPhaseAggregation",
    ),
    "E2.3 group by after unnest": Seed(
        """SELECT hashtag, COUNT(*) AS mention_count, SUM(likes) AS total_likes, AVG(engagement_score) AS avg_engagement
FROM posts CROSS JOIN UNNEST(hashtags) AS hashtag GROUP BY hashtag""",
        {"posts": file(POSTS, 8)},
        "TwoPhaseAggregation",
    ),
    "E3.1 sessions": Seed(
        """SELECT customer_id, SESSION(event_time, INTERVAL '45' MINUTE) AS session_window, COUNT(*) AS event_count,
    CASE WHEN COUNT(*) > 20 THEN 'suspicious_velocity' WHEN SUM(amount) > 10000.0 THEN 'high_value_alert' ELSE 'normal' END AS fraud_flag
FROM transactions GROUP BY customer_id, SESSION(event_time, INTERVAL '45' MINUTE)""",
        {"transactions": file(TRANSACTIONS, 8)},
        "FullyPartitionable(customer_id)",
    ),
    "E3.2 sliding windows": Seed(
        """SELECT device_id, sensor_type, SLIDING(event_time, INTERVAL '10' MINUTE, INTERVAL '1' MINUTE) AS window, AVG(value) AS avg_value,
    STDDEV(value) AS stddev_value, COUNT(*) AS sample_count, (MAX(value) - AVG(value)) / STDDEV(value) AS z_score
FROM sensor_readings GROUP BY device_id, sensor_type, SLIDING(event_time, INTERVAL '10' MINUTE, INTERVAL '1' MINUTE)
HAVING ABS((MAX(value) - AVG(value)) / STDDEV(value)) > 3.0""",
        {"sensor_readings": file(READINGS, 8)},
        "TwoPhaseAggregation",
    ),
    "E3.3 global rank in a window": Seed(
        """SELECT hashtag, TUMBLING(event_time, INTERVAL '5' MINUTE) AS window, COUNT(*) AS mention_count,
    SUM(likes + retweets + replies) AS total_engagement, AVG(engagement_score) AS avg_engagement,
    RANK() OVER (PARTITION BY window ORDER BY total_engagement DESC) AS trending_rank
FROM posts CROSS JOIN UNNEST(hashtags) AS hashtag
GROUP BY hashtag, TUMBLING(event_time, INTERVAL '5' MINUTE) HAVING COUNT(*) > 100""",
        {"posts": file(POSTS, 8)},
        "TwoPhaseAggregation",
    ),
    "E4.1 global aggregate": Seed(
        """SELECT COUNT(*) AS total_trades, SUM(volume) AS total_volume, AVG(price) AS avg_price, MIN(price) AS min_price,
    MAX(price) AS max_price, SUM(price * volume) AS total_value
FROM trades""",
        {"trades": file(TRADES, 8)},
        "TwoPhaseAggregation",
    ),
    "E4.2 having against a global subquery": Seed(
        """SELECT customer_id, SUM(amount) AS total_spent FROM transactions GROUP BY customer_id
HAVING SUM(amount) > (
    SELECT AVG(customer_total) * 2.0
    FROM (SELECT SUM(amount) AS customer_total FROM transactions GROUP BY customer_id) AS customer_totals
)""",
        {"transactions": file(TRANSACTIONS, 8)},
        "TwoPhaseAggregation",
    ),
    "E5.1 join of what is partitioned alike": Seed(
        CO_PARTITIONED,
        {"orders": source(ORDERS, "customer_id"), "customers": source(CUSTOMERS, "customer_id")},
        "FullyPartitionable(customer_id)",
    ),
    "E5.1 join of two large files": Seed(
        CO_PARTITIONED, {"orders": file(ORDERS, 8), "customers": file(CUSTOMERS, 4)}, "RepartitionRequired(round robin → customer_id)"
    ),
    "E5.1 join with a small file": Seed(
        CO_PARTITIONED, {"orders": file(ORDERS, 8), "customers": file(CUSTOMERS, 1, rows=1_000)}, "BroadcastJoin(customers)"
    ),
    "E5.2 left join with a lookup table": Seed(
        """SELECT r.device_id, r.sensor_type, r.value, d.device_name, d.location, d.manufacturer
FROM sensor_readings r LEFT JOIN device_metadata d ON r.device_id = d.device_id""",
        {"sensor_readings": file(READINGS, 8), "device_metadata": file(DEVICES, 1, rows=500)},
        "BroadcastJoin(device_metadata)",
    ),
    "E5.3 join within a second": Seed(
        """SELECT t.trade_id, t.symbol, t.price AS trade_price, q.bid_price, q.ask_price, q.spread
FROM trades t JOIN quotes q ON t.symbol = q.symbol
    AND q.event_time BETWEEN t.event_time - INTERVAL '1' SECOND AND t.event_time + INTERVAL '1' SECOND""",
        {"trades": source(TRADES, "symbol"), "quotes": source(QUOTES, "symbol")},
        "FullyPartitionable(symbol)",
    ),
    "E5.4 self join on another key": Seed(
        """SELECT o1.customer_id AS customer_a, o2.customer_id AS customer_b, COUNT(DISTINCT o1.product_id) AS common_products,
    ARRAY_AGG(DISTINCT o1.product_id) AS customer_a_products, ARRAY_AGG(DISTINCT o2.product_id) AS customer_b_products
FROM orders o1 JOIN orders o2 ON o1.product_id = o2.product_id AND o1.customer_id != o2.customer_id
GROUP BY o1.customer_id, o2.customer_id HAVING COUNT(DISTINCT o1.product_id) >= 3""",
        {"orders": file(ORDERS, 8)},
        "RepartitionRequired(round robin → product_id)",
    ),
    "T1 keyword-like name": Seed(
        "SELECT id, name, value * 2 AS doubled FROM stream WHERE value > 100", {"stream": file(STREAM, 8)}, "Passthrough(round_robin)"
    ),
    "T2 count by customer": Seed(GROUP_BY_CUSTOMER, {"orders": source(ORDERS)}, "TwoPhaseAggregation"),
    "T3 global aggregates": Seed(
        "SELECT COUNT(*), AVG(price), MIN(price), MAX(price) FROM trades", {"trades": source(TRADES)}, "TwoPhaseAggregation"
    ),
    "T4 changes by customer": Seed(GROUP_BY_CUSTOMER, {"orders": source(ORDERS, "customer_id")}, "FullyPartitionable(customer_id)"),
    "top of a global rank": Seed(
        "SELECT * FROM (SELECT symbol, price, RANK() OVER (ORDER BY price DESC) AS place FROM trades) AS ranked WHERE place <= 10",
        {"trades": file(TRADES, 8)},
        "TwoPhaseAggregation",
    ),
    "top of every partition": Seed(
        "SELECT symbol, price FROM trades QUALIFY ROW_NUMBER() OVER (PARTITION BY symbol ORDER BY price DESC) <= 3",
        {"trades": file(TRADES, 8)},
        "TwoPhaseAggregation",
    ),
    "global rank": Seed(
        "SELECT symbol, price, RANK() OVER (ORDER BY price DESC) AS place FROM trades", {"trades": file(TRADES, 8)}, "Passthrough(single)"
    ),
    "few rows": Seed(GROUP_BY_CUSTOMER, {"orders": file(ORDERS, 3, rows=40)}, "Passthrough(single)"),
}
