"""Lowering: the plan of a query means what the query's text means, and is taken apart where it can be."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator

import duckdb
import pyarrow as pa
import pytest

from streamq.sql.bind import bind_query
from streamq.sql.binder import Binder
from streamq.sql.catalog import RelationInfo
from streamq.sql.logical import Block, BoundQuery, Derived, Query, Scan, Union, Whole
from streamq.sql.parse import parse_one
from streamq.sql.render import render_whole
from streamq.sql.statements import Select

TIME = pa.timestamp("us")


def queries(text: str) -> list[str]:
    """One query a line; indented lines go on with the one before."""
    return text.strip().replace("\n  ", " ").splitlines()


SCHEMAS = {
    "orders": {"order_id": pa.int64(), "customer_id": pa.int32(), "product_id": pa.int32(), "amount": pa.float64(), "placed": TIME,
               "note": pa.string()},
    "customers": {"customer_id": pa.int32(), "tier": pa.string(), "points": pa.int32()},
    "posts": {"id": pa.int64(), "hashtags": pa.list_(pa.string()), "likes": pa.int32(), "score": pa.float64(), "seen": TIME,
              "place": pa.struct([("city", pa.string()), ("code", pa.int32())])},
}  # fmt: skip
SYSTEM = {"_timestamp": pa.timestamp("us", "UTC"), "_partition": pa.int32(), "_offset": pa.int64()}
CATALOG = {
    "orders": RelationInfo("orders", "source", pa.schema(SCHEMAS["orders"]), system_columns=True, watermark=("placed", "placed")),
    "customers": RelationInfo("customers", "table", pa.schema(SCHEMAS["customers"]), primary_key=("customer_id",)),
    "posts": RelationInfo("posts", "source", pa.schema(SCHEMAS["posts"]), system_columns=True),
    "big_orders": RelationInfo(
        "big_orders",
        "view",
        pa.schema({"customer_id": pa.int32(), "amount": pa.float64()}),
        view_sql="SELECT customer_id, amount FROM orders WHERE amount > 3",
    ),
}

BLOCKS = queries("""
SELECT order_id, amount * 2 AS doubled FROM orders WHERE amount > 3
SELECT * FROM orders
SELECT * EXCLUDE (note) REPLACE (amount + 1 AS amount) FROM orders
SELECT o.*, c.tier FROM orders o JOIN customers c USING (customer_id)
SELECT * FROM orders JOIN customers USING (customer_id)
SELECT * FROM orders LEFT JOIN customers USING (customer_id)
SELECT * FROM orders RIGHT JOIN customers USING (customer_id)
SELECT customer_id, order_id, tier FROM orders FULL JOIN customers USING (customer_id)
SELECT * FROM customers NATURAL JOIN orders
SELECT COLUMNS('a.*') FROM orders
SELECT max(COLUMNS(* EXCLUDE (placed, note))) FROM orders
SELECT order_id AS note, note AS order_id FROM orders
SELECT amount, amount FROM orders
SELECT _offset, _PARTITION AS p, order_id FROM orders
SELECT *, _offset AS o FROM orders
FROM orders SELECT order_id
FROM customers
SELECT amount + 1 AS x, x * 2 AS y FROM orders WHERE x > 2
SELECT CASE WHEN amount > 4 THEN 'big' ELSE note END AS size FROM orders WHERE note IN ('a', 'b') OR note IS NULL
SELECT place.city, posts.place.code, place FROM posts
SELECT list_transform(hashtags, lambda tag: upper(tag) || note_of.note) FROM posts, (SELECT 'x' AS note) note_of
SELECT hashtags[1], len(hashtags) FROM posts
SELECT count(*) FROM orders
SELECT count(*) AS n, sum(amount), avg(amount), min(note), max(placed), stddev(amount), count(DISTINCT product_id) FROM orders
SELECT customer_id, count(*), sum(amount) AS total, avg(amount), min(placed), max(placed) FROM orders GROUP BY customer_id
SELECT customer_id, product_id, avg(amount), stddev(amount) FROM orders GROUP BY ALL
SELECT customer_id % 2 AS parity, count(*) FROM orders GROUP BY parity
SELECT customer_id % 2, count(*) FROM orders GROUP BY 1 ORDER BY 2 DESC, 1
SELECT customer_id % 2 + 1, count(*) FROM orders GROUP BY customer_id % 2
SELECT count(*) AS customer_id FROM orders GROUP BY customer_id
SELECT sum(amount) / count(*) AS mean, sum(amount) - sum(amount) AS zero FROM orders GROUP BY customer_id
SELECT customer_id FROM orders GROUP BY customer_id HAVING sum(amount) > 8 AND count(*) > 1
SELECT customer_id, sum(amount) AS total FROM orders GROUP BY customer_id HAVING total > 8
SELECT -customer_id AS customer_id, count(*) FROM orders GROUP BY customer_id HAVING customer_id < 3
SELECT count(*) FILTER (WHERE amount > 3) AS big, sum(amount) FILTER (WHERE note = 'a') FROM orders
SELECT customer_id, list(product_id ORDER BY order_id), string_agg(note, '-' ORDER BY order_id DESC) FROM orders GROUP BY customer_id
SELECT customer_id, list(DISTINCT product_id) FROM orders GROUP BY customer_id
SELECT first(order_id ORDER BY order_id), last(note ORDER BY order_id), arg_max(order_id, order_id), median(amount), mode(1) FROM orders
SELECT quantile_cont(amount, 0.25), percentile_cont(0.5) WITHIN GROUP (ORDER BY amount) FROM orders
SELECT 1 FROM orders HAVING count(*) > 1
SELECT sum(amount) AS s FROM orders WHERE false
SELECT customer_id, sum(amount) FROM orders GROUP BY customer_id ORDER BY count(*) DESC, customer_id
SELECT DISTINCT customer_id, note FROM orders
SELECT DISTINCT customer_id % 2 AS p FROM orders ORDER BY p
SELECT order_id FROM orders ORDER BY amount DESC NULLS FIRST, order_id LIMIT 5
SELECT order_id, amount FROM orders ORDER BY 2, 1 LIMIT 5 OFFSET 2
SELECT -amount AS amount, order_id FROM orders ORDER BY amount, order_id LIMIT 4
SELECT order_id FROM orders ORDER BY amount + 1 DESC, order_id LIMIT 3
SELECT customer_id, note FROM orders ORDER BY ALL LIMIT 7
SELECT order_id, row_number() OVER (PARTITION BY customer_id ORDER BY order_id) AS n FROM orders
SELECT order_id, sum(amount) OVER (PARTITION BY note ORDER BY order_id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS s FROM orders
SELECT order_id, rank() OVER (ORDER BY amount), dense_rank() OVER w FROM orders WINDOW w AS (PARTITION BY note ORDER BY amount)
SELECT order_id, lag(amount) OVER (ORDER BY order_id), first_value(amount) OVER (PARTITION BY note ORDER BY order_id) FROM orders
SELECT order_id FROM orders QUALIFY row_number() OVER (PARTITION BY customer_id ORDER BY order_id) = 1
SELECT customer_id, sum(amount) AS total, rank() OVER (ORDER BY total DESC) AS place FROM orders GROUP BY customer_id
SELECT customer_id, sum(sum(amount)) OVER (ORDER BY customer_id) FROM orders GROUP BY customer_id
SELECT customer_id, count(*) FROM orders GROUP BY customer_id QUALIFY row_number() OVER (ORDER BY count(*), customer_id) <= 2
SELECT o.order_id, c.tier FROM orders o JOIN customers c ON o.customer_id = c.customer_id AND c.points > o.amount
SELECT o.order_id, c.tier FROM orders o LEFT JOIN customers c ON o.customer_id = c.customer_id WHERE c.tier = 'gold' OR c.tier IS NULL
SELECT a.order_id, b.order_id AS other FROM orders a, orders b WHERE a.product_id = b.product_id AND a.order_id < b.order_id
SELECT count(*) FROM orders CROSS JOIN customers
SELECT * FROM orders SEMI JOIN customers USING (customer_id)
SELECT order_id FROM orders o ANTI JOIN customers c ON o.customer_id = c.customer_id
SELECT a.order_id, b.order_id AS earlier FROM orders a ASOF JOIN orders b ON a.customer_id = b.customer_id AND a.order_id > b.order_id
SELECT a.customer_id, b.customer_id AS other, count(DISTINCT a.product_id), array_agg(DISTINCT a.product_id)
  FROM orders a JOIN orders b ON a.product_id = b.product_id AND a.customer_id != b.customer_id
  GROUP BY a.customer_id, b.customer_id HAVING count(DISTINCT a.product_id) >= 2
SELECT o.order_id FROM orders o JOIN customers c ON o.customer_id::BIGINT = c.customer_id
SELECT hashtag, count(*), sum(likes) FROM posts CROSS JOIN UNNEST(hashtags) AS hashtag GROUP BY hashtag
SELECT id, tag FROM posts, UNNEST(hashtags) AS t(tag) WHERE tag <> '#a'
SELECT id, tag FROM posts LEFT JOIN UNNEST(hashtags) AS t(tag) ON true
SELECT unnest(hashtags) AS tag, count(*) FROM posts GROUP BY tag
SELECT id, unnest(hashtags) AS tag FROM posts
SELECT total FROM (SELECT customer_id, sum(amount) AS total FROM orders GROUP BY customer_id) t WHERE total > 4
WITH t AS (SELECT customer_id AS c, sum(amount) AS total FROM orders GROUP BY 1) SELECT a.c, b.total FROM t a JOIN t b ON a.c = b.c
WITH t(k, v) AS (SELECT customer_id, amount FROM orders), u AS (SELECT k, max(v) AS top FROM t GROUP BY k) SELECT * FROM u ORDER BY k
SELECT x, y FROM (SELECT order_id, note FROM orders) AS t(x, y) WHERE y IS NOT NULL
SELECT customer_id, sum(amount) FROM orders GROUP BY customer_id
  HAVING sum(amount) > (SELECT avg(t) * 0.5 FROM (SELECT sum(amount) AS t FROM orders GROUP BY customer_id) AS totals)
SELECT order_id FROM orders WHERE amount > (SELECT avg(amount) FROM orders)
SELECT order_id FROM orders WHERE customer_id IN (SELECT customer_id FROM customers WHERE tier = 'gold')
SELECT order_id FROM orders WHERE customer_id NOT IN (SELECT customer_id FROM customers WHERE customer_id IS NOT NULL)
SELECT order_id, amount - (SELECT min(amount) FROM orders) AS over FROM orders
SELECT customer_id FROM customers c WHERE EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.customer_id AND amount > 4)
SELECT order_id, (SELECT tier FROM customers c WHERE c.customer_id = o.customer_id) AS tier FROM orders o
SELECT order_id FROM orders o WHERE amount >= (SELECT max(amount) FROM orders i WHERE i.customer_id = o.customer_id)
SELECT customer_id, amount FROM big_orders WHERE amount < 6
SELECT tier, sum(b.amount) FROM big_orders b JOIN customers USING (customer_id) GROUP BY tier
SELECT order_id, amount FROM orders UNION SELECT points, customer_id FROM customers
SELECT customer_id FROM orders UNION ALL SELECT points FROM customers ORDER BY 1 LIMIT 5
SELECT date_trunc('day', placed) AS day, count(*) FROM orders GROUP BY day ORDER BY day
SELECT v.x, o.order_id FROM (VALUES (1, 'a'), (2, 'b')) AS v(x, name) JOIN orders o ON o.customer_id = v.x
SELECT o.order_id, g.n FROM orders o, range(3) AS g(n)
SELECT count(*) FROM orders o JOIN customers c ON o.customer_id = c.customer_id LEFT JOIN posts p ON p.likes = c.points
SELECT customer_id, any_value(tier) FROM customers GROUP BY customer_id
SELECT "order_id" AS "Select", 1 AS "two words" FROM orders ORDER BY "two words", "Select"
SELECT corr(amount, order_id), covar_samp(amount, order_id), regr_sxx(amount, order_id), bool_and(amount > 0), bit_xor(product_id)
  FROM orders
