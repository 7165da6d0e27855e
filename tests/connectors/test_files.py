"""Registered files: what is read, how it is split, and what is refused."""

from __future__ import annotations

import gzip
import json
import math
import os
from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from streamq.connectors import registered
from streamq.errors import BindError, SourceError
from streamq.plan.relations import RelationSnapshot, ScanArrow, ScanSql
from streamq.plan.splits import Lease
from streamq.sql.catalog import SYSTEM_SCHEMA
from streamq.storage.session import private_session

ROWS = pa.table({"id": pa.array(range(1000)), "name": [f"n{i}" for i in range(1000)]})


def run(scan: ScanSql | ScanArrow) -> pa.Table:
    """Read a scan as a worker does."""
    with private_session(files=True) as con:
        return con.sql(scan.sql).to_arrow_table() if isinstance(scan, ScanSql) else con.from_arrow(scan.table).to_arrow_table()


def read(snapshot: RelationSnapshot, columns: Sequence[str] | None = None, filter: str | None = None) -> pa.Table:
    return run(snapshot.read(None, columns if columns is not None else snapshot.schema.names, filter))


def by_split(snapshot: RelationSnapshot, columns: Sequence[str]) -> list[pa.Table]:
    return [run(snapshot.read(Lease(i, (split,)), columns)) for i, split in enumerate(snapshot.splits)]


def write(path: Path, table: pa.Table, *, row_group_size: int = 100) -> str:
    """Write a table in the format that the path's suffix says."""
    match path.suffix:
        case ".parquet":
            pq.write_table(table, path, row_group_size=row_group_size)
        case ".arrow":
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table, max_chunksize=row_group_size)
        case ".arrows":
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table, max_chunksize=row_group_size)
        case ".feather":
            pyarrow.feather.write_feather(table, str(path), chunksize=row_group_size)
        case ".csv":
            path.write_text(
                "\n".join([",".join(table.column_names), *(",".join(map(str, row.values())) for row in table.to_pylist())]) + "\n"
            )
        case ".gz":
            with gzip.open(path, "wt") as out:
                out.write("\n".join(["id,name", *(f"{row['id']},{row['name']}" for row in table.to_pylist())]) + "\n")
        case _:
            path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    return str(path)


