"""Tables: upsert, UPDATE, DELETE, and snapshots of versions."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import pyarrow as pa
import pytest

from streamq.errors import BindError, DataError, SourceError
from streamq.sql.statements import ColumnDef, CreateTable, Delete, Update
from streamq.storage.commits import Commits
from streamq.storage.rows import InsertResult
from streamq.storage.table import KeyedTable, TableStore
from streamq.storage.versions import TableVersion


@pytest.fixture
def store() -> Iterator[TableStore]:
    opened = TableStore(Commits())
    yield opened
    opened.close()


@pytest.fixture
def table(store: TableStore) -> KeyedTable:
    columns = (ColumnDef("id", "INTEGER"), ColumnDef("Name", "VARCHAR", not_null=True), ColumnDef("n", "BIGINT"))
    made = KeyedTable.create(CreateTable("CREATE TABLE t …", "T t", columns, ("ID",)), store=store)
    made.insert([{"id": i, "name": f"n{i}", "n": i * 10} for i in range(3)])
    return made


def rows(table: KeyedTable) -> list[tuple[object, ...]]:
    return sorted(tuple(row.values()) for row in table.snapshot().read(None, table.schema.names).table.to_pylist())


def update(*assignments: tuple[str, str], where: str | None = None) -> Update:
    return Update("UPDATE …", "T t", assignments, where)


def test_the_schema_has_the_key(table: KeyedTable) -> None:
    """Key columns are NOT NULL, under the names of the declaration."""
    assert table.primary_key == ("id",)
    assert table.schema == pa.schema(
        [pa.field("id", pa.int32(), nullable=False), pa.field("Name", pa.string(), nullable=False), ("n", pa.int64())]
    )


def test_insert_is_upsert(table: KeyedTable) -> None:
    """A row with a known key replaces the old one; of several rows with one key the last counts."""
    assert table.insert([{"id": 1, "name": "x"}, {"id": 7, "name": "a"}, {"id": 7, "name": "b"}]) == InsertResult(3, 3, 5)
    assert rows(table) == [(0, "n0", 0), (1, "x", None), (2, "n2", 20), (7, "b", None)]


def test_equal_floats_are_one_key(store: TableStore) -> None:
    """-0 is 0 and NaN is NaN as a key."""
    made = KeyedTable("f", pa.schema([pa.field("k", pa.float64(), nullable=False), ("v", pa.int64())]), ("k",), store=store)
    made.insert({"k": [0.0, math.nan], "v": [1, 2]})
    made.insert({"k": [-0.0, math.nan], "v": [3, 4]})
    assert sorted(made.snapshot().read(None, ["v"]).table["v"].to_pylist()) == [3, 4]


@pytest.mark.parametrize("row", [{"name": "x"}, {"id": None, "name": "x"}, {"id": 1}])
def test_null_keys_are_refused(table: KeyedTable, row: dict[str, object]) -> None:
    """NULL in a key or NOT NULL column leaves the table as it was."""
    before = rows(table)
    with pytest.raises(SourceError, match="NULL in a NOT NULL column"):
        table.insert([{"id": 9, "name": "y"}, row])
    assert rows(table) == before


def test_update_and_delete(table: KeyedTable) -> None:
    """Both take expressions and parameters, and tell how many rows they touched."""
    assert table.update(update(("n", 'n + $by + length("T t".name)'), where="id >= 1"), {"by": 5}) == 2
    assert rows(table) == [(0, "n0", 0), (1, "n1", 17), (2, "n2", 27)]
    assert table.delete(Delete("DELETE …", "T t", "id = ?"), [1]) == 1
    assert table.delete(Delete("DELETE …", "T t", None)) == 2
    assert rows(table) == []


def test_update_of_keys(table: KeyedTable) -> None:
    """Keys may take each other's places in one statement, and the index still holds."""
    table.insert({"id": list(range(5000)), "name": ["x"] * 5000})
    assert table.update(update(("id", '4999 - "T t".id'), ("n", "id"), where="id < $end"), {"end": 5000}) == 5000
    assert table.update(update(("id", "id + 9999"), where="id % 2 = 0 AND id > $end"), {"end": 4990}) == 4
    assert rows(table)[:2] == [(0, "x", 4999), (1, "x", 4998)]
    table.insert({"id": 0, "name": "again"})
    assert rows(table)[0] == (0, "again", None)


