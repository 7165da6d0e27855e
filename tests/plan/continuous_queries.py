"""Relations with a few rows, and queries over them that are to be continuous: one for every construct."""

from __future__ import annotations

from datetime import datetime, timedelta

import pyarrow as pa

from streamq.sql.catalog import RelationInfo

START = datetime(2026, 1, 1)


def at(*seconds: int | None) -> list[datetime | None]:
    """Give moments, in seconds after the start."""
    return [None if second is None else START + timedelta(seconds=second) for second in seconds]


ORDERS = pa.table(
    {
        "id": pa.array([1, 2, 3, 4, 5, 6, 7, 7, 8, None], pa.int64()),
        "customer": pa.array(["a", "b", "a", None, "c", "b", "a", "a", None, "z"]),
        "amount": pa.array([10.0, 5.5, None, 7.0, 3.25, 5.5, 20.0, 20.0, 1.0, 2.0]),
        "quantity": pa.array([1, 2, 3, 4, 5, None, 7, 7, 9, 10], pa.int32()),
        "tags": pa.array([["x", "y"], ["x"], [], None, ["y", "y"], ["z"], ["x"], ["x"], [None], ["w"]], pa.list_(pa.string())),
        "ts": pa.array(at(0, 70, 130, 200, 260, 330, 600, 600, 900, None), pa.timestamp("us")),
    }
)
PAYMENTS = pa.table(
    {
        "order_id": pa.array([1, 1, 3, 5, 9, None, 2], pa.int64()),
        "customer": pa.array(["a", "a", "a", "c", "d", None, None]),
        "paid": pa.array([4.0, 6.0, 9.0, None, 1.0, 8.0, 5.5]),
        "ts": pa.array(at(5, 30, 131, 300, 880, 200, 75), pa.timestamp("us")),
    }
)
CUSTOMERS = pa.table({"id": ["a", "b", "c", "d"], "name": ["Ann", "Bob", None, "Dan"], "tier": pa.array([1, 2, 1, 3], pa.int32())})
RELATIONS = {"orders": ORDERS, "payments": PAYMENTS, "customers": CUSTOMERS}
CATALOG = {
    "orders": RelationInfo("orders", "source", ORDERS.schema, True, (), ("ts", "ts - INTERVAL '5' SECOND")),
    "payments": RelationInfo("payments", "source", PAYMENTS.schema, True, (), ("ts", "ts - INTERVAL '5' SECOND")),
    "customers": RelationInfo("customers", "table", CUSTOMERS.schema, False, ("id",)),
}