SUFFIXES = ["parquet", "arrow", "arrows", "feather", "csv", "csv.gz", "ndjson", "json"]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_its_rows(tmp_path: Path, suffix: str) -> None:
    """What is in the files is read, in the order of files and rows, with exact counts."""
    write(tmp_path / f"b.{suffix}", ROWS.slice(300))
    write(tmp_path / f"a.{suffix}", ROWS.slice(0, 300))
    relation = registered("r", str(tmp_path / f"*.{suffix}"))
    snapshot = relation.snapshot()
    assert relation.schema == ROWS.schema
    assert read(snapshot).equals(ROWS)
    assert (snapshot.rows, snapshot.exact) == (1000, True)
    assert snapshot.bytes > 0


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_splits_cover_every_row_once(tmp_path: Path, suffix: str) -> None:
    """Reading split by split gives all rows in order; the last split of a file is open."""
    write(tmp_path / f"a.{suffix}", ROWS.slice(0, 331), row_group_size=100)
    write(tmp_path / f"b.{suffix}", ROWS.slice(331), row_group_size=7)
    snapshot = registered("r", [str(tmp_path / f"a.{suffix}"), str(tmp_path / f"b.{suffix}")]).snapshot()
    tables = by_split(snapshot, ["name", "id"])
    assert pa.concat_tables(tables).select(["id", "name"]).equals(ROWS)
    assert [table.num_rows for table in tables] == [split.rows for split in snapshot.splits]
    last = {split.unit: split.end for split in snapshot.splits}
    assert last == {0: None, 1: None}


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_system_columns_say_where_a_row_is(tmp_path: Path, suffix: str) -> None:
    """`_timestamp` is the file's time, `_partition` its number, `_offset` the row in it, also split by split."""
    paths = [write(tmp_path / f"a.{suffix}", ROWS.slice(0, 300)), write(tmp_path / f"b.{suffix}", ROWS.slice(300))]
    for path in paths:
        os.utime(path, ns=(0, 1_700_000_000_123_456_789))
    relation = registered("r", paths)
    assert relation.system_columns
    found = pa.concat_tables(by_split(relation.snapshot(), ["id", *SYSTEM_SCHEMA.names]))
    assert found.schema == pa.schema([ROWS.schema.field("id"), *SYSTEM_SCHEMA])
    assert set(found["_timestamp"].to_pylist()) == {datetime.fromtimestamp(1_700_000_000, UTC).replace(microsecond=123_456)}
    assert found["_partition"].to_pylist() == [0] * 300 + [1] * 700
    assert found["_offset"].to_pylist() == [*range(300), *range(700)]
    assert found["id"].to_pylist() == list(range(1000))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_filter_over_any_column_is_allowed(tmp_path: Path, suffix: str) -> None:
    """A filter may be used, over columns that are not read too; without columns, rows are counted."""
    snapshot = registered("r", write(tmp_path / f"a.{suffix}", ROWS)).snapshot()
    if isinstance(snapshot.read(None, ["name"]), ScanSql):
        assert read(snapshot, ["name"], "id >= 998 AND _offset < 999")["name"].to_pylist() == ["n998"]
    assert read(snapshot, []).num_rows == 1000


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_no_splits_are_no_rows(tmp_path: Path, suffix: str) -> None:
    """A lease of nothing has the columns and no rows."""
    snapshot = registered("r", write(tmp_path / f"a.{suffix}", ROWS)).snapshot()
    assert run(snapshot.read(Lease(0, ()), ["name", "_offset"])).to_pylist() == []
    assert run(snapshot.read(Lease(0, ()), [])).num_rows == 0


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_changed_file_is_an_error(tmp_path: Path, suffix: str) -> None:
    """A file that is not the registered one any more is never read."""
    path = tmp_path / f"a.{suffix}"
    snapshot = registered("r", write(path, ROWS)).snapshot()
    write(path, ROWS.slice(0, 10))
    with pytest.raises(SourceError, match=r"a\..* changed after it was registered"):
        snapshot.read(Lease(0, tuple(snapshot.splits[:1])), ["id"])
    path.unlink()
    with pytest.raises(SourceError, match="cannot be read any more"):
        snapshot.read(None, ["id"])


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "feather", "json"])
def test_a_corrupt_file_is_named(tmp_path: Path, suffix: str) -> None:
    """A file that is not what its name says is an error at registration."""
    path = tmp_path / f"bad.{suffix}"
    path.write_bytes(b"ARROW1 this is not a file of this format")
    with pytest.raises(SourceError, match=r"r: .*bad\."):
        registered("r", str(path))


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "feather", "csv", "ndjson"])
def test_an_empty_file_is_named(tmp_path: Path, suffix: str) -> None:
    """A file of no bytes has no columns."""
    path = tmp_path / f"bad.{suffix}"
    path.touch()
    with pytest.raises(SourceError, match=r"bad\."):
        registered("r", str(path))


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "arrows", "csv"])
def test_files_without_rows_are_fine(tmp_path: Path, suffix: str) -> None:
    """A file may have columns and no rows; it has no splits."""
    write(tmp_path / f"a.{suffix}", ROWS.slice(0, 0))
    write(tmp_path / f"b.{suffix}", ROWS.slice(0, 3))
    snapshot = registered("r", str(tmp_path / f"*.{suffix}")).snapshot()
    assert [split.unit for split in snapshot.splits] == [1]
    assert read(snapshot).equals(ROWS.slice(0, 3))


def test_only_files_without_rows(tmp_path: Path) -> None:
    """A relation may be empty."""
    snapshot = registered("r", write(tmp_path / "a.parquet", ROWS.slice(0, 0))).snapshot()
    assert (snapshot.rows, snapshot.splits, snapshot.max_parallelism) == (0, (), 1)
    assert read(snapshot).equals(ROWS.slice(0, 0))


