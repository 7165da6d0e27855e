"""From SQL text to a planned query at a cut: everything that happens before any task exists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from threading import Lock

import pyarrow as pa

from streamq.config import Config, Executor, clamp_partitions
from streamq.errors import BindError, UnsupportedError
from streamq.execution.describe import Describer
from streamq.plan.continuous import plan_continuous
from streamq.plan.dataflow import Dataflow
from streamq.plan.executor import ExecutorChoice, choose_continuous_executor, choose_executor
from streamq.plan.fragments import PhysicalPlan
from streamq.plan.planner import plan_query
from streamq.plan.pruning import PlannedScan, plan_scans
from streamq.plan.relations import RelationSnapshot
from streamq.sql.bind import bind_query
from streamq.sql.binder import Binder
from streamq.sql.catalog import CatalogView
from streamq.sql.continuous import late_rows_error, text_error
from streamq.sql.logical import BoundQuery
from streamq.sql.prepared import PreparedSelect, PreparedSelects
from streamq.sql.statements import Parameters, Select
from streamq.storage.catalog import Catalog
from streamq.storage.cut import Cut
from streamq.storage.dependencies import Circle

MOST_FOLLOWED = 64
"""So many plans of continuous queries are kept for those who follow the same."""


@dataclass(frozen=True, slots=True)
class PlannedQuery:
    """A bound query, the cut it reads, and how it will run. `scans` are the scans that drive stages, by stage id."""

    bound: BoundQuery
    plan: PhysicalPlan
    snapshots: Mapping[str, RelationSnapshot]
    scans: Mapping[int, PlannedScan]
    executor: ExecutorChoice
    target_partitions: int


@dataclass(frozen=True, slots=True)
class PlannedContinuous:
    """A bound query with EMIT as a dataflow, in how many partitions that will run, and where these are. `sql` is its whole text."""

    sql: str
    bound: BoundQuery
    dataflow: Dataflow
    partitions: int
    executor: ExecutorChoice


@dataclass(frozen=True, slots=True)
class QueryAtCut:
    """A bound snapshot query, and its cut. `partitions` are those that its caller asks for."""

    select: Select
    bound: BoundQuery
    cut: Cut
    partitions: int | None


class Planner:
    """Binds and plans SELECTs over a catalog. May be used from several threads, which take turns in binding."""

    def __init__(self, catalog: Catalog, config: Config) -> None:
        self._catalog = catalog
        self._config = config
        self._binder = Binder()
        self._prepared = PreparedSelects()
        self._describer = Describer()
        self._followed: dict[tuple[str, int | None], tuple[CatalogView, PlannedContinuous]] = {}
        self._following = Lock()

    def close(self) -> None:
        """Give back what binding holds."""
        self._binder.close()
        self._describer.close()

    def bind(self, select: Select, parameters: Parameters = None) -> BoundQuery:
        """Bind a SELECT against the relations that exist now.

        Raises:
            SqlError: it cannot be run as written.
        """
        return bind_query(select, self._catalog.infos(), parameters, binder=self._binder)

    def plan_continuous(self, select: Select, parameters: Parameters = None, partitions: int | None = None) -> PlannedContinuous:
        """Bind a SELECT with EMIT and plan it. Takes no cut.

        Raises:
            SqlError: it cannot be run as written.
        """
        catalog = self._catalog.infos()
        return self._plan_dataflow(select, bind_query(select, catalog, parameters, binder=self._binder), catalog, partitions)

    def follow(self, query: PreparedSelect, parameters: Parameters = None, partitions: int | None = None) -> PlannedContinuous:
        """Do the same for a query that may come again: while the relations are the same, all that follow it have one plan.

        Raises:
            SqlError: it cannot be run as written.
        """
        catalog = self._catalog.infos()
        bound = query.bind(catalog, parameters, self._binder)
        if bound.parameters or bound.by_value is None:
            return self._plan_dataflow(query.select, bound, catalog, partitions)
        key = query.select.written, partitions
        with self._following:
            known = self._followed.get(key)
        if known is not None and known[0] is catalog:
            return known[1]
        planned = self._plan_dataflow(query.select, bound, catalog, partitions)
        with self._following:
            self._followed[key] = catalog, planned
            while len(self._followed) > MOST_FOLLOWED:
                del self._followed[next(iter(self._followed))]
        return planned

    def _plan_dataflow(self, select: Select, bound: BoundQuery, catalog: CatalogView, partitions: int | None) -> PlannedContinuous:
        circle = self._catalog.find_circle(bound.relations, select.late_rows_into)
        if circle is not None:
            raise _circle_error(select, circle)
        options = dict(bound.options)
        _, target = self._partitions(options, partitions)
        executor = choose_continuous_executor(wanted=self._executor(options, select))
        values = dict(bound.parameters)

        def describe(sql: str, inputs: Mapping[str, pa.Schema]) -> pa.Schema:
            return self._describer.describe(sql, inputs, values)

        return PlannedContinuous(
            select.written or select.sql, bound, plan_continuous(bound, catalog, partitions=target, describe=describe), target, executor
        )

    def prepare(self, sql: str) -> PreparedSelect:
        """Parse the text of one query, if it was not lately. What is bound and planned is always right for the relations as they are.

        Raises:
            SqlSyntaxError: it is not in the grammar.
            UnsupportedError: it is another statement.
        """
        return self._prepared.get(sql)

    def cut(self, query: PreparedSelect, parameters: Parameters = None, partitions: int | None = None) -> QueryAtCut:
        """Bind a snapshot SELECT, and take the cut of what it reads, which may have to be waited for.

        Raises:
            SqlError: it cannot be run as written.
            StreamqError: a materialized view that it reads has failed.
        """
        select = query.select
        bound = query.bind(self._catalog.infos(), parameters, self._binder)
        if is_continuous(select):
            raise UnsupportedError(
                "a query with EMIT goes on for as long as its sources do, and has no one answer",
                sql=select.sql,
                hint="read it with query(), or leave EMIT out to get the answer over the rows that are there now",
            )
        return QueryAtCut(select, bound, self._catalog.cut(bound.relations, _max_staleness_s(select)), partitions)

    def plan(self, query: QueryAtCut) -> PlannedQuery:
        """Plan a query whose cut is ready.

        Raises:
            BindError: an option has a wrong value.
            SourceError: a file that it reads is gone or has changed.
            StreamqError: a materialized view that it reads has failed.
        """
        bound = query.bound
        options = dict(bound.options)
        asked, target = self._partitions(options, query.partitions)
        broadcast_bytes = _whole_number(options, "broadcast_bytes")
        snapshots = query.cut.snapshots()
        plan = plan_query(
            bound.plan,
            snapshots,
            target_partitions=target,
            broadcast_bytes=self._config.broadcast_bytes if broadcast_bytes is None else broadcast_bytes,
            single_task_rows=self._config.single_task_rows if asked is None else 0,
        )
        wanted = self._executor(options, query.select)
        executor = choose_executor(plan, snapshots, wanted=wanted, process_bytes=self._config.process_bytes)
        evaluate = partial(self._describer.evaluate, parameters=dict(bound.parameters))
        return PlannedQuery(bound, plan, snapshots, plan_scans(plan, snapshots, evaluate), executor, target)

    def _executor(self, options: Mapping[str, object], select: Select) -> Executor:
        wanted = options.get("executor", self._config.executor)
        match wanted:
            case "auto" | "process" | "thread":
                return wanted
            case _:
                raise BindError(f"WITH (executor = …) must be 'auto', 'process' or 'thread', not {wanted!r}", sql=select.sql)

    def _partitions(self, options: Mapping[str, object], given: int | None) -> tuple[int | None, int]:
        """Give the number of partitions that was asked for, by the query's text or its caller, and the one to use."""
        asked = _whole_number(options, "target_partitions")
        asked = given if asked is None else asked
        return asked, self._config.target_partitions if asked is None else clamp_partitions(asked)


def _circle_error(select: Select, circle: Circle) -> BindError:
    source = circle.source
    hint = f"leave the retention of {source} out, or let late rows go into a table"
    if circle.writer is None:
        message = f"late rows would wait for room in {source} until this query, which reads it, has read on, and the query for them"
        return late_rows_error(select, message, hint)
    message = (
        f"late rows of {circle.writer} would wait for room in {source} until this query, which reads both, has read on, "
        f"and the query for {circle.writer}"
    )
    return text_error(select, message, source, hint)


def is_continuous(select: Select) -> bool:
    """Tell whether a SELECT goes on with its sources."""
    return select.emit is not None or select.late_rows_into is not None


def _max_staleness_s(select: Select) -> float | None:
    value = dict(select.options).get("max_staleness")
    if value is None:
        return None
    if isinstance(value, timedelta) and value >= timedelta(0):
        return value.total_seconds()
    raise BindError(
        f"max_staleness is a length of time, not {value!r}", sql=select.sql, hint="WITH (max_staleness = INTERVAL '1' SECOND), or 1s"
    )


def _whole_number(options: Mapping[str, object], name: str) -> int | None:
    value = options.get(name)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    raise BindError(f"WITH ({name} = …) must be a whole number, not {value!r}")