def test_expressions_that_fail_change_nothing(table: KeyedTable) -> None:
    """A failed expression is a DataError, a broken constraint a SourceError, unknown names a BindError."""
    before = rows(table)
    for statement, error in [
        (update(("n", "1 // (id - 2)")), DataError),
        (update(("n", "CAST(name AS BIGINT)")), DataError),
        (update(("name", "NULL")), SourceError),
        (update(("id", "1")), SourceError),
        (update(("id", "NULL")), SourceError),
        (update(("id", "1 // 0")), DataError),
        (update(("nn", "1")), BindError),
        (update(("n", "nope")), BindError),
        (update(("n", "(SELECT 1 FROM other)")), BindError),
        (update(("n", "$missing")), BindError),
        (update(("n", "1"), where="nope = 1"), BindError),
    ]:
        with pytest.raises(error):
            table.update(statement)
        assert rows(table) == before
    with pytest.raises(BindError):
        table.delete(Delete("DELETE …", "T t", "nope"))


def test_a_snapshot_is_of_one_version(table: KeyedTable) -> None:
    """A snapshot never changes; without a change, the next one is the same."""
    snapshot = table.snapshot()
    assert table.snapshot() is snapshot
    table.delete(Delete("DELETE …", "T t", None))
    assert snapshot.rows == snapshot.read(None, ["id"]).table.num_rows == 3
    assert (snapshot.unit, snapshot.in_memory, snapshot.partition_keys) == ("range", True, ())
    assert table.snapshot().rows == 0


def test_a_table_has_a_key(store: TableStore) -> None:
    """A key is needed, exists, and can be compared."""
    with pytest.raises(BindError, match="no PRIMARY KEY"):
        KeyedTable.create(CreateTable("", "x", (ColumnDef("a", "INT"),), ()), store=store)
    with pytest.raises(BindError, match="'b' is not a column"):
        KeyedTable.create(CreateTable("", "x", (ColumnDef("a", "INT"),), ("b",)), store=store)
    with pytest.raises(BindError, match="scalar"):
        KeyedTable.create(CreateTable("", "x", (ColumnDef("a", "INT[]"),), ("a",)), store=store)


def test_statements_cannot_reach_files(table: KeyedTable) -> None:
    """Expressions see the table and nothing of the machine."""
    with pytest.raises((BindError, DataError)):
        table.update(update(("n", "(SELECT count(*) FROM read_csv('/etc/passwd'))")))


def test_versions_stay_as_they_were_while_the_table_is_written(table: KeyedTable) -> None:
    """Whenever a version is read out, and whatever was inserted, changed, deleted or given another key since, it has its own rows."""
    chance = random.Random(7)
    expected = {row[0]: row for row in rows(table)}
    held: list[tuple[TableVersion, list[tuple[object, ...]]]] = []
    for step in range(200):
        key = chance.randrange(20)
        match chance.choice(["insert", "insert", "update", "delete", "delete", "move"]):
            case "insert":
                table.insert({"id": key, "name": f"step {step}", "n": step})
                expected[key] = (key, f"step {step}", step)
            case "update":
                table.update(update(("n", str(step)), where=f"id = {key}"))
                if key in expected:
                    expected[key] = (*expected[key][:2], step)
            case "delete":
                table.delete(Delete("DELETE …", "T t", f"id = {key}"))
                expected.pop(key, None)
            case "move":
                table.update(update(("id", "19 - id")))
                expected = {19 - old: (19 - old, *row[1:]) for old, row in expected.items()}
        assert table.rows == len(expected)
        held.append((table.snapshot(), sorted(expected.values())))
        if len(held) > 10:
            version, then = held.pop(chance.randrange(len(held)))
            read = version.read(None, table.schema.names).table
            assert sorted(tuple(row.values()) for row in read.to_pylist()) == then
            assert version.rows == version.read_out().rows == len(then)


def test_a_version_outlives_its_table(store: TableStore, table: KeyedTable) -> None:
    """What was cut before DROP, or before the database was closed, can still be read out."""
    version = table.snapshot()
    table.drop()
    assert version.read(None, ["id"]).table.num_rows == 3