QUERIES = {
    "all rows": "SELECT * FROM orders",
    "projection": "SELECT id, upper(customer) AS name, quantity * 2 AS twice FROM orders",
    "filter": "SELECT id, amount FROM orders WHERE amount > 4 AND customer IS NOT NULL",
    "table": "SELECT * FROM customers WHERE tier < 3",
    "unnest in from": "SELECT id, tag FROM orders CROSS JOIN UNNEST(tags) AS u(tag)",
    "unnest in select": "SELECT id, unnest(tags) AS tag FROM orders",
    "derived": "SELECT twice + 1 AS more FROM (SELECT quantity * 2 AS twice FROM orders) WHERE twice > 4",
    "cte": "WITH big AS (SELECT * FROM orders WHERE amount > 5) SELECT a.id, b.customer FROM big a JOIN big b ON a.id = b.id",
    "group by": """SELECT customer, count(*) AS n, sum(quantity) AS s, avg(amount) AS a, min(ts) AS f, max(amount) AS m FROM
        orders GROUP BY customer""",
    "group by an expression": "SELECT quantity % 2 AS odd, count(*) AS n FROM orders GROUP BY quantity % 2",
    "group by two": "SELECT customer, quantity % 2 AS odd, stddev(amount) AS s, var_pop(amount) AS v FROM orders GROUP BY 1, 2",
    "group by a table": "SELECT tier, count(*) AS n, sum(tier) AS s, max(name) AS m FROM customers GROUP BY tier",
    "group by keys alone": "SELECT customer FROM orders GROUP BY customer",
    "group by with filter": """SELECT customer, count(*) FILTER (WHERE quantity > 3) AS n, sum(quantity) FILTER (amount > 5) AS s FROM
        orders GROUP BY customer""",
    "having": "SELECT customer, sum(quantity) AS s FROM orders GROUP BY customer HAVING count(*) > 1",
    "integer division of a sum": "SELECT customer, sum(quantity) // 2 AS half FROM orders GROUP BY customer",
    "sum of sums": "SELECT sum(s) // 2 AS half FROM (SELECT customer, sum(quantity) AS s FROM orders GROUP BY customer)",
    "list aggregate": "SELECT customer, list(quantity ORDER BY quantity) AS l, max(customer || 'x') AS m FROM orders GROUP BY customer",
    "median": "SELECT customer, median(amount) AS m, count(*) AS n FROM orders GROUP BY customer",
    "count distinct": "SELECT customer, count(DISTINCT quantity) AS n FROM orders GROUP BY customer",
    "count distinct with others": "SELECT customer, count(DISTINCT quantity) AS n, count(*) AS m FROM orders GROUP BY customer",
    "global": "SELECT count(*) AS n, sum(quantity) AS s, avg(quantity) AS a, avg(amount) AS b, min(amount) AS f, max(ts) AS m FROM orders",
    "global moments": "SELECT stddev(amount) AS s, var_pop(quantity) AS v, stddev_pop(amount) AS p, var_samp(amount) AS w FROM orders",
    "global of nothing": "SELECT count(*) AS n, sum(quantity) // 2 AS s, stddev(amount) AS d FROM orders WHERE id > 1000",
    "global list": "SELECT list(quantity ORDER BY quantity) AS l FROM orders",
    "global count distinct": "SELECT count(DISTINCT customer) AS n FROM orders",
    "global of a table": "SELECT count(*) AS n, sum(tier) AS s, min(tier) AS m FROM customers",
    "distinct": "SELECT DISTINCT customer, quantity % 2 AS odd FROM orders",
    "distinct of groups": "SELECT DISTINCT n FROM (SELECT customer, count(*) AS n FROM orders GROUP BY customer)",
    "inner join": "SELECT o.id, p.paid FROM orders o JOIN payments p ON o.id = p.order_id WHERE o.amount > p.paid",
    "join with residual": "SELECT o.id, p.paid FROM orders o JOIN payments p ON o.id = p.order_id AND p.paid > o.quantity",
    "left join": "SELECT o.id, p.paid, p.order_id FROM orders o LEFT JOIN payments p ON o.id = p.order_id AND p.paid > 5",
    "right join": "SELECT o.id, p.paid FROM orders o RIGHT JOIN payments p ON o.id = p.order_id",
    "full join": "SELECT o.id, p.paid, o.customer FROM orders o FULL JOIN payments p ON o.id = p.order_id AND o.amount > p.paid",
    "full join using": "SELECT customer, o.id, p.paid FROM orders o FULL JOIN payments p USING (customer)",
    "semi join": "SELECT o.id FROM orders o SEMI JOIN payments p ON o.id = p.order_id",
    "anti join": "SELECT o.id, o.customer FROM orders o ANTI JOIN payments p ON o.id = p.order_id AND p.paid > 5",
    "cross join": "SELECT o.id, c.name FROM orders o CROSS JOIN customers c",
    "inequality join": "SELECT o.id, p.paid FROM orders o LEFT JOIN payments p ON o.amount < p.paid",
    "full inequality join": "SELECT o.id, p.paid FROM orders o FULL JOIN payments p ON o.amount < p.paid",
    "comma join": "SELECT o.id, p.paid FROM orders o, payments p WHERE o.id = p.order_id AND p.paid > 4",
    "join of expressions": """SELECT o.id, c.name FROM orders o JOIN customers c ON o.quantity % 3 = c.tier AND upper(o.customer) =
        upper(c.id)""",
    "join of types": "SELECT o.id, c.name FROM orders o JOIN customers c ON o.id = c.tier",
    "three joins": """SELECT o.id, p.paid, c.name FROM orders o JOIN payments p ON o.id = p.order_id
        LEFT JOIN customers c ON o.customer = c.id AND c.tier < p.paid""",
    "chain of outer joins": """SELECT o.id, p.paid, c.name FROM orders o LEFT JOIN payments p ON o.id = p.order_id
        FULL JOIN customers c ON c.id = coalesce(p.customer, o.customer)""",
    "join of groups": """SELECT a.customer, a.n, b.s FROM (SELECT customer, count(*) AS n FROM orders GROUP BY customer) a
        JOIN (SELECT customer, sum(paid) AS s FROM payments GROUP BY customer) b ON a.customer = b.customer""",
    "group by after a join": """SELECT c.name, sum(o.quantity) AS s, count(*) AS n FROM orders o JOIN customers c ON o.customer = c.id
        GROUP BY c.name""",
    "unnest beside a join": """SELECT o.id, tag, c.name FROM orders o JOIN customers c ON o.customer = c.id CROSS JOIN UNNEST(o.tags) AS
        u(tag)""",
    "asof join": "SELECT o.id, p.paid FROM orders o ASOF JOIN payments p ON o.customer = p.customer AND o.ts >= p.ts",
    "asof left join": "SELECT o.id, p.paid FROM orders o ASOF LEFT JOIN payments p ON o.ts >= p.ts",
    "scalar subquery": "SELECT id FROM orders WHERE amount > (SELECT avg(amount) FROM orders)",
    "scalar subquery in select": "SELECT id, amount - (SELECT min(paid) FROM payments) AS over_least FROM orders",
    "in subquery": "SELECT id FROM orders WHERE id IN (SELECT order_id FROM payments WHERE paid > 4)",
    "not in subquery": "SELECT id FROM orders WHERE id NOT IN (SELECT order_id FROM payments WHERE order_id IS NOT NULL)",
    "exists": "SELECT id FROM orders o WHERE EXISTS (SELECT 1 FROM payments p WHERE p.order_id = o.id)",
    "correlated scalar": "SELECT id, (SELECT sum(paid) FROM payments p WHERE p.order_id = o.id) AS paid FROM orders o",
    "correlated after a join": """SELECT o.id FROM orders o JOIN customers c ON o.customer = c.id
        WHERE o.amount > (SELECT avg(x.amount) FROM orders x WHERE x.customer = c.id)""",
    "having a subquery": """SELECT customer, sum(amount) AS s FROM orders GROUP BY customer HAVING sum(amount) > (SELECT avg(amount) FROM
        orders)""",
    "union all": "SELECT id, amount FROM orders UNION ALL SELECT order_id, paid FROM payments",
    "union": "SELECT customer FROM orders UNION SELECT customer FROM payments",
    "intersect": "SELECT customer FROM orders INTERSECT SELECT customer FROM payments",
    "except all": "SELECT customer FROM orders EXCEPT ALL SELECT customer FROM payments",
    "intersect of types": "SELECT id FROM orders INTERSECT SELECT tier FROM customers",
    "union of groups": """SELECT customer, count(*) AS n FROM orders GROUP BY customer UNION ALL SELECT customer, count(*) FROM
        payments GROUP BY customer""",
    "window function": "SELECT id, sum(amount) OVER (PARTITION BY customer ORDER BY id) AS running FROM orders",
    "global window function": "SELECT id, rank() OVER (ORDER BY amount DESC) AS place FROM orders",
    "two windows": """SELECT id, rank() OVER (PARTITION BY customer ORDER BY amount) AS place, count(*) OVER (PARTITION BY
        customer, quantity) AS n
        FROM orders""",
    "qualify": "SELECT id, customer FROM orders QUALIFY row_number() OVER (PARTITION BY customer ORDER BY amount DESC) = 1",
    "global qualify": "SELECT id, amount FROM orders QUALIFY rank() OVER (ORDER BY amount DESC) <= 2",
    "window over groups": "SELECT customer, count(*) AS n, rank() OVER (ORDER BY count(*) DESC) AS place FROM orders GROUP BY customer",
    "top n": "SELECT id, amount FROM orders ORDER BY amount DESC, id LIMIT 3",
    "top n with offset": "SELECT id FROM orders ORDER BY amount, ts DESC LIMIT 3 OFFSET 2",
    "top n of groups": "SELECT customer, sum(quantity) AS s FROM orders GROUP BY customer ORDER BY s DESC LIMIT 2",
    "top n in a subquery": "SELECT count(*) AS n, sum(amount) AS s FROM (SELECT * FROM orders ORDER BY amount DESC LIMIT 4)",
    "offset": "SELECT id FROM (SELECT id FROM orders ORDER BY id OFFSET 3)",
    "grouping sets": "SELECT customer, quantity, count(*) AS n FROM orders GROUP BY ROLLUP (customer, quantity)",
    "distinct on": "SELECT * FROM (SELECT DISTINCT ON (customer) customer, id, amount FROM orders ORDER BY customer, amount, id)",
    "constant": "SELECT 1 AS one, 'a' AS letter",
    "values": "SELECT o.id, v.x FROM orders o JOIN (VALUES (1, 'one'), (2, 'two')) v(n, x) ON o.quantity = v.n",
    "case": "SELECT id, CASE WHEN amount > 5 THEN 'big' ELSE 'small' END AS size FROM orders",
    "tumble": """SELECT customer, TUMBLE(ts, INTERVAL '2' MINUTE) AS w, count(*) AS n FROM orders GROUP BY customer,
        TUMBLE(ts, INTERVAL '2' MINUTE)""",
    "tumble bounds": """SELECT TUMBLE(ts, INTERVAL '2' MINUTE).start AS s, TUMBLE(ts, INTERVAL '2' MINUTE).end AS e,
        sum(quantity) AS q FROM orders
        GROUP BY TUMBLE(ts, INTERVAL '2' MINUTE)""",
    "tumble function": """SELECT window_start, window_end, customer, max(amount) AS m FROM TUMBLE(orders, ts, INTERVAL '2' MINUTE)
        GROUP BY window_start, window_end, customer""",
    "tumble list": "SELECT TUMBLE(ts, INTERVAL '2' MINUTE).start AS s, list(id ORDER BY id) AS l FROM orders GROUP BY 1",
    "hop": "SELECT window_start, customer, count(*) AS n FROM HOP(orders, ts, INTERVAL '1' MINUTE, INTERVAL '3' MINUTE) GROUP BY 1, 2",
    "hop as a grouping function": """SELECT customer, HOP(ts, INTERVAL '1' MINUTE, INTERVAL '3' MINUTE) AS w, avg(amount) AS a FROM orders
        GROUP BY customer, HOP(ts, INTERVAL '1' MINUTE, INTERVAL '3' MINUTE)""",
    "session": """SELECT customer, SESSION(ts, INTERVAL '2' MINUTE) AS w, count(*) AS n, sum(quantity) AS s FROM orders
        GROUP BY customer, SESSION(ts, INTERVAL '2' MINUTE)""",
    "session of all": """SELECT SESSION(ts, INTERVAL '1' MINUTE).start AS s, count(*) AS n FROM orders GROUP BY SESSION(ts, INTERVAL
        '1' MINUTE)""",
    "rank in a window": """SELECT customer, TUMBLE(ts, INTERVAL '2' MINUTE) AS w, count(*) AS n, rank() OVER (PARTITION BY w
        ORDER BY count(*) DESC) AS r
        FROM orders GROUP BY customer, TUMBLE(ts, INTERVAL '2' MINUTE)""",
    "windows of windows": """SELECT window_start, max(n) AS most FROM (
            SELECT window_start, customer, count(*) AS n FROM TUMBLE(orders, ts, INTERVAL '2' MINUTE) GROUP BY window_start, customer)
        GROUP BY window_start""",
    "join of windows": """SELECT a.window_start, a.n, b.s FROM
        (SELECT window_start, count(*) AS n FROM TUMBLE(orders, ts, INTERVAL '2' MINUTE) GROUP BY window_start) a LEFT JOIN
        (SELECT window_start, sum(paid) AS s FROM TUMBLE(payments, ts, INTERVAL '2' MINUTE) GROUP BY window_start) b
        ON a.window_start = b.window_start""",
    "columns called like values": """SELECT customer, sum(1) AS n, count(NULL) AS o, max("1") AS m, max("null") AS l
        FROM (SELECT customer, quantity AS "1", id AS "null" FROM orders) GROUP BY customer""",
    "window by a value": """SELECT "1", row_number() OVER (PARTITION BY 1 ORDER BY "1", id) AS r
        FROM (SELECT quantity AS "1", id FROM orders)""",
    "distinct in a window": "SELECT DISTINCT window_start, customer FROM TUMBLE(orders, ts, INTERVAL '2' MINUTE)",
    "interval join": """SELECT o.id, p.paid FROM orders o JOIN payments p
        ON o.customer = p.customer AND p.ts BETWEEN o.ts - INTERVAL '1' MINUTE AND o.ts + INTERVAL '2' MINUTE""",
    "left interval join": """SELECT o.id, p.paid FROM orders o LEFT JOIN payments p
        ON o.customer = p.customer AND p.ts BETWEEN o.ts - INTERVAL '1' MINUTE AND o.ts + INTERVAL '2' MINUTE""",
}
