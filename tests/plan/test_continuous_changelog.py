"""What a continuous query says of its changes: their form and key, when rows are final, and what cannot be."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from streamq.errors import BindError
from streamq.plan.dataflow import Aggregate, Dataflow, Distinct, First, Hold, Join, Recompute, Sessions, TopN, edges
from streamq.sql.binder import Binder
from tests.plan.continuous_queries import QUERIES
from tests.plan.continuous_reference import Reference
from tests.plan.test_continuous import planned

TUMBLE = "TUMBLE(ts, INTERVAL '2' MINUTE)"
CHANGELOGS = {
    "SELECT id, amount FROM orders WHERE amount > 1": ("append", None),
    "SELECT * FROM customers": ("upsert", ("id",)),
    "SELECT name FROM customers": ("retract", None),
    "SELECT id AS i, upper(name) AS n FROM customers WHERE tier > 1": ("upsert", ("i",)),
    "SELECT customer, count(*) AS n FROM orders GROUP BY customer": ("upsert", ("customer",)),
    "SELECT count(*) AS n FROM orders GROUP BY customer": ("retract", None),
    "SELECT upper(customer) AS c, count(*) AS n FROM orders GROUP BY customer": ("retract", None),
    "SELECT count(*) AS n FROM orders": ("upsert", ()),
    "SELECT count(*) AS n FROM orders HAVING count(*) > 3": ("upsert", ()),
    "SELECT DISTINCT customer, quantity FROM orders": ("append", ("customer", "quantity")),
    "SELECT DISTINCT name FROM customers": ("upsert", ("name",)),
    "SELECT o.id, p.paid FROM orders o JOIN payments p ON o.id = p.order_id": ("append", None),
    "SELECT o.id, p.paid FROM orders o LEFT JOIN payments p ON o.id = p.order_id": ("retract", None),
    "SELECT o.id FROM orders o SEMI JOIN payments p ON o.id = p.order_id": ("append", None),
    "SELECT c.id FROM customers c ANTI JOIN payments p ON c.id = p.customer": ("upsert", ("id",)),
    "SELECT a.id, b.id AS other FROM customers a JOIN customers b ON a.tier = b.tier": ("upsert", ("id", "other")),
    "SELECT a.id, b.name FROM customers a JOIN customers b ON a.tier = b.tier": ("retract", None),
    "SELECT id, rank() OVER (ORDER BY tier) AS place FROM customers": ("upsert", ("id",)),
    "SELECT id, tier FROM customers ORDER BY tier LIMIT 2": ("upsert", ("id",)),
    "SELECT id FROM orders LIMIT 2": ("append", None),
    "SELECT id FROM customers LIMIT 2": ("upsert", ("id",)),
    "SELECT customer FROM orders UNION ALL SELECT id FROM customers": ("retract", None),
    "SELECT id, unnest([1, 2]) AS n FROM customers": ("retract", None),
    f"SELECT customer, {TUMBLE}.start AS s, count(*) AS n FROM orders GROUP BY customer, {TUMBLE}": ("upsert", ("customer", "s")),
    f"SELECT customer, {TUMBLE}.end AS e, count(*) AS n FROM orders GROUP BY customer, {TUMBLE}": ("upsert", ("customer", "e")),
    f"SELECT customer, {TUMBLE} AS w, count(*) AS n FROM orders GROUP BY customer, {TUMBLE}": ("upsert", ("customer", "w")),
    f"SELECT customer, count(*) AS n FROM orders GROUP BY customer, {TUMBLE}": ("retract", None),
    QUERIES["tumble function"]: ("upsert", ("window_start", "customer")),
    QUERIES["session"]: ("upsert", ("customer", "w")),
    "SELECT id FROM orders WHERE amount > (SELECT avg(amount) FROM orders)": ("retract", None),
    QUERIES["union of groups"]: ("retract", None),
}


@pytest.fixture(scope="module")
def binder() -> Iterator[Binder]:
    """Share one binder."""
    binder = Binder()
    yield binder
    binder.close()


@pytest.fixture(scope="module")
def reference() -> Reference:
    """Share one interpreter."""
    return Reference()


@pytest.mark.parametrize("sql", CHANGELOGS)
def test_changelog(sql: str, binder: Binder, reference: Reference) -> None:
    """A changelog is append where rows are only added, else upsert where a key is known."""
    dataflow = planned(f"{sql} EMIT CHANGES", binder, reference)
    assert (dataflow.changelog, dataflow.key) == CHANGELOGS[sql]


def test_groups_say_their_own_changes(binder: Binder, reference: Reference) -> None:
    """A projection of groups passes on what the aggregation says of each."""
    dataflow = planned("SELECT customer, 2 * count(*) AS n FROM orders GROUP BY customer EMIT CHANGES", binder, reference)
    assert dataflow.ready
    assert [node.emit for node in dataflow.nodes if isinstance(node, Aggregate)] == ["changelog"]
    assert dataflow.nodes[-1].schema.names == ["customer", "n", "_op"]


@pytest.mark.parametrize("clause", ["HAVING count(*) > 1", "LIMIT 3"])
def test_filtered_groups_do_not(clause: str, binder: Binder, reference: Reference) -> None:
    """Where groups can come into the result and leave it, their own changes are not the result's."""
    assert not planned(f"SELECT customer, count(*) AS n FROM orders GROUP BY customer {clause} EMIT CHANGES", binder, reference).ready


