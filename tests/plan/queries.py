"""Relations and queries that a plan is tried with."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from functools import cache

import pyarrow as pa

from tests.plan.reference import MemoryRelation, relation


@cache
def tables() -> dict[str, pa.Table]:
    """Make small tables with NULLs, repeated values, and types that differ between their keys."""
    count = 41
    day = datetime.datetime(2026, 1, 1)
    orders = pa.table(
        {
            "id": pa.array(range(count), pa.int64()),
            "customer": pa.array([None if n % 11 == 0 else n * 7 % 9 for n in range(count)], pa.int64()),
            "amount": pa.array([None if n % 13 == 5 else (n * 37 % 23) / 4 for n in range(count)], pa.float64()),
            "kind": pa.array([["new", "old", None, "ä 'x'"][n * 5 % 4] for n in range(count)], pa.string()),
            "made": pa.array([day + datetime.timedelta(hours=n * 3) for n in range(count)], pa.timestamp("us")),
        }
    )
    customers = pa.table(
        {
            "customer": pa.array([0, 1, 2, 3, 4, 12, None], pa.int32()),
            "name": pa.array(["a", "b", "c", "d", "d", "z", "n"], pa.string()),
            "region": pa.array([1, 1, 2, None, 3, 3, 1], pa.int32()),
        }
    )
    regions = pa.table({"region": pa.array([1, 2, 4], pa.int64()), "title": pa.array(["west", "east", "none"])})
    return {"orders": orders, "customers": customers, "regions": regions, "nothing": orders.slice(0, 0)}


def relations(given: Mapping[str, pa.Table] | None = None, *, split_rows: int = 4) -> dict[str, MemoryRelation]:
    """Make relations of the tables; `orders` is the largest."""
    given = tables() if given is None else given
    sizes = {"orders": 10_000, "customers": 1_000, "regions": 100, "nothing": 0}
    return {name: relation(table, split_rows, bytes=sizes.get(name, table.nbytes)) for name, table in given.items()}


ROWS = (
    "SELECT id, amount FROM orders QUALIFY rank() OVER (ORDER BY amount DESC) <= 3",
    "SELECT id, dense_rank() OVER (ORDER BY kind) AS r FROM orders QUALIFY r < 3 AND id % 2 = 0",
    "SELECT id, customer FROM orders QUALIFY row_number() OVER (PARTITION BY customer ORDER BY amount, id) = 2",
    "SELECT id, rank() OVER w AS r, row_number() OVER w AS n FROM orders WINDOW w AS (PARTITION BY kind ORDER BY id) "
    "QUALIFY r BETWEEN 1 AND 2",
    "SELECT id, rank() OVER (ORDER BY amount) AS r, count(*) OVER () AS n FROM orders QUALIFY r <= 2",
    "SELECT customer, median(amount) AS m FROM orders GROUP BY customer QUALIFY rank() OVER (ORDER BY median(amount) DESC) <= 2",
    "SELECT * FROM (SELECT id, rank() OVER (ORDER BY amount DESC) AS r FROM orders) AS s WHERE r <= 3 AND id > 5",
    "SELECT s.id, c.name FROM (SELECT *, row_number() OVER (PARTITION BY kind ORDER BY id) AS r FROM orders) AS s "
    "JOIN customers AS c USING (customer) WHERE 2 >= s.r",
    "SELECT c.name, s.id FROM customers AS c LEFT JOIN (SELECT *, rank() OVER (ORDER BY id) AS r FROM orders) AS s "
    "ON c.customer = s.customer WHERE s.r <= 9 OR s.r IS NULL",
    "SELECT count(*) AS n FROM (SELECT id, rank() OVER (ORDER BY amount) AS r FROM orders ORDER BY id LIMIT 20) AS s WHERE r <= 4",
    "SELECT * FROM orders",
    "SELECT id, amount * 2 AS twice FROM orders WHERE kind = 'new' OR amount > 3",
    "SELECT id + 1 AS id FROM orders WHERE id > 20",
    "SELECT 1 AS one",
    "SELECT * FROM nothing",
    "SELECT count(*) AS n, sum(amount) AS s, avg(amount) AS m, min(kind) AS k, max(made) AS t FROM orders",
    "SELECT count(*) AS n, sum(amount) AS s FROM nothing",
    "SELECT count(*) AS n, median(amount) AS m FROM nothing",
    "SELECT customer, count(*) AS n, sum(amount) AS s, stddev(amount) AS d, var_pop(amount) AS v FROM orders GROUP BY customer",
    "SELECT customer % 3 AS c, kind, count(amount) AS n FROM orders GROUP BY 1, 2",
    "SELECT kind, count(*) AS n FROM nothing GROUP BY kind",
    "SELECT kind FROM orders GROUP BY kind",
    "SELECT customer, median(amount) AS m FROM orders GROUP BY customer",
    "SELECT kind, customer, quantile_cont(amount, 0.5) AS m, count(DISTINCT amount) AS d FROM orders GROUP BY kind, customer",
    "SELECT count(DISTINCT customer) AS n, median(amount) AS m FROM orders",
    "SELECT kind, string_agg(CAST(id AS VARCHAR), ',' ORDER BY id) AS l FROM orders GROUP BY kind",
    "SELECT customer, corr(id, amount) AS c, covar_samp(id, amount) AS v FROM orders GROUP BY customer",
    "SELECT customer, sum(amount) AS s FROM orders GROUP BY customer HAVING count(*) > 4 AND sum(amount) > 3",
    "SELECT customer FROM orders GROUP BY customer HAVING max(amount) > (SELECT avg(amount) FROM orders)",
    "SELECT DISTINCT customer, kind FROM orders",
    "SELECT DISTINCT kind FROM nothing",
    "SELECT id, row_number() OVER (PARTITION BY customer ORDER BY id) AS r FROM orders",
    "SELECT id, sum(id) OVER (PARTITION BY customer, kind) AS s, rank() OVER (PARTITION BY customer ORDER BY id) AS r FROM orders",
    "SELECT id, rank() OVER (ORDER BY amount, id) AS r FROM orders",
    "SELECT id FROM orders QUALIFY row_number() OVER (PARTITION BY kind ORDER BY id DESC) = 1",
    "SELECT customer, count(*) AS n, rank() OVER (ORDER BY count(*) DESC, customer) AS r FROM orders GROUP BY customer",
    "SELECT customer, kind, median(amount) AS m, sum(median(amount)) OVER (PARTITION BY kind) AS t FROM orders GROUP BY customer, kind",
    "SELECT o.id, c.name FROM orders o JOIN customers c ON o.customer = c.customer",
    "SELECT o.id, c.name FROM orders o LEFT JOIN customers c ON o.customer = c.customer AND o.amount > 2",
    "SELECT o.id, c.name FROM orders o RIGHT JOIN customers c ON o.customer = c.customer",
    "SELECT o.id, c.name FROM customers c LEFT JOIN orders o ON o.customer = c.customer",
    "SELECT o.id, c.name FROM orders o FULL JOIN customers c ON o.customer = c.customer",
    "SELECT o.id, c.name, r.title FROM orders o JOIN customers c ON o.customer = c.customer LEFT JOIN regions r ON c.region = r.region",
    "SELECT a.id, b.id AS other FROM orders a JOIN orders b ON a.customer = b.customer AND a.id < b.id",
    "SELECT a.id, b.name FROM orders a, customers b WHERE a.customer = b.customer AND b.name <> 'd'",
    "SELECT o.id, r.title FROM orders o JOIN regions r ON o.id < r.region",
    "SELECT o.id, r.title FROM orders o CROSS JOIN regions r",
    "SELECT o.id, r.title FROM orders o FULL JOIN regions r ON o.id < r.region",
    "SELECT id FROM orders WHERE customer IN (SELECT customer FROM customers WHERE name > 'b')",
    "SELECT id FROM orders o WHERE NOT EXISTS (SELECT 1 FROM customers c WHERE c.customer = o.customer)",
    "SELECT id, (SELECT max(amount) FROM orders) AS top FROM orders",
    "SELECT name, (SELECT count(*) FROM orders o WHERE o.customer = c.customer) AS n FROM customers c",
    "SELECT c.region, count(*) AS n, sum(o.amount) AS s FROM orders o JOIN customers c USING (customer) GROUP BY c.region",
    "SELECT c.region, median(o.amount) AS m FROM orders o JOIN customers c USING (customer) GROUP BY c.region",
    "SELECT s, count(*) AS n FROM (SELECT customer, sum(amount) AS s FROM orders GROUP BY customer) GROUP BY s",
    "SELECT x.n, o.id FROM (SELECT customer, count(*) AS n FROM orders GROUP BY customer) x JOIN orders o ON o.customer = x.customer",
    "WITH top AS (SELECT * FROM orders ORDER BY amount DESC NULLS LAST, id LIMIT 9) SELECT kind, count(*) AS n FROM top GROUP BY kind",
    "WITH c AS (SELECT customer, amount FROM orders WHERE id > 5) SELECT count(*) AS n FROM c a JOIN c b ON a.customer = b.customer",
    "SELECT id FROM orders UNION ALL SELECT customer FROM customers",
    "SELECT kind, count(*) AS n FROM (SELECT kind FROM orders UNION ALL SELECT name FROM customers) GROUP BY kind",
    "SELECT customer FROM orders UNION SELECT customer FROM customers",
    "SELECT customer FROM orders EXCEPT SELECT customer FROM customers",
    "SELECT u FROM (SELECT unnest([id, customer]) AS u FROM orders)",
    "SELECT count(*) AS n FROM (SELECT id FROM orders LIMIT 10)",
    "SELECT count(*) AS n FROM (SELECT id FROM orders UNION ALL (SELECT id FROM orders ORDER BY id LIMIT 3))",
    "SELECT count(*) AS n FROM orders WHERE amount > 100",
    """SELECT "1", row_number() OVER (PARTITION BY 1 ORDER BY id) AS r FROM (SELECT customer AS "1", id FROM orders)""",
    """SELECT 1 AS "1", "null" FROM (SELECT customer AS "1", id AS "null" FROM orders)""",
    "SELECT kind, customer, grouping(kind) AS g, count(*) AS n FROM orders GROUP BY ROLLUP (kind, customer)",
)
"""Queries whose rows have no order."""

ORDERED = (
    "SELECT id, amount FROM orders ORDER BY amount DESC NULLS LAST, id",
    "SELECT id FROM orders ORDER BY kind NULLS FIRST, id DESC",
    "SELECT id FROM orders ORDER BY id",
    "SELECT id FROM orders ORDER BY id OFFSET 30",
    "SELECT id, kind FROM orders ORDER BY amount, id LIMIT 7 OFFSET 3",
    "SELECT kind FROM orders ORDER BY id DESC LIMIT 5",
    "SELECT id FROM orders ORDER BY id LIMIT 0",
    "SELECT customer, count(*) AS n FROM orders GROUP BY customer ORDER BY n DESC, customer LIMIT 3",
    "SELECT customer, median(amount) AS m FROM orders GROUP BY customer ORDER BY m, customer",
    "SELECT customer, median(amount) AS m FROM orders GROUP BY customer ORDER BY m, customer LIMIT 4",
    "SELECT DISTINCT kind FROM orders ORDER BY kind NULLS LAST",
    "SELECT id FROM orders UNION ALL SELECT customer FROM customers ORDER BY 1 NULLS FIRST",
    "SELECT o.id, c.name FROM orders o JOIN customers c USING (customer) ORDER BY o.id DESC LIMIT 6",
    "SELECT id FROM nothing ORDER BY id",
)
"""Queries whose answer is one sequence of rows."""

BOUNDED = (
    "SELECT id FROM orders LIMIT 7",
    "SELECT id FROM orders LIMIT 7 OFFSET 38",
    "SELECT id FROM orders OFFSET 12",
    "SELECT id FROM orders LIMIT 0",
    "SELECT id FROM orders UNION ALL SELECT customer FROM customers LIMIT 45",
)
"""Queries that may give any rows of what they give without LIMIT and OFFSET; only their number is known."""