def test_what_matches_no_file_is_refused(tmp_path: Path) -> None:
    """No match, a missing file, a directory and an unknown format are said so."""
    (tmp_path / "x.bin").write_bytes(b"123")
    for spec, message in [
        (str(tmp_path / "*.parquet"), "no file matches"),
        (str(tmp_path / "a.parquet"), "cannot read"),
        (str(tmp_path), "is a directory"),
        (tmp_path / "x.bin", "format of .* is unknown"),
    ]:
        with pytest.raises(SourceError, match=message):
            registered("r", spec)


def test_formats_do_not_mix(tmp_path: Path) -> None:
    """One relation has one format."""
    with pytest.raises(SourceError, match="several formats"):
        registered("r", [write(tmp_path / "a.parquet", ROWS), write(tmp_path / "a.csv", ROWS)])


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "csv"])
@pytest.mark.parametrize(
    ("other", "message"),
    [
        (ROWS.drop_columns(["name"]), "no column 'name'"),
        (ROWS.append_column("extra", ROWS["id"]), "a column 'extra'"),
        (ROWS.select(["name", "id"]), "another order"),
    ],
    ids=["missing", "extra", "order"],
)
def test_files_with_other_columns_are_refused(tmp_path: Path, suffix: str, other: pa.Table, message: str) -> None:
    """The columns of all files of a relation are the same."""
    write(tmp_path / f"a.{suffix}", ROWS)
    write(tmp_path / f"b.{suffix}", other)
    with pytest.raises(SourceError, match=rf"b\.{suffix}.*{message}"):
        registered("r", str(tmp_path / f"*.{suffix}"))


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_files_with_other_types_are_refused(tmp_path: Path, suffix: str) -> None:
    """A column's type is the same in all files; the error names the file, the column and both types."""
    write(tmp_path / f"a.{suffix}", ROWS)
    write(tmp_path / f"b.{suffix}", ROWS.set_column(0, "id", ROWS["id"].cast(pa.int32())))
    with pytest.raises(SourceError, match=rf"'id' is INTEGER in .*b\.{suffix} and BIGINT in .*a\.{suffix}"):
        registered("r", str(tmp_path / f"*.{suffix}"))


def test_names_that_look_like_patterns(tmp_path: Path) -> None:
    """A path is a path if such a file exists, quotes and brackets included."""
    path = write(tmp_path / "it's [1]*?.parquet", ROWS)
    write(tmp_path / "it's 1xx.parquet", ROWS)
    assert read(registered("r", path).snapshot()).equals(ROWS)


def test_hive_paths_add_no_columns(tmp_path: Path) -> None:
    """Only what is in the files is read."""
    (tmp_path / "day=1").mkdir()
    path = write(tmp_path / "day=1" / "a.parquet", ROWS)
    assert registered("r", path).schema.names == ["id", "name"]


def test_leases_of_whole_files_read_them_together(tmp_path: Path) -> None:
    """Splits that make up whole files need no row numbers."""
    write(tmp_path / "a.parquet", ROWS)
    write(tmp_path / "b.parquet", ROWS)
    snapshot = registered("r", str(tmp_path / "*.parquet")).snapshot()
    scan = snapshot.read(Lease(0, tuple(snapshot.splits)), ["id"])
    assert isinstance(scan, ScanSql)
    assert "file_row_number" not in scan.sql
    assert run(scan).num_rows == 2000


def test_leases_with_holes_read_what_they_have(tmp_path: Path) -> None:
    """Pruned splits are not read."""
    snapshot = registered("r", write(tmp_path / "a.parquet", ROWS)).snapshot()
    lease = Lease(0, (snapshot.splits[1], snapshot.splits[2], snapshot.splits[9]))
    assert run(snapshot.read(lease, ["id"]))["id"].to_pylist() == [*range(100, 300), *range(900, 1000)]


def test_a_column_with_the_row_numbers_name(tmp_path: Path) -> None:
    """A column named file_row_number is a user's; such files are split by file only."""
    table = ROWS.rename_columns(["file_row_number", "name"])
    snapshot = registered("r", write(tmp_path / "a.parquet", table)).snapshot()
    assert (snapshot.unit, len(snapshot.splits)) == ("file", 1)
    assert read(snapshot).equals(table)
    assert read(snapshot, ["_offset"])["_offset"].to_pylist() == list(range(1000))