SELECT a.order_id, b.order_id AS prev FROM orders a ASOF JOIN orders b USING (customer_id, order_id)
SELECT a.order_id, b.order_id AS prev
  FROM orders a ASOF LEFT JOIN orders b ON a.customer_id=b.customer_id AND a.order_id > b.order_id WHERE b.note='a'
SELECT a.order_id, b.order_id AS prev
  FROM orders a ASOF JOIN orders b ON a.customer_id=b.customer_id AND a.order_id > b.order_id WHERE b.note='a'
SELECT customer_id, customer_id + 1 AS next, count(*) FROM orders GROUP BY customer_id, next ORDER BY next, 1
SELECT max(amount) AS amount FROM orders HAVING amount > 2
SELECT customer_id, max(amount) AS amount FROM orders GROUP BY customer_id HAVING sum(amount) > 4
SELECT note AS n, count(*) AS c FROM orders WHERE n = 'a' GROUP BY n
SELECT count(*) FILTER (WHERE note IS NOT NULL) * 2 + max(order_id) FROM orders
SELECT customer_id, list(note ORDER BY order_id)[1] FROM orders GROUP BY customer_id
SELECT customer_id, sum(amount) OVER (PARTITION BY note) AS s FROM orders QUALIFY s > 10
SELECT customer_id, note FROM orders QUALIFY count(*) OVER (PARTITION BY customer_id) > 4
SELECT order_id, sum(amount) OVER w AS s, avg(amount) OVER w AS a
  FROM orders WINDOW w AS (PARTITION BY note ORDER BY order_id ROWS UNBOUNDED PRECEDING)
SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY customer_id ORDER BY order_id DESC) AS rn FROM orders) WHERE rn <= 2
SELECT * FROM orders WHERE (customer_id, product_id) IN (SELECT customer_id, points FROM customers)
SELECT order_id, CASE WHEN EXISTS (SELECT 1
  FROM customers c WHERE c.customer_id = orders.customer_id) THEN 1 ELSE 0 END AS known FROM orders
SELECT order_id FROM orders WHERE amount > ALL (SELECT points FROM customers WHERE tier='tin')
SELECT c.tier, count(o.order_id) FROM customers c LEFT JOIN orders o ON o.customer_id = c.customer_id AND o.amount > 2 GROUP BY c.tier
SELECT a.x FROM (SELECT order_id AS x FROM orders ORDER BY order_id LIMIT 3) a JOIN (SELECT customer_id AS x FROM customers) b USING (x)
SELECT x FROM (SELECT order_id AS x FROM orders UNION ALL SELECT customer_id FROM customers) u WHERE x > 3
SELECT note, count(*) FROM orders GROUP BY note HAVING count(*) > (SELECT count(*) FROM customers)
SELECT coalesce(note, '-') AS note, count(*) FROM orders GROUP BY 1
SELECT coalesce(note, '-') AS note, count(*) FROM orders GROUP BY note
SELECT o.note, c.* EXCLUDE (points) FROM orders o JOIN customers c USING (customer_id)
SELECT c.customer_id, o.customer_id FROM orders o FULL JOIN customers c USING (customer_id)
SELECT sum(amount)::INT AS i, round(avg(amount), 2) FROM orders
SELECT DISTINCT note FROM orders ORDER BY note DESC LIMIT 2
SELECT DISTINCT note, customer_id FROM orders ORDER BY note, customer_id LIMIT 3 OFFSET 1
SELECT order_id % 3 AS g, sum(amount) FROM orders GROUP BY g ORDER BY sum(amount) DESC, g LIMIT 2
SELECT first_value(order_id) OVER (PARTITION BY note ORDER BY order_id) FROM orders
SELECT last_value(order_id) OVER (PARTITION BY note ORDER BY order_id) FROM orders
SELECT ntile(3) OVER (ORDER BY order_id) FROM orders
SELECT o.amount, o.amount AS amount2, amount FROM orders o
SELECT t.total FROM (SELECT sum(amount) AS total FROM orders) t, customers
WITH a AS (SELECT * FROM orders), b AS (SELECT * FROM a WHERE amount > 2) SELECT count(*) FROM b JOIN a USING (order_id)
WITH customers AS (SELECT customer_id FROM orders) SELECT count(*) FROM customers
SELECT count(*) FROM orders o WHERE o.customer_id = (SELECT max(customer_id) FROM customers)
SELECT struct_pack(a := amount, b := note) AS s FROM orders
SELECT [amount, order_id] AS l, {'k': note}.k FROM orders
SELECT list_filter(hashtags, lambda h: h <> '#a') FROM posts
SELECT h.tag FROM (SELECT unnest(hashtags) AS tag FROM posts) h WHERE h.tag = '#b'
SELECT customer_id, sum(amount) FILTER (WHERE note = 'a') / nullif(count(*), 0) FROM orders GROUP BY customer_id
SELECT -1 * sum(amount) AS "select" FROM orders GROUP BY customer_id ORDER BY "select"
SELECT customer_id AS "Customer Id", count(*) FROM orders GROUP BY "Customer Id"
SELECT ORDER_ID, Note FROM ORDERS WHERE AMOUNT > 2
SELECT string_agg(DISTINCT note, ',') FROM orders
SELECT array_agg(amount ORDER BY order_id) FILTER (WHERE amount > 2) FROM orders
SELECT date_diff('day', min(placed), max(placed)) FROM orders
SELECT o.order_id FROM orders o JOIN customers c ON c.customer_id = o.customer_id OR c.points = o.product_id
SELECT o.order_id, p.id FROM orders o LEFT JOIN posts p ON o.order_id = p.id AND list_contains(p.hashtags, '#a')
SELECT * FROM orders ORDER BY amount NULLS FIRST, note DESC, order_id OFFSET 3
SELECT TRY_CAST(note AS INT) FROM orders
SELECT amount BETWEEN 1 AND 3, note ILIKE 'A', note NOT IN ('a'), amount IS DISTINCT FROM 2 FROM orders WHERE NOT (amount > 3)
SELECT COLUMNS(*)::VARCHAR FROM customers
SELECT o.* REPLACE (o.amount * 2 AS amount), c.tier FROM orders o CROSS JOIN customers c
SELECT count(*), count(o.note), count(DISTINCT o.note) FROM orders o
SELECT sum(DISTINCT product_id), avg(DISTINCT product_id), min(DISTINCT note) FROM orders
SELECT 1 AS x FROM orders GROUP BY x
SELECT note, row_number() OVER (ORDER BY count(*) DESC, note) FROM orders GROUP BY note
SELECT lag(sum(amount)) OVER (ORDER BY note) FROM orders GROUP BY note
SELECT amount, count(*) OVER (ORDER BY amount RANGE BETWEEN 1 PRECEDING AND 1 FOLLOWING) FROM orders
SELECT cume_dist() OVER (ORDER BY amount), percent_rank() OVER (ORDER BY amount) FROM orders
SELECT * FROM customers c1 JOIN customers c2 ON c1.customer_id = c2.customer_id
SELECT c1.customer_id FROM customers c1 LEFT JOIN customers c2 USING (customer_id) LEFT JOIN customers c3 USING (customer_id)
""")

UNIONS = queries("""
SELECT order_id FROM orders UNION ALL SELECT customer_id FROM customers
SELECT customer_id AS c FROM customers UNION ALL SELECT amount FROM orders UNION ALL SELECT likes FROM posts
""")

WHOLES = queries("""
SELECT customer_id, note, count(*) FROM orders GROUP BY ROLLUP (customer_id, note)
SELECT DISTINCT ON (customer_id) customer_id, order_id FROM orders ORDER BY customer_id, order_id
SELECT customer_id FROM orders INTERSECT SELECT customer_id FROM customers
SELECT customer_id FROM orders EXCEPT ALL SELECT customer_id FROM customers
WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 4) SELECT n, order_id FROM r JOIN orders ON order_id = n
SELECT 1 AS one
SELECT (SELECT count(*) FROM orders) + (SELECT count(*) FROM customers) AS n
SELECT sum(amount) FROM orders GROUP BY note, ROLLUP (customer_id)
SELECT orders FROM orders
SELECT * FROM (SELECT customer_id, note FROM orders WHERE note IS NOT NULL) PIVOT (count(*) FOR note IN ('a', 'b'))
SELECT customer_id, (SELECT max(tier) FROM customers c WHERE c.customer_id = o.customer_id) FROM orders o GROUP BY customer_id
SELECT o.order_id, l.tier FROM orders o, LATERAL (SELECT tier FROM customers c WHERE c.customer_id = o.customer_id) l
SELECT order_id FROM orders UNION ALL BY NAME SELECT customer_id AS order_id FROM customers
""")


@pytest.fixture(scope="module")
def binder() -> Iterator[Binder]:
    binder = Binder()
    yield binder
    binder.close()


@pytest.fixture(scope="module")
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    """The catalog's relations with a few random rows each, system columns included (hidden behind views for the user's text)."""
    connection = duckdb.connect(config={"threads": 1})
    for name, columns in SCHEMAS.items():
        rows = _random_rows(random.Random(name), name, 40 if name != "customers" else 6)
        connection.register("every_column", pa.Table.from_pylist(rows, pa.schema({**columns, **SYSTEM})))
        connection.execute(f'CREATE TABLE "full {name}" AS FROM every_column')
        connection.execute(f"CREATE TABLE {name} AS SELECT * EXCLUDE (_timestamp, _partition, _offset) FROM every_column")
    connection.execute("CREATE VIEW big_orders AS SELECT customer_id, amount FROM orders WHERE amount > 3")
    yield connection
    connection.close()


def _random_rows(rng: random.Random, relation: str, count: int) -> list[dict[str, object]]:
    def maybe(value: object) -> object:
        return None if rng.random() < 0.15 else value

    makers = {
        "orders": lambda i: {"order_id": i, "customer_id": maybe(rng.randrange(7)), "product_id": rng.randrange(5),
                             "amount": maybe(rng.randrange(24) / 4), "note": maybe(rng.choice("abc")), "placed": i * 40_000_000_000},
        "customers": lambda i: {"customer_id": i, "tier": maybe(rng.choice(["gold", "tin"])), "points": rng.randrange(6)},
        "posts": lambda i: {"id": i, "hashtags": maybe(rng.choices(["#a", "#b", "#c", None], k=rng.randrange(4))), 
                            "likes": maybe(rng.randrange(9)),
                            "score": rng.randrange(16) / 8, "seen": i * 60_000_000, "place": {"city": rng.choice("xy"), "code": i}},
    }  # fmt: skip
    return [makers[relation](i) | {"_timestamp": i, "_partition": i % 3, "_offset": i // 3} for i in range(count)]


@functools.cache
def lower(sql: str, binder: Binder, *parameters: object) -> BoundQuery:
    """Bind a text, once for all tests: plans are not changed."""
    statement = parse_one(sql)
    assert isinstance(statement, Select)
    return bind_query(statement, CATALOG, parameters, binder=binder)


def run_plan(bound: BoundQuery, database: duckdb.DuckDBPyConnection) -> list[str]:
    """The plan's rows."""
    sql = render_whole(bound.plan, lambda scan: scan.relation if scan.columns is None else f'"full {scan.relation}"')
    return _texts(database.execute(sql, dict(bound.parameters) or None).fetchall())