def test_ids_do_not_depend_on_other_parts(binder: Binder, reference: Reference) -> None:
    """Nodes are called by their place: another subquery elsewhere changes no name."""
    short = planned("SELECT customer, count(*) AS n FROM orders GROUP BY customer HAVING count(*) > 1 EMIT CHANGES", binder, reference)
    sql = "SELECT customer, count(*) AS n FROM orders GROUP BY customer HAVING count(*) > (SELECT min(tier) FROM customers) EMIT CHANGES"
    ids = {node.id for node in short.nodes}
    assert ids < {node.id for node in planned(sql, binder, reference).nodes}


# EMIT FINAL


def last(dataflow: Dataflow) -> object:
    """Give the last node that is not a projection."""
    return next(node for node in reversed(dataflow.nodes) if not edges(node) or type(node).__name__ != "Map")


def test_windows_close_their_groups(binder: Binder, reference: Reference) -> None:
    """A group of a time window is given when the window closes."""
    node = last(planned(f"{QUERIES['tumble']} EMIT FINAL", binder, reference))
    assert isinstance(node, Aggregate)
    assert node.emit == "close"
    assert node.closing is not None
    assert node.closing.plus_us == 120_000_000


def test_whole_windows_are_ranked_once(binder: Binder, reference: Reference) -> None:
    """Window functions over a time window's rows see them all in one epoch."""
    node = last(planned(f"{QUERIES['rank in a window']} EMIT FINAL", binder, reference))
    assert isinstance(node, Recompute)
    assert node.once


def test_windows_are_joined_once(binder: Binder, reference: Reference) -> None:
    """Windows that close together are joined as a whole."""
    node = last(planned(f"{QUERIES['join of windows']} EMIT FINAL", binder, reference))
    assert isinstance(node, Recompute)
    assert node.once


def test_what_has_no_accumulator_waits_for_its_window(binder: Binder, reference: Reference) -> None:
    """Rows wait until their window has closed, and are then aggregated once."""
    dataflow = planned(f"SELECT {TUMBLE}.start AS s, median(amount) AS m FROM orders GROUP BY {TUMBLE} EMIT FINAL", binder, reference)
    held = [node for node in dataflow.nodes if isinstance(node, Hold)]
    assert [node.closing is not None for node in held] == [True]
    assert isinstance(last(dataflow), Recompute)


def test_sessions_close(binder: Binder, reference: Reference) -> None:
    """A session's rows are given once."""
    (sessions,) = [node for node in planned(f"{QUERIES['session']} EMIT FINAL", binder, reference).nodes if isinstance(node, Sessions)]
    assert sessions.final
    assert not sessions.retracts


def test_bounded_joins_are_final(binder: Binder, reference: Reference) -> None:
    """A row without a match is given when its time bound has passed."""
    node = last(planned(f"{QUERIES['left interval join']} EMIT FINAL", binder, reference))
    assert isinstance(node, Join)
    assert node.final
    assert node.interval is not None
    assert (node.interval.lower_us, node.interval.upper_us) == (-60_000_000, 120_000_000)


def test_maps_are_final_at_once(binder: Binder, reference: Reference) -> None:
    """What is only ever added is given as it comes."""
    assert not any(isinstance(node, Hold) for node in planned("SELECT id FROM orders EMIT FINAL", binder, reference).nodes)


def test_groups_without_a_window_wait_for_the_end(binder: Binder, reference: Reference) -> None:
    """What no window closes is given when the sources end."""
    node = last(planned("SELECT customer, count(*) AS n FROM orders GROUP BY customer EMIT FINAL", binder, reference))
    assert isinstance(node, Hold)
    assert node.closing is None


# Limits


def test_a_limit_ends_the_query_where_rows_only_come(binder: Binder, reference: Reference) -> None:
    """LIMIT without ORDER BY takes rows as they come."""
    assert isinstance(last(planned("SELECT id FROM orders LIMIT 2 EMIT CHANGES", binder, reference)), First)


def test_a_limit_over_changes_orders_by_all_columns(binder: Binder, reference: Reference) -> None:
    """LIMIT without ORDER BY over rows that can go away chooses by value."""
    node = last(planned("SELECT id, tier FROM customers LIMIT 2 EMIT CHANGES", binder, reference))
    assert isinstance(node, TopN)
    assert [term.sql for term in node.order] == ['"id"', '"tier"']


def test_windows_free_their_state(binder: Binder, reference: Reference) -> None:
    """Different rows of a time window are forgotten when it closes."""
    node = last(planned(f"{QUERIES['distinct in a window']} EMIT CHANGES", binder, reference))
    assert isinstance(node, Distinct)
    assert node.closing is not None


# What cannot be


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT customer AS _op, count(*) AS n FROM orders GROUP BY customer EMIT CHANGES", "_op"),
        ("SELECT o.id, c.name FROM orders o LEFT JOIN customers c ON o.customer = c.id EMIT FINAL", "table customers"),
        ("SELECT tier, count(*) AS n FROM customers GROUP BY tier EMIT FINAL", "never"),
        ("SELECT id, customer AS ID FROM orders EMIT CHANGES", "id"),
        (
            """SELECT * FROM (SELECT customer, count(*) AS n FROM orders GROUP BY customer) g
            JOIN customers FOR SYSTEM_TIME AS OF PROCTIME() c ON g.customer = c.id EMIT CHANGES""",
            "withdrawn",
        ),
    ],
)
def test_refused(sql: str, message: str, binder: Binder, reference: Reference) -> None:
    """What cannot be continuous says why, and what to write instead."""
    with pytest.raises(BindError, match=message) as raised:
        planned(sql, binder, reference)
    assert raised.value.hint