def test_a_column_with_a_system_columns_name(tmp_path: Path) -> None:
    """A user's `_offset` goes before the system's, and then there are no system columns."""
    table = ROWS.rename_columns(["_offset", "name"])
    relation = registered("r", write(tmp_path / "a.parquet", table, row_group_size=1000))
    assert not relation.system_columns
    assert read(relation.snapshot()).equals(table)


def test_parquet_statistics(tmp_path: Path) -> None:
    """Ranges have Python values that hold every row of the split; a float's largest is unknown because of NaN."""
    table = pa.table(
        {
            "i": [3, 1, None, 9],
            "f": [1.0, math.nan, 2.0, 3.0],
            "d": [Decimal("1.5"), Decimal("-2.5"), Decimal("0.0"), Decimal("7.0")],
            "s": ["b", "a", "c", None],
            "t": pa.array([1_001, 5_999, 3_000, 4_000], pa.timestamp("ns")),
            "z": pa.array([0, 1, 2, 3], pa.timestamp("us", "UTC")),
            "day": [date(2024, 1, 1)] * 4,
            "none": pa.nulls(4, pa.int32()),
            "nested": [{"x": 1}] * 4,
            "last": [5, 6, 7, 8],
        }
    )
    snapshot = registered("r", write(tmp_path / "a.parquet", table)).snapshot()
    ranges = {r.column: (r.low, r.high, r.nulls) for r in snapshot.splits[0].ranges}
    assert ranges == {
        "i": (1, 9, 1),
        "f": (1.0, None, 0),
        "d": (Decimal("-2.5"), Decimal("7.0"), 0),
        "s": ("a", "c", 1),
        "t": (datetime(1970, 1, 1, 0, 0, 0, 1), datetime(1970, 1, 1, 0, 0, 0, 6), 0),
        "z": (datetime(1970, 1, 1, tzinfo=UTC), datetime(1970, 1, 1, 0, 0, 0, 3, tzinfo=UTC), 0),
        "day": (date(2024, 1, 1), date(2024, 1, 1), 0),
        "none": (None, None, 4),
        "last": (5, 8, 0),
    }


def test_types_that_arrow_lacks_are_read_as_what_they_are_declared(tmp_path: Path) -> None:
    """UUIDs and huge integers are read as the types that the schema says."""
    path = str(tmp_path / "a.parquet")
    with duckdb.connect() as con:
        con.execute(f"COPY (SELECT 'b5b8c4a0-0000-4000-8000-000000000000'::UUID AS u, 'x'::ENUM('x') AS e, 1 AS n) TO '{path}'")
    snapshot = registered("r", path).snapshot()
    found = read(snapshot)
    assert found.schema == snapshot.schema == pa.schema([("u", pa.string()), ("e", pa.string()), ("n", pa.int32())])
    assert found["u"].to_pylist() == ["b5b8c4a0-0000-4000-8000-000000000000"]


def test_csv_types_come_from_every_row_of_every_file(tmp_path: Path) -> None:
    """A late row or a later file may widen a column."""
    (tmp_path / "a.csv").write_text("x,y,z\n" + "1,2024-01-01,1\n" * 5000 + "1.5,2024-01-02,1\n")
    (tmp_path / "b.csv").write_text("x,y,z\n7,2024-01-01 10:00:00,n\n")
    snapshot = registered("r", str(tmp_path / "*.csv")).snapshot()
    assert snapshot.schema == pa.schema([("x", pa.float64()), ("y", pa.timestamp("us")), ("z", pa.string())])
    assert read(snapshot).to_pylist()[-1] == {"x": 7.0, "y": datetime(2024, 1, 1, 10), "z": "n"}


def test_csv_lines_that_are_not_rows_are_an_error(tmp_path: Path) -> None:
    """Lines are never skipped silently."""
    (tmp_path / "a.csv").write_text("a,b\n1,2\n3\n4,5,6\n")
    with pytest.raises(SourceError, match=r"a\.csv"):
        registered("r", str(tmp_path / "a.csv"))


