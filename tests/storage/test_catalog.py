"""The catalog: names, dependents, writes by name, and cuts over several relations."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pyarrow as pa
import pytest

from streamq.config import Config
from streamq.connectors import registered
from streamq.errors import BindError, SourceError
from streamq.sql.catalog import RelationInfo
from streamq.sql.statements import ColumnDef, CreateSource, CreateTable, Delete, Update
from streamq.storage.barriers import Reached
from streamq.storage.catalog import Catalog
from streamq.storage.entries import View
from streamq.storage.feeds import Wanted
from streamq.storage.insertion import write

ID = pa.schema([("id", pa.int32())])
WRITES = 500


def create_source(name: str, *, if_not_exists: bool = False) -> CreateSource:
    return CreateSource(f"CREATE SOURCE {name} …", name, (ColumnDef("id", "INTEGER"),), None, (), (), if_not_exists)


def create_table(name: str) -> CreateTable:
    return CreateTable(f"CREATE TABLE {name} …", name, (ColumnDef("id", "INTEGER"), ColumnDef("n", "INTEGER")), ("id",))


@pytest.fixture
def catalog() -> Iterator[Catalog]:
    made = Catalog(Config(target_partitions=3))
    made.create_source(create_source("Orders"))
    made.create_table(create_table("People"))
    made.add(registered("Things", pa.table({"id": [1]})))
    made.add(View("V1", "SELECT id FROM orders", ID, frozenset({"Orders"})))
    made.add(View("V2", "SELECT id FROM v1", ID, frozenset({"v1"})))
    yield made
    made.close()


def test_names_ignore_case(catalog: Catalog) -> None:
    """A relation is found under any case of its name and keeps the one it was given."""
    assert "ORDERS" in catalog
    assert catalog.relation("oRDERS").name == "Orders"
    assert set(catalog.infos()) == {"orders", "people", "things", "v1", "v2"}


def test_infos_are_what_binding_needs(catalog: Catalog) -> None:
    """An info has kind, columns, key, system columns, and a view's text; it does not change later."""
    infos = catalog.infos()
    assert infos["orders"] == RelationInfo("Orders", "source", ID, system_columns=True)
    assert infos["people"].primary_key == ("id",)
    assert infos["things"].kind == "registered"
    assert infos["v1"] == RelationInfo("V1", "view", ID, view_sql="SELECT id FROM orders")
    catalog.drop("v2")
    assert "v2" in infos
    assert "v2" not in catalog.infos()


def test_a_name_is_taken_once(catalog: Catalog) -> None:
    """Whatever the kind, a name belongs to one thing; IF NOT EXISTS leaves it."""
    with pytest.raises(BindError, match="already"):
        catalog.create_source(create_source("people"))
    with pytest.raises(BindError, match="already"):
        catalog.create_table(create_table("v1"))
    assert not catalog.create_source(create_source("ORDERS", if_not_exists=True))
    assert catalog.create_source(create_source("new", if_not_exists=True))


def test_unknown_names_get_suggestions(catalog: Catalog) -> None:
    """A misspelt name is answered with the nearest."""
    with pytest.raises(BindError, match="no relation 'ordres'; did you mean 'Orders'"):
        catalog.relation("ordres")
    with pytest.raises(SourceError, match="did you mean 'Orders'"):
        catalog.insert("ordres", [])


def test_drop_needs_cascade_where_views_depend(catalog: Catalog) -> None:
    """What views read is dropped with them or not at all; dependents go first."""
    with pytest.raises(BindError, match="read by V1, V2"):
        catalog.drop("orders")
    assert [gone.name for gone in catalog.drop("orders", cascade=True)] == ["V2", "V1", "Orders"]
    assert set(catalog.infos()) == {"people", "things"}


def test_drop_checks_the_kind(catalog: Catalog) -> None:
    """DROP TABLE of a source is an error that says what to use."""
    with pytest.raises(BindError, match="is a source, not a table") as raised:
        catalog.drop("orders", kind="table")
    assert raised.value.hint == "use DROP SOURCE Orders"
    with pytest.raises(BindError, match="no relation"):
        catalog.drop("nothing")
    assert catalog.drop("nothing", if_exists=True) == ()


def test_a_dropped_table_can_be_made_again(catalog: Catalog) -> None:
    """Its rows are gone; a snapshot of before keeps them."""
    catalog.insert("people", {"id": 1})
    before = catalog.cut(["people"]).snapshots()["people"]
    catalog.drop("people", kind="table")
    catalog.create_table(create_table("people"))
    assert catalog.cut(["people"]).snapshots()["people"].rows == 0
    assert before.rows == 1


def test_views_are_replaced_but_never_read_themselves(catalog: Catalog) -> None:
    """OR REPLACE keeps the graph of views free of circles, and kinds apart."""
    catalog.replace(View("v1", "SELECT id FROM people", ID, frozenset({"people"})))
    assert catalog.dependents("orders") == ()
    with pytest.raises(BindError, match="read itself"):
        catalog.replace(View("v1", "SELECT id FROM v2", ID, frozenset({"V2"})))
    with pytest.raises(BindError, match="is a source, not a view"):
        catalog.replace(View("orders", "SELECT 1", ID, frozenset()))