def run_text(sql: str, database: duckdb.DuckDBPyConnection) -> list[str]:
    """The text's rows."""
    if "_offset" in sql:
        sql = sql.replace("*,", "* EXCLUDE (_timestamp, _partition, _offset),").replace("FROM orders", 'FROM "full orders" AS orders')
    return _texts(database.execute(sql).fetchall())


def _texts(rows: list[tuple[object, ...]]) -> list[str]:
    return [repr(tuple(map(_rounded, row))) for row in rows]


def _rounded(value: object) -> object:
    return float(f"{value:.9g}") if isinstance(value, float) else value


def scans(plan: Query) -> Iterator[Scan]:
    match plan:
        case Union():
            for branch in plan.branches:
                yield from scans(branch)
        case Block() | Whole():
            extra = (*plan.input_subqueries, *plan.output_subqueries) if isinstance(plan, Block) else ()
            for leaf in (*plan.leaves, *extra):
                if isinstance(leaf, Derived):
                    yield from scans(leaf.query)
                else:
                    yield leaf


@pytest.mark.parametrize("sql", [*BLOCKS, *UNIONS, *WHOLES])
def test_plan_means_what_the_text_means(sql: str, binder: Binder, database: duckdb.DuckDBPyConnection) -> None:
    """Running the plan in one piece gives the rows of the text, in its order where it has one."""
    got, expected = run_plan(lower(sql, binder), database), run_text(sql, database)
    if "ORDER BY" not in sql.rsplit(")", 1)[-1]:
        got, expected = sorted(_unordered(got, sql)), sorted(_unordered(expected, sql))
    assert got == expected


def _unordered(rows: list[str], sql: str) -> list[str]:
    """Lists that SQL gives in any order are compared as bags of characters."""
    return ["".join(sorted(row)) for row in rows] if "DISTINCT " in sql and ("list(" in sql or "array_agg(" in sql) else rows


@pytest.mark.parametrize("sql", BLOCKS)
def test_query_is_taken_apart(sql: str, binder: Binder) -> None:
    """Queries of the usual forms are blocks."""
    plan = lower(sql, binder).plan
    assert isinstance(plan, Block), getattr(plan, "reason", plan)


@pytest.mark.parametrize("sql", UNIONS)
def test_union_all_is_a_union(sql: str, binder: Binder) -> None:
    """UNION ALL becomes a Union of queries with one schema."""
    plan = lower(sql, binder).plan
    assert isinstance(plan, Union)
    assert {branch.schema for branch in plan.branches} == {plan.schema}


@pytest.mark.parametrize("sql", WHOLES)
def test_odd_query_runs_whole(sql: str, binder: Binder) -> None:
    """What is not taken apart runs in one piece and says why."""
    plan = lower(sql, binder).plan
    assert isinstance(plan, Whole)
    assert plan.reason