def test_csv_dialects(tmp_path: Path) -> None:
    """Each file is read by its own delimiter, quotes and date format."""
    (tmp_path / "a.csv").write_text('n;s;d\n1;"x; ""y""";31.12.2023\n')
    (tmp_path / "b.csv").write_text("n,s,d\n2,z,2024-01-01\n")
    snapshot = registered("r", str(tmp_path / "*.csv")).snapshot()
    assert read(snapshot).to_pylist() == [
        {"n": 1, "s": 'x; "y"', "d": date(2023, 12, 31)},
        {"n": 2, "s": "z", "d": date(2024, 1, 1)},
    ]


def test_json_files_may_lack_keys(tmp_path: Path) -> None:
    """A key that a row or file lacks is NULL; values of several types become text."""
    (tmp_path / "a.json").write_text('{"a": 1, "c": {"q": [1]}}\n{"a": 2.5, "b": "x"}\n')
    (tmp_path / "b.json").write_text('[{"a": 3, "c": "text"}]')
    (tmp_path / "c.json").touch()
    snapshot = registered("r", str(tmp_path / "*.json")).snapshot()
    assert read(snapshot).to_pylist() == [
        {"a": 1.0, "c": '{"q":[1]}', "b": None},
        {"a": 2.5, "c": None, "b": "x"},
        {"a": 3.0, "c": "text", "b": None},
    ]


def test_a_file_listed_twice_is_read_once(tmp_path: Path) -> None:
    """Patterns may overlap."""
    path = write(tmp_path / "a.parquet", ROWS)
    assert registered("r", [path, str(tmp_path / "*.parquet")]).snapshot().rows == 1000


def test_splits_weigh_what_is_stored(tmp_path: Path) -> None:
    """A row group's split has its rows; splits follow each other from row 0."""
    snapshot = registered("r", write(tmp_path / "a.parquet", ROWS, row_group_size=300)).snapshot()
    assert [(s.first, s.end, s.rows) for s in snapshot.splits] == [(0, 300, 300), (300, 600, 300), (600, 900, 300), (900, None, 100)]
    assert all(split.bytes > 0 for split in snapshot.splits)
    assert (snapshot.unit, snapshot.max_parallelism) == ("row group", 4)


def test_a_watermark_names_its_column(tmp_path: Path) -> None:
    """The event time column is the one that the expression reads."""
    table = pa.table({"a": pa.array([0], pa.timestamp("us")), "seen": pa.array([0], pa.timestamp("us")), "n": [1]})
    path = write(tmp_path / "a.parquet", table)
    expression = "seen - INTERVAL '5' SECOND"
    assert registered("r", path, expression).watermark == ("seen", expression)
    for wrong in ("n - 1", "nope - INTERVAL '1' SECOND", "max(seen) OVER ()"):
        with pytest.raises(BindError, match=r"timestamp columns \(a, seen\)"):
            registered("r", path, wrong)
    with pytest.raises(BindError, match="'seen -' of r cannot be used: syntax error"):
        registered("r", path, "seen -")
    with pytest.raises(BindError, match=r"'now\(\)' of r cannot be used: NOW\(\) reads the clock"):
        registered("r", path, "now()")


@pytest.mark.parametrize("text", ["seen -- when it came", "/* when it came */ seen\n"])
def test_a_watermark_may_have_comments_around_it(tmp_path: Path, text: str) -> None:
    """They swallow nothing of what is written around the expression."""
    path = write(tmp_path / "a.parquet", pa.table({"seen": pa.array([0], pa.timestamp("us"))}))
    assert registered("r", path, text).watermark == ("seen", "seen")


@pytest.mark.parametrize("text", ["seen, b INT", "seen\n) WITH (a = 1", "seen) PARTITION BY (t", "seen) --", "seen); SELECT (1"])
def test_a_watermark_is_one_expression(tmp_path: Path, text: str) -> None:
    """What would be more than that, wherever it is put, is refused."""
    path = write(tmp_path / "a.parquet", pa.table({"seen": pa.array([0], pa.timestamp("us"))}))
    with pytest.raises(BindError, match=r"is not one expression|cannot be used"):
        registered("r", path, text)
