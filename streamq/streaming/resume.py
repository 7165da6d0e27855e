"""Starts a continuous query from a snapshot of another run of it, in any number of partitions and on either executor.

No database in memory outlives its queries, so none offers this: the law is held to it, that a restart changes no answer.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Literal

import anyio
import anyio.to_thread

from streamq.errors import UnsupportedError
from streamq.execution.host import QueryHost
from streamq.execution.planning import PlannedContinuous, Planner, is_continuous
from streamq.execution.stream import QueryBatchStream
from streamq.plan.executor import ExecutorChoice
from streamq.sql.parse import parse_select
from streamq.sql.statements import Parameters, Select
from streamq.storage.catalog import Catalog
from streamq.streaming.opened import OpenedQuery
from streamq.streaming.query import ContinuousQuery, ContinuousRequest
from streamq.streaming.saved import SavedQuery, fingerprint
from streamq.streaming.snapshots import read_snapshot


def resumed(
    host: QueryHost,
    catalog: Catalog,
    planner: Planner,
    sql: str,
    parameters: Parameters,
    directory: str | os.PathLike[str],
    *,
    batch_rows: int = 32_768,
    epoch_rows: int | None = None,
    partitions: int | None = None,
    executor: Literal["process", "thread"] | None = None,
    progress: bool = False,
) -> QueryBatchStream:
    """Make a stream of the changes that come after a snapshot, computed by `executor` rather than what the query asks for.

    Its start raises what that of `Database.query` does, and StorageError if the snapshot cannot be read or is one of another query.
    """

    def opened() -> tuple[Select, OpenedQuery]:
        select = parse_select(sql)
        if not is_continuous(select):
            raise UnsupportedError("only a query with EMIT has snapshots", sql=sql)
        saved = read_snapshot(directory)
        planned = _planned_as(saved, planner, select, parameters, partitions)
        if executor is not None:
            planned = replace(planned, executor=ExecutorChoice(executor, "it was asked for"))
        query = OpenedQuery(planned, catalog, host.config, host.epoch_session, batch_rows=batch_rows, epoch_rows=epoch_rows)
        query.open(saved)
        return select, query

    async def start() -> ContinuousQuery:
        with anyio.CancelScope(shield=True):
            # Not abandoned: whoever opens something closes it.
            select, query = await anyio.to_thread.run_sync(opened, limiter=host.limiter)
        try:
            request = ContinuousRequest(host.new_id(), select.sql, query, float("inf"), None, progress, host.pool)
            return host.launch(ContinuousQuery(request, host.waiting, host.epoch_limiter, host.query_ended))
        except BaseException:
            query.close()
            raise

    return QueryBatchStream(start, host.drop)


def _planned_as(saved: SavedQuery, planner: Planner, select: Select, parameters: Parameters, partitions: int | None) -> PlannedContinuous:
    """Plan a query as it was planned for the snapshot: for one partition, or for several, whatever their number is now."""
    planned = planner.plan_continuous(select, parameters, partitions)
    if fingerprint(planned.dataflow) == saved.plan:
        return planned
    other = planner.plan_continuous(select, parameters, 2 if planned.partitions == 1 else 1)
    return planned if fingerprint(other.dataflow) != saved.plan else replace(other, partitions=planned.partitions)
