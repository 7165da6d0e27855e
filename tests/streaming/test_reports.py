"""What a continuous query tells about itself: statistics, SHOW QUERIES, EXPLAIN ANALYZE."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import anyio
import pyarrow as pa
import pytest

import streamq
from streamq.plan.dataflow import Hold, TopN
from streamq.plan.exchanges import Edge, Keep
from streamq.storage.feeds import Position
from streamq.streaming.epochs import EpochReport
from streamq.streaming.records import EpochRecord
from streamq.streaming.reports import held_back_by, kind_of
from streamq.streaming.watermarks import FOREVER_US, Watermarks

CLICKS = "CREATE SOURCE clicks (ts TIMESTAMP, page VARCHAR, WATERMARK FOR ts AS ts - INTERVAL '10' SECOND)"
PER_MINUTE = "SELECT window_start, count(*) AS n FROM TUMBLE(clicks, ts, INTERVAL '1' MINUTE) GROUP BY window_start EMIT FINAL"
START = datetime(2026, 5, 1, 12)
ROWS = [{"ts": START + timedelta(seconds=at), "page": page} for at, page in ((0, "a"), (30, "b"), (90, "a"), (20, "a"), (100, "b"))]


def report(partitions: dict[tuple[str, int], int | None], watermarks: Watermarks) -> EpochReport:
    positions = {relation: Position({}) for relation, _ in partitions}
    return EpochReport(EpochRecord(1, 0, positions, watermarks, ended=False), partitions=partitions)


@pytest.mark.parametrize(
    ("partitions", "watermarks", "held"),
    [
        ({("a", 0): 5, ("b", 0): 3}, Watermarks(3, {"a": 5, "b": 3}), ("b", 0)),
        ({("a", 0): 5, ("b", 0): None}, Watermarks(None, {"a": 5, "b": None}), ("b", 0)),
        ({("a", 0): 5, ("a", 1): 4}, Watermarks(5, {"a": 5}, frozenset({("a", 1)})), ("a", 0)),
        ({("a", 0): 5, ("b", 0): 3}, Watermarks(5, {"a": 5, "b": FOREVER_US}), ("a", 0)),
        ({("a", 0): 5}, Watermarks(FOREVER_US, {"a": FOREVER_US}), None),
        ({}, Watermarks(), None),
    ],
)
def test_who_holds_the_watermark_back(
    partitions: dict[tuple[str, int], int | None], watermarks: Watermarks, held: tuple[str, int] | None
) -> None:
    """The partition that is furthest behind; not one that is idle, nor one whose relation has ended."""
    assert held_back_by(report(partitions, watermarks)) == held


def test_before_the_first_epoch_nobody_holds_anything_back() -> None:
    """Nothing was read yet."""
    assert held_back_by(EpochReport()) is None


def test_kinds_of_operators_are_words() -> None:
    """They are labels of metrics."""
    edge = Edge("query", Keep())
    top = TopN("top", edge, (), 1, 0, pa.schema([]), retracts=True)
    assert (kind_of(top), kind_of(Hold("hold", edge, None, pa.schema([])))) == ("top_n", "hold")


@pytest.fixture
async def db(anyio_backend: object) -> AsyncIterator[streamq.Database]:
    async with streamq.connect(executor="thread", workers=1, target_partitions=2) as db:
        await db.execute(CLICKS)
        yield db


pytestmark = pytest.mark.usefixtures("no_residue")


@pytest.mark.anyio
async def test_statistics_of_a_running_query(db: streamq.Database) -> None:
    """Epochs, rows, late rows, watermarks and who holds them back, and what each operator did and keeps."""
    await db.insert("clicks", ROWS)
    async with db.query(PER_MINUTE, epoch_rows=1) as stream:
        with anyio.fail_after(20):
            assert (await anext(stream)).to_pylist() == [{"window_start": START, "n": 2}]
        statistics = (await stream.statistics()).continuous
    assert statistics is not None
    assert statistics.rows_in["clicks"] == statistics.total_rows_in >= 3
    assert statistics.held_back_by == ("clicks", 0)
    assert statistics.partition_watermarks == {("clicks", 0): statistics.watermark}
    assert statistics.watermark is not None
    assert statistics.watermark >= (START + timedelta(seconds=80)).replace(tzinfo=UTC)
    assert statistics.watermark_lag_s is not None
    assert statistics.peak_state_bytes >= statistics.state_bytes > 0
    assert {operator.kind for operator in statistics.operators} == {"map", "aggregate"}


@pytest.mark.anyio
async def test_queries_are_shown_with_their_state(db: streamq.Database) -> None:
    """SHOW QUERIES has the whole text, and what only continuous queries have."""
    await db.insert("clicks", ROWS)
    async with db.query(PER_MINUTE) as stream:
        with anyio.fail_after(20):
            await anext(stream)
        shown = (await db.execute("SHOW QUERIES")).table
        (query,) = await db.queries()
    assert query.kind == "continuous"
    assert shown is not None
    (row,) = shown.to_pylist()
    assert (row["kind"], row["sql"], row["epochs"], row["rows_in"], row["late_rows"]) == ("continuous", PER_MINUTE, 1, 5, 1)
    assert row["watermark"] == (START + timedelta(seconds=90)).replace(tzinfo=UTC)
    assert row["state_bytes"] > 0


@pytest.mark.anyio
async def test_the_totals_of_a_database_go_on_when_a_query_ends(db: streamq.Database) -> None:
    """Epochs, rows and late rows count; what is kept is that of the queries that run."""
    await db.insert("clicks", ROWS)
    await db.finish("clicks")
    async with db.query(PER_MINUTE) as stream:
        with anyio.fail_after(20):
            await stream.read_all()
    totals = (await db.statistics()).continuous
    assert (totals.running, totals.rows_in, totals.late_rows, dict(totals.state_bytes)) == (0, 5, 1, {})
    assert totals.epochs >= 1


@pytest.mark.anyio
async def test_explain_analyze_runs_a_bounded_query(db: streamq.Database) -> None:
    """With what every operator did, and what the whole query did, below the plan."""
    await db.insert("clicks", ROWS)
    await db.finish("clicks")
    text = await db.explain(PER_MINUTE, analyze=True)
    assert text.startswith("continuous query: EMIT FINAL, in 2 partitions\n")
    assert "ran: 5 rows in, 4 out; keeps nothing" in text
    assert "read: 5 rows of clicks\n  gave: 2 rows in 1 batch\n" in text
    assert "  late: 1 row\n  watermark: past all times, because the sources have ended\n" in text
    assert "    clicks partition 0: 2026-05-01 12:01:30\n" in text
    assert await db.queries() == ()


@pytest.mark.anyio
async def test_explain_analyze_of_a_query_without_an_end_is_refused(db: streamq.Database) -> None:
    """It names what may go on, and where the numbers of a running query are."""
    with pytest.raises(streamq.UnsupportedError, match=r"source 'clicks' has none yet(?s:.*)stream\.statistics\(\)"):
        await db.explain(PER_MINUTE, analyze=True)
    await db.execute("CREATE TABLE pages (page VARCHAR, PRIMARY KEY (page))")
    with pytest.raises(streamq.UnsupportedError, match="table 'pages' has none yet"):
        await db.explain("SELECT page FROM pages EMIT CHANGES", analyze=True)
