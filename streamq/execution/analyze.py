"""EXPLAIN and EXPLAIN ANALYZE of a planned query."""

from __future__ import annotations

from streamq.execution.planning import PlannedContinuous, PlannedQuery
from streamq.execution.query import Query
from streamq.plan.continuous import explain_dataflow
from streamq.plan.explain import explain


def explain_query(planned: PlannedQuery) -> str:
    """Describe how a query would run."""
    return explain(planned.plan, planned.snapshots, planned.executor, planned.target_partitions)


def explain_continuous(planned: PlannedContinuous) -> str:
    """Describe how a query with EMIT would run: its operators, what they keep, what it emits."""
    return explain_dataflow(planned.dataflow)


async def analyze_query(planned: PlannedQuery, query: Query) -> str:
    """Read a started query to its end, dropping the rows, and describe how it ran.

    Raises:
        QueryError, SourceError: it failed.
    """
    while await query.receive() is not None:
        pass
    return explain(planned.plan, planned.snapshots, planned.executor, planned.target_partitions, query.statistics())
