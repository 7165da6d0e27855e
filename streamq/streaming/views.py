"""Materialized views: continuous queries that belong to the database, and keep their answer where other queries read it."""

from __future__ import annotations

from dataclasses import replace

import anyio
import anyio.to_thread

from streamq.errors import QueryCancelled, StreamqError
from streamq.execution.host import QueryHost
from streamq.execution.planning import Planner
from streamq.execution.query import OnEnd
from streamq.flow.channel import ByteBudget
from streamq.sql.statements import CreateView, Parameters
from streamq.sql.tables import names_read
from streamq.storage.catalog import Catalog
from streamq.storage.view import MaterializedView
from streamq.streaming.cuts import EPOCH_ROWS
from streamq.streaming.epochs import Emission
from streamq.streaming.opened import OpenedQuery
from streamq.streaming.query import ContinuousQuery, ContinuousRequest


class ViewQuery(ContinuousQuery):
    """Puts its changes into the view that it keeps; nobody reads its channel. When it ends, so does the view."""

    def __init__(
        self, request: ContinuousRequest, view: MaterializedView, waiting: ByteBudget, limiter: anyio.CapacityLimiter, on_end: OnEnd
    ) -> None:
        super().__init__(request, waiting, limiter, on_end)
        self._view = view

    async def _emit(self, emission: Emission) -> None:
        reached = emission.reached
        assert reached is not None
        await anyio.to_thread.run_sync(self._view.apply, emission.batches, reached, limiter=self._limiter)
        self.rows_out += sum(batch.num_rows for batch in emission.batches)
        self.batches_out += len(emission.batches)

    def _end(self, error: StreamqError | None) -> None:
        self._view.end(error)
        super()._end(error)


async def create_view(statement: CreateView, parameters: Parameters, catalog: Catalog, planner: Planner, host: QueryHost) -> bool:
    """Run CREATE MATERIALIZED VIEW; tells whether the view was made (not, if it exists and the statement allows that).

    When it returns, the view's query runs. Who reads the view waits until it has come far enough.

    Raises:
        SqlError: the query cannot be kept as written, or the name is taken.
        SourceError: it cannot begin.
    """
    opened = await anyio.to_thread.run_sync(_open, statement, parameters, catalog, planner, host, limiter=host.limiter)
    if opened is None:
        return False
    # No await from here on: from its launch, the query closes what is open, and from its end on nobody waits for the view.
    assert opened.keeps is not None
    try:
        request = ContinuousRequest(host.new_id(), statement.query.sql, opened, float("inf"), None, progress=False, pool=host.pool)
        host.launch(ViewQuery(request, opened.keeps, host.waiting, host.epoch_limiter, host.query_ended))
    except BaseException as error:
        opened.keeps.end(error if isinstance(error, StreamqError) else QueryCancelled("its query did not start"))
        opened.close()
        raise
    return True


def _open(statement: CreateView, parameters: Parameters, catalog: Catalog, planner: Planner, host: QueryHost) -> OpenedQuery | None:
    """Plan the query of a view, take its cut, and add the view to the catalog."""
    if statement.if_not_exists and statement.name in catalog:
        return None
    # Net changes between any two epochs are what is kept: EVERY lets the plan say so.
    select = replace(statement.query, emit=statement.query.emit or "changes", every_s=0.0)
    planned = planner.plan_continuous(select, parameters)
    dataflow = planned.dataflow
    view = catalog.materialized(
        statement.name,
        dataflow.schema,
        sql=select.sql,
        key=dataflow.key,
        reads=names_read(select),
        late_rows_into=None if select.late_rows_into is None else select.late_rows_into.lower(),
    )
    opened = OpenedQuery(planned, catalog, host.config, host.epoch_session, batch_rows=EPOCH_ROWS, epoch_rows=None, keeps=view)
    try:
        opened.open()
        catalog.add(view)
    except BaseException:
        opened.close()
        catalog.discard(view)
        raise
    return opened