def test_unregister(catalog: Catalog) -> None:
    """Only what was registered and is not read by a view can be unregistered."""
    with pytest.raises(SourceError, match="was not registered"):
        catalog.remove("orders")
    catalog.add(View("v3", "SELECT id FROM things", ID, frozenset({"things"})))
    with pytest.raises(SourceError, match="read by v3"):
        catalog.remove("things")
    catalog.drop("v3")
    catalog.remove("THINGS")
    assert "things" not in catalog


def test_writes_by_name(catalog: Catalog) -> None:
    """Sources and tables take rows; the sequence counts every write to any relation."""
    start = catalog.sequence
    assert catalog.insert("orders", {"id": 1}).rows == 1
    assert write(catalog.insertion_columns("people", ("N", "id"), pa.table({"a": [10], "b": [1]}))).rows == 1
    assert write(catalog.insertion_columns("people", (), pa.table({"x": [2], "y": [20]}))).rows == 1
    assert catalog.update(Update("", "people", (("n", "n + 1"),), None)) == 2
    assert catalog.delete(Delete("", "people", "id = 2")) == 1
    assert catalog.cut(["People"]).snapshots()["People"].read(None, ["id", "n"]).table.to_pylist() == [{"id": 1, "n": 11}]  # type: ignore[union-attr]
    assert catalog.sequence == start + 5


def test_writes_to_what_takes_none_are_refused(catalog: Catalog) -> None:
    """Views and registered objects are read only; only tables change rows; only sources finish."""
    for name in ("v1", "things"):
        with pytest.raises(SourceError, match="cannot be written"):
            catalog.insert(name, {"id": 1})
    with pytest.raises(BindError, match="only the rows of a table"):
        catalog.delete(Delete("", "orders", None))
    with pytest.raises(SourceError, match="can be finished"):
        catalog.finish("people")
    with pytest.raises(BindError, match="gives 1 column for 2"):
        catalog.insertion_columns("people", (), pa.table({"x": [2]}))


def test_statistics(catalog: Catalog) -> None:
    """Every relation that holds rows says how many."""
    catalog.insert("orders", {"id": [1, 2]})
    catalog.finish("orders")
    states = {state.name: (state.kind, state.rows, state.inserted, state.finished) for state in catalog.statistics()}
    assert states == {
        "Orders": ("source", 2, 2, True),
        "People": ("table", 0, 0, False),
        "Things": ("registered", 1, None, True),
    }


def test_a_cut_is_the_same_for_all_relations(catalog: Catalog) -> None:
    """A writer inserts into a source, another one, now and then a table: no cut has a later write without those before it."""
    catalog.create_source(create_source("Events"))
    done = threading.Event()

    def write() -> None:
        for number in range(WRITES):
            catalog.insert("orders", {"id": number})
            catalog.insert("events", {"id": number})
            if number % 100 == 0:
                catalog.insert("people", {"id": number})
        done.set()

    def counts() -> list[int]:
        snapshots = catalog.cut(["people", "events", "orders"]).snapshots()
        return [snapshots[name].rows for name in ("orders", "events", "people")]

    writer = threading.Thread(target=write)
    writer.start()
    cuts = []
    while not done.is_set():
        cuts.append(counts())
    writer.join()
    for orders, events, people in [*cuts, counts()]:
        assert orders - events in (0, 1)
        assert -(-events // 100) - people in (0, 1)
    assert counts() == [WRITES, WRITES, WRITES // 100]


def test_a_view_has_no_snapshot(catalog: Catalog) -> None:
    """Views are text: queries read what is below them."""
    with pytest.raises(BindError, match="is a view"):
        catalog.cut(["v1"]).snapshots()


def test_a_materialized_view_is_a_relation_and_a_dependent(catalog: Catalog) -> None:
    """It is read and followed at one cut with others, and keeps what it reads from being dropped."""
    made = catalog.materialized("M", ID, sql="SELECT id FROM orders", key=None, reads=frozenset({"orders"}))
    assert "m" not in catalog
    catalog.add(made)
    catalog.insert("orders", {"id": [1]})
    made.apply([pa.record_batch({"id": pa.array([1], pa.int32())})], Reached(catalog.sequence, 0.0))
    assert catalog.infos()["m"] == RelationInfo("M", "materialized view", ID)
    assert catalog.cut(["m"]).snapshots()["m"].rows == 1
    feeds = catalog.open_feeds({"m": Wanted("m", None), "o": Wanted("orders", ("id",))})
    assert [feed.next_sequence for feed in feeds.values()] == [0, 0]
    with pytest.raises(BindError, match="'Orders' is read by"):
        catalog.drop("orders")
    catalog.drop("orders", cascade=True)
    assert "m" not in catalog
