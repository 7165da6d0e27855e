"""Who binds, and what of one database another never hears of."""

from __future__ import annotations

import pyarrow as pa
import pytest

from streamq.errors import BindError
from streamq.sql.bind import bind_query
from streamq.sql.binder import Binder
from streamq.sql.catalog import RelationInfo
from streamq.sql.parse import parse_one
from streamq.sql.statements import Select

ORDERS = {"orders": RelationInfo("orders", "source", pa.schema({"amount": pa.int64()}), system_columns=True)}


def select(sql: str) -> Select:
    statement = parse_one(sql)
    assert isinstance(statement, Select)
    return statement


def test_no_binder_sees_what_another_has() -> None:
    """Of two databases in a program, the tables of one are neither found nor suggested in the other."""
    first, second = Binder(), Binder()
    for binder, other in ((first, second), (second, first)):
        bind_query(select("SELECT amount FROM orders"), ORDERS, binder=binder)
        with other.session({}) as session:
            assert not session.binds("SELECT amount FROM orders")
        with pytest.raises(BindError) as raised:
            bind_query(select("SELECT sum(x) FROM (SELECT max(amount) AS x FROM ordres)"), {}, binder=other)
        assert "orders" not in str(raised.value)
    first.close()
    second.close()


def test_a_binder_leaves_nothing_to_the_next() -> None:
    """What a closed database had, the next one does not have."""
    for _ in range(2):
        binder = Binder()
        with binder.session({}) as session:
            assert not session.binds("SELECT amount FROM orders")
        bind_query(select("SELECT amount FROM orders"), ORDERS, binder=binder)
        binder.close()
