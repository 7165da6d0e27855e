"""The totals of a database: what is added up, and when."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streamq.execution.histogram import NO_QUERIES
from streamq.execution.statistics import OUTCOMES, Outcome, QueryStatistics, ScanStatistics, TakenLate, Waits
from streamq.execution.totals import Totals

SCAN = ScanStatistics(
    "flights", "row group", max_parallelism=20, splits=17, pruned=3, rows=340_000, leases=4, rows_done=80_000, splits_done=4
)
RUNNING = QueryStatistics(
    query_id="q1",
    sql="SELECT 1",
    outcome="running",
    started_at=0.0,
    elapsed_s=1.5,
    first_batch_s=0.02,
    rows_out=10,
    bytes_out=80,
    batches_out=2,
    strategy="TwoPhaseAggregation",
    executor="thread",
    fallback=None,
    scans=(SCAN, replace(SCAN, relation="planes", unit="range", splits=1, pruned=0, rows=100, rows_done=100, splits_done=1)),
    tasks=4,
    channel_batches=1,
    channel_bytes=40,
    waited=Waits(client_s=0.5, channel_s=0.25, worker_s=1.0),
)


def ended(query_id: str, outcome: Outcome) -> QueryStatistics:
    return replace(RUNNING, query_id=query_id, outcome=outcome, channel_batches=0, channel_bytes=0)


@pytest.fixture
def totals() -> Totals:
    totals = Totals()
    totals.query_started("q1", lambda: RUNNING)
    return totals


def test_a_query_sums_its_scans() -> None:
    """Splits, pruned splits and rows are those of all scans together."""
    assert (RUNNING.splits, RUNNING.splits_pruned, RUNNING.leases) == (18, 3, 8)
    assert (RUNNING.rows_to_read, RUNNING.rows_done) == (340_100, 80_100)


def test_an_empty_database_counts_nothing() -> None:
    """Every outcome is there from the start, with zero."""
    snapshot = Totals().snapshot()
    assert snapshot.running == 0
    assert snapshot.outcomes == dict.fromkeys(OUTCOMES, 0)
    assert snapshot.first_batch_s.count == 0


def test_running_queries_count_with_what_they_have_done(totals: Totals) -> None:
    """Totals do not wait for the end of a query."""
    snapshot = totals.snapshot()
    assert snapshot.running == 1
    assert (snapshot.rows_out, snapshot.bytes_out, snapshot.channel_batches, snapshot.channel_bytes) == (10, 80, 1, 40)
    assert snapshot.splits == {"row group": 17, "range": 1}
    assert (snapshot.splits_done, snapshot.splits_left) == ({"row group": 4, "range": 1}, 13)
    assert snapshot.kinds["snapshot"].waited == RUNNING.waited


def test_the_end_of_a_query_changes_no_total(totals: Totals) -> None:
    """A query counts once, whether it runs or has ended: counters never go down."""
    before = totals.snapshot()
    totals.query_ended(ended("q1", "completed"))
    after = totals.snapshot()
    assert after.running == 0
    assert after.outcomes["completed"] == 1
    gauges = {"channel_batches": 0, "channel_bytes": 0, "splits_left": 0}
    assert replace(before, kinds=after.kinds, **gauges) == after
    kinds = (before.kinds["snapshot"], after.kinds["snapshot"])
    assert replace(kinds[0], running=0, durations_s=kinds[1].durations_s) == kinds[1]


def test_what_is_taken_after_the_end_counts_too(totals: Totals) -> None:
    """A batch that waited when its query ended is in the totals from when its reader takes it on."""
    totals.query_ended(ended("q1", "failed"))
    totals.batch_taken(TakenLate("snapshot", rows=5, bytes=40, first_batch_s=None))
    snapshot = totals.snapshot()
    assert (snapshot.rows_out, snapshot.bytes_out, snapshot.kinds["snapshot"].batches_out, snapshot.first_batch_s.count) == (15, 120, 3, 1)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_queries_count_by_how_they_ended(totals: Totals, outcome: Outcome) -> None:
    """Each outcome has its own count."""
    totals.query_ended(ended("q1", outcome))
    expected = {**dict.fromkeys(OUTCOMES, 0), outcome: 1}
    snapshot = totals.snapshot()
    assert snapshot.outcomes == snapshot.kinds["snapshot"].outcomes == expected
    assert snapshot.kinds["snapshot"].durations_s[outcome].sum == RUNNING.elapsed_s
    assert not any(snapshot.kinds["continuous"].outcomes.values())


def test_a_running_query_has_not_ended(totals: Totals) -> None:
    """The last statistics of a query say how it ended."""
    with pytest.raises(ValueError, match="q1 has not ended"):
        totals.query_ended(RUNNING)


def test_running_queries_are_listed_in_order_of_their_start(totals: Totals) -> None:
    """`running` gives the statistics of each."""
    totals.query_started("q2", lambda: replace(RUNNING, query_id="q2"))
    assert [query.query_id for query in totals.running()] == ["q1", "q2"]


def test_fallbacks_count_by_reason(totals: Totals) -> None:
    """A query that nothing parallel fitted counts under its label."""
    totals.query_ended(replace(ended("q1", "completed"), fallback="no_equi_key"))
    assert totals.snapshot().fallbacks == {"no_equi_key": 1}


def test_a_dropped_stream_counts_beside_its_query(totals: Totals) -> None:
    """Dropping a stream is not how its query ended."""
    totals.stream_dropped()
    assert totals.snapshot().dropped_streams == 1
    assert totals.snapshot().running == 1


@pytest.mark.parametrize(("first_batch_s", "bucket"), [(0.0, 0), (NO_QUERIES.bounds[0], 0), (NO_QUERIES.bounds[0] + 1e-9, 1), (1e9, -1)])
def test_a_time_is_in_the_bucket_that_it_does_not_exceed(first_batch_s: float, bucket: int) -> None:
    """Bounds are inclusive, as Prometheus has them; the last bucket is open."""
    totals = Totals()
    totals.query_started("q1", lambda: replace(RUNNING, first_batch_s=first_batch_s))
    histogram = totals.snapshot().first_batch_s
    assert histogram.counts[bucket] == histogram.count == 1
