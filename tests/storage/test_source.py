"""Pushed sources: where rows go, what a snapshot sees, what is dropped."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamq.errors import BindError, ResourceLimit, SourceError, UnsupportedError
from streamq.plan.splits import Lease
from streamq.sql.catalog import SYSTEM_SCHEMA
from streamq.sql.parse import parse_one
from streamq.sql.statements import ColumnDef, CreateSource
from streamq.storage.commits import Commits
from streamq.storage.memory import MemorySnapshot
from streamq.storage.pieces import PIECE_ROWS
from streamq.storage.routing import route
from streamq.storage.rows import InsertResult
from streamq.storage.session import private_session
from streamq.storage.shard import CHUNK_ROWS
from streamq.storage.source import PushedSource
from streamq.storage.source_options import SourceOptions, source_options

SCHEMA = pa.schema([("id", pa.int64()), ("key", pa.string())])
KEYS = pa.array([f"k{number}" for number in range(17)])


def source(
    *,
    shards: int = 3,
    partition_by: tuple[str, ...] = (),
    max_bytes: int = 1 << 30,
    options: SourceOptions | None = None,
    clock_us: Callable[[], int] | None = None,
) -> PushedSource:
    return PushedSource(
        "s",
        SCHEMA,
        commits=Commits(),
        shards=shards,
        partition_by=partition_by,
        max_bytes=max_bytes,
        options=options or SourceOptions(),
        clock_us=clock_us,
    )


def numbered(count: int, first: int = 0) -> pa.Table:
    ids = np.arange(first, first + count)
    return pa.table({"id": ids, "key": KEYS.take(pa.array(ids % len(KEYS)))})


def ids(snapshot: MemorySnapshot) -> NDArray[np.int64]:
    return np.sort(snapshot.read(None, ["id"]).table["id"].to_numpy())


def ids_by_split(snapshot: MemorySnapshot) -> NDArray[np.int64]:
    tables = [snapshot.read(Lease(i, (split,)), ["id"]).table for i, split in enumerate(snapshot.splits)]
    return np.sort(np.concatenate([np.array([], np.int64), *(table["id"].to_numpy() for table in tables)]))


@pytest.mark.parametrize("shards", [1, 2, 7, 256])
@pytest.mark.parametrize("partition_by", [(), ("key",), ("id", "key")], ids=str)
@pytest.mark.parametrize("batches", [[], [0], [1], [1] * 9, [97, 0, 101], [3 * PIECE_ROWS + 1], [CHUNK_ROWS + 7]], ids=str)
def test_every_row_is_in_one_split(shards: int, partition_by: tuple[str, ...], batches: list[int]) -> None:
    """Whatever the shards and batches: all rows are there, each once, and the last split of every shard is open."""
    pushed = source(shards=shards, partition_by=partition_by)
    total = 0
    for count in batches:
        pushed.insert(numbered(count, total))
        total += count
    snapshot = pushed.snapshot()
    assert snapshot.rows == sum(split.rows for split in snapshot.splits) == total
    everything = np.arange(total)
    assert np.array_equal(ids(snapshot), everything)
    assert np.array_equal(ids_by_split(snapshot), everything)
    assert all(split.end is None for unit, split in {s.unit: s for s in snapshot.splits}.items() if unit >= 0)


@given(st.lists(st.integers(0, 3000), max_size=12), st.integers(1, 9), st.booleans())
def test_rows_survive_merging_of_chunks(counts: list[int], shards: int, keyed: bool) -> None:
    """Merging small chunks loses nothing and keeps the order in a shard; offsets are dense."""
    pushed = source(shards=shards, partition_by=("key",) if keyed else ())
    total = 0
    for count in counts:
        pushed.insert(numbered(count, total))
        total += count
    table = pushed.snapshot().read(None, ["id", "_partition", "_offset"]).table
    by_shard: dict[int, list[tuple[int, int]]] = {}
    for row in table.to_pylist():
        by_shard.setdefault(row["_partition"], []).append((row["_offset"], row["id"]))
    for rows in by_shard.values():
        assert [offset for offset, _ in rows] == list(range(len(rows)))
        assert [value for _, value in rows] == sorted(value for _, value in rows)
    assert sum(map(len, by_shard.values())) == total


def test_many_small_inserts_make_few_chunks() -> None:
    """A scan does not pay for how the rows came."""
    pushed = source(shards=1)
    for number in range(1000):
        pushed.insert({"id": number, "key": "x"})
    assert pushed.snapshot().units[0].table["id"].num_chunks <= 16


def test_one_huge_batch_spreads_over_all_shards() -> None:
    """Rows without a key go to every shard alike."""
    pushed = source(shards=8)
    pushed.insert(numbered(1_000_000))
    assert [unit.table.num_rows for unit in pushed.snapshot().units] == [125_000] * 8


def test_pieces_go_round() -> None:
    """Small batches go to one shard after the other."""
    pushed = source(shards=3)
    for number in range(7):
        pushed.insert({"id": number, "key": "x"})
    assert [unit.table["id"].to_pylist() for unit in pushed.snapshot().units] == [[0, 3, 6], [1, 4], [2, 5]]


def test_rows_with_one_key_are_in_one_shard() -> None:
    """The routing hash decides, NULL is a key."""
    pushed = source(shards=5, partition_by=("KEY",))
    keys = [None, "a", "b", "c", "a|b", ""] * 50
    pushed.insert({"id": list(range(len(keys))), "key": keys})
    snapshot = pushed.snapshot()
    assert snapshot.partition_keys == ("key",)
    assert (snapshot.unit, snapshot.max_parallelism) == ("shard", 5)
    for row in snapshot.read(None, ["key", "_partition"]).table.to_pylist():
        assert row["_partition"] == route([pa.array([row["key"]], pa.string())], 5)[0]


def test_system_columns() -> None:
    """Rows have their arrival, shard and offset, also when they are read by lease."""
    clock = iter([1_000_000, 2_000_000, 1_500_000])
    pushed = source(shards=2, clock_us=lambda: next(clock))
    for number in range(3):
        pushed.insert({"id": number, "key": "x"})
    snapshot = pushed.snapshot()
    table = snapshot.read(None, ["_timestamp", "id", "_partition", "_offset"]).table
    assert table.schema == pa.schema([SYSTEM_SCHEMA.field("_timestamp"), SCHEMA.field("id"), *list(SYSTEM_SCHEMA)[1:]])
    assert table["id"].to_pylist() == [0, 2, 1]
    assert table["_partition"].to_pylist() == [0, 0, 1]
    assert table["_offset"].to_pylist() == [0, 1, 0]
    # Arrival never goes back, even if the clock does.
    assert table["_timestamp"].cast(pa.int64()).to_pylist() == [1_000_000, 2_000_000, 2_000_000]
    assert snapshot.read(Lease(0, (snapshot.splits[1],)), ["_partition", "id"]).table.to_pylist() == [{"_partition": 1, "id": 1}]


def test_a_lease_of_nothing_and_no_columns() -> None:
    """No splits are no rows; no columns are still rows."""
    pushed = source()
    pushed.insert(numbered(10))
    snapshot = pushed.snapshot()
    assert snapshot.read(Lease(0, ()), ["id", "_offset"]).table.num_rows == 0
    assert snapshot.read(None, []).table.num_rows == 10


def test_results_of_inserts() -> None:
    """Offsets count the rows ever inserted into the source; an insert without rows takes none."""
    pushed = source()
    assert pushed.insert(numbered(5)) == InsertResult(5, 0, 4)
    assert pushed.insert([]) == InsertResult(0, 5, 4)
    assert pushed.insert(numbered(2)) == InsertResult(2, 5, 6)


def test_a_snapshot_never_changes() -> None:
    """What is inserted or dropped later, and what the user does with the inserted buffer, does not show."""
    pushed = source(shards=2, options=SourceOptions(retention_rows=1000))
    values = np.arange(1000)
    pushed.insert(pa.table({"id": pa.array(values), "key": ["x"] * 1000}))
    snapshot = pushed.snapshot()
    values[:] = -1
    pushed.insert(numbered(1000, 5000))
    assert ids(snapshot).tolist() == ids_by_split(snapshot).tolist() == list(range(1000))
    assert ids(pushed.snapshot()).tolist() == list(range(5000, 6000))


def test_inserts_are_atomic_for_snapshots() -> None:
    """While threads insert, every snapshot has whole inserts only, of each thread a prefix, and stays as it is."""
    pushed = source(shards=4, partition_by=("key",))
    rows, inserts = 50, 40

    def insert(thread: int) -> None:
        for number in range(inserts):
            base = (thread * inserts + number) * rows
            pushed.insert(numbered(rows, base))

    threads = [threading.Thread(target=insert, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    snapshots = []
    while any(thread.is_alive() for thread in threads):
        snapshots.append(pushed.snapshot())
        if len(snapshots) > 200:
            break
    for thread in threads:
        thread.join()
    for snapshot in [*snapshots, pushed.snapshot()]:
        found = ids_by_split(snapshot)
        counts = Counter(value // rows for value in found)
        assert set(counts.values()) <= {rows}
        for number in range(3):
            own = sorted(insert - number * inserts for insert in counts if insert // inserts == number)
            assert own == list(range(len(own)))
    assert ids(pushed.snapshot()).tolist() == list(range(3 * inserts * rows))


def test_a_finished_source_takes_no_rows() -> None:
    """After finish the rows stay readable."""
    pushed = source()
    pushed.insert(numbered(3))
    pushed.finish()
    pushed.finish()
    assert pushed.finished
    with pytest.raises(SourceError, match="finished"):
        pushed.insert(numbered(1))
    assert ids(pushed.snapshot()).tolist() == [0, 1, 2]


def test_a_full_source_refuses_rows() -> None:
    """Above max_source_bytes nothing of an insert is kept."""
    pushed = source(max_bytes=100_000)
    pushed.insert(numbered(1000))
    with pytest.raises(ResourceLimit, match="max_source_bytes"):
        pushed.insert(numbered(10_000, 1000))
    assert ids(pushed.snapshot()).tolist() == list(range(1000))


@pytest.mark.parametrize("partition_by", [(), ("key",)], ids=str)
def test_retention_by_rows_keeps_the_newest(partition_by: tuple[str, ...]) -> None:
    """Exactly the newest rows stay, whatever shard they are in; offsets go on."""
    pushed = source(partition_by=partition_by, options=SourceOptions(retention_rows=500))
    for number in range(13):
        pushed.insert(numbered(97, number * 97))
    snapshot = pushed.snapshot()
    assert ids(snapshot).tolist() == ids_by_split(snapshot).tolist() == list(range(13 * 97 - 500, 13 * 97))
    offsets = snapshot.read(None, ["_partition", "_offset"]).table.to_pylist()
    counts = Counter(row["_partition"] for row in offsets)
    lasts = {row["_partition"]: row["_offset"] for row in offsets}
    firsts = {unit.number: unit.first_offset for unit in snapshot.units}
    assert all(lasts[shard] == firsts[shard] + counts[shard] - 1 for shard in counts)
    assert sum(firsts.values()) == 13 * 97 - 500


def test_retention_by_bytes_drops_the_oldest() -> None:
    """The source stays below its bytes and keeps a suffix of what was inserted."""
    pushed = source(options=SourceOptions(retention_bytes=100_000))
    for number in range(20):
        pushed.insert(numbered(500, number * 500))
    found = ids(pushed.snapshot())
    assert 0 < pushed.bytes <= 100_000
    assert found.tolist() == list(range(10_000 - len(found), 10_000))


def test_retention_by_time_drops_the_oldest() -> None:
    """Rows older than the interval are gone from inserts and from snapshots."""
    now = [0]
    pushed = source(options=SourceOptions(retention=timedelta(seconds=10)), clock_us=lambda: now[0])
    for second in range(0, 20, 5):
        now[0] = second * 1_000_000
        pushed.insert({"id": second, "key": "x"})
    assert ids(pushed.snapshot()).tolist() == [5, 10, 15]
    now[0] = 24_000_000
    assert ids(pushed.snapshot()).tolist() == [15]


def test_chunks_stay_below_their_bound() -> None:
    """A chunk is at most a split."""
    pushed = source(shards=1)
    pushed.insert(numbered(CHUNK_ROWS + 5))
    assert max(split.rows for split in pushed.snapshot().splits) <= CHUNK_ROWS


def statement(*columns: ColumnDef, partition_by: tuple[str, ...] = (), **options: object) -> CreateSource:
    return CreateSource("CREATE SOURCE s …", "s", columns, None, partition_by, tuple(options.items()))


def create(made: CreateSource) -> PushedSource:
    with private_session() as session:
        return PushedSource.create(made, session, commits=Commits(), shards=4, max_bytes=1 << 20)


def parsed(sql: str) -> CreateSource:
    made = parse_one(sql)
    assert isinstance(made, CreateSource)
    return made


def test_a_statement_makes_a_source() -> None:
    """Types come from DuckDB, options from WITH, the number of shards from the configuration."""
    id_, amount = ColumnDef("id", "INT", not_null=True), ColumnDef("amount", "DECIMAL(10,2)")
    made = create(statement(id_, amount, partition_by=("ID",), retention_rows=5))
    assert made.schema == pa.schema([pa.field("id", pa.int32(), nullable=False), ("amount", pa.decimal128(10, 2))])
    assert (made.shards, made.partition_by) == (4, ("id",))
    assert create(statement(id_, shards=9)).shards == 9


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (statement(ColumnDef("a", "NOPE")), "no type NOPE"),
        (statement(ColumnDef("a", "HUGEINT")), "cannot be kept exactly"),
        (statement(ColumnDef("a", "ENUM('x')")), "cannot be kept exactly"),
        (statement(ColumnDef("a", "INT"), ColumnDef("A", "INT")), "two columns"),
        (statement(ColumnDef("_Offset", "INT")), "has a column '_offset' already"),
        (statement(ColumnDef("a", "INT"), partition_by=("b",)), "'b' is not a column"),
        (statement(ColumnDef("a", "INT[]"), partition_by=("a",)), "cannot be partitioned"),
        (statement(ColumnDef("a", "INT"), shard=3), "did you mean 'shards'"),
        (statement(ColumnDef("a", "INT"), shards=0), "positive whole number"),
        (statement(ColumnDef("a", "INT"), shards=True), "positive whole number"),
        (statement(ColumnDef("a", "INT"), shards=1000), "at most 256"),
        (statement(ColumnDef("a", "INT"), retention=5), "positive interval"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_wrong_statements_are_refused(made: CreateSource, message: str) -> None:
    """What cannot be made is said before anything exists."""
    with pytest.raises(BindError, match=message):
        create(made)


@pytest.mark.parametrize("expression", ["max(ts)", "max(ts) OVER ()", "lag(ts) OVER ()", "unnest([ts])", "ts - random() * INTERVAL 1 DAY"])
def test_a_watermark_is_made_of_a_row_alone(expression: str) -> None:
    """What depends on the rows that happen to be read together, or is another time another value, is refused."""
    with pytest.raises(BindError, match=r"not made of ts alone|gives another value each time"):
        create(parsed(f"CREATE SOURCE s (ts TIMESTAMP, WATERMARK FOR ts AS {expression})"))


@pytest.mark.parametrize("expression", ["now()", "least(ts, current_timestamp::TIMESTAMP)"])
def test_a_watermark_does_not_read_the_clock(expression: str) -> None:
    """What a query has read is late or not whenever it is read again."""
    with pytest.raises(BindError, match="reads the clock"):
        parsed(f"CREATE SOURCE s (ts TIMESTAMP, WATERMARK FOR ts AS {expression})")


def test_other_connectors_are_unsupported() -> None:
    """Only memory sources are pushed."""
    with pytest.raises(UnsupportedError, match="'kafka'"):
        source_options((("connector", "kafka"),))
