"""What a continuous query has open: feeds of its relations, all at one cut, DuckDB connections, the partitions of its dataflow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Protocol

import pyarrow as pa

from streamq.config import Config
from streamq.execution.planning import PlannedContinuous
from streamq.kernels.evaluate import Evaluator
from streamq.kernels.session import SharedSession
from streamq.operators import make
from streamq.operators.base import Operator, OperatorContext
from streamq.plan.dataflow import Dataflow, Lookup, Node, Read, edges
from streamq.storage.catalog import Catalog
from streamq.storage.feeds import Bookmark, Feed, Wanted
from streamq.storage.insertion import Insertion
from streamq.storage.view import MaterializedView
from streamq.storage.view_feed import ViewFeed
from streamq.streaming.changelog import ChangeWriter
from streamq.streaming.cuts import Inlet
from streamq.streaming.epochs import Epochs
from streamq.streaming.late import LateRowCounter
from streamq.streaming.pace import AsWritten, ByCuts, Pace
from streamq.streaming.partitions import LocalPartitions, Partitions
from streamq.streaming.processes import ProcessPartitions
from streamq.streaming.saved import SavedQuery, check_plan, fingerprint


class _Closeable(Protocol):
    def close(self) -> None: ...


class OpenedQuery:
    """Opens everything in `open`, and gives it back in `close`, which may be called at any time and more than once.

    What needs DuckDB computes in `session`. `keeps` is the materialized view that the query keeps, if it does.
    """

    __slots__ = (
        "_catalog", "_config", "_epoch_rows", "_evaluators", "_late", "_opened", "_session", "epochs", "feeds", "keeps", "pace",
        "partitions", "planned", "writer",
    )  # fmt: skip

    def __init__(
        self,
        planned: PlannedContinuous,
        catalog: Catalog,
        config: Config,
        session: SharedSession,
        *,
        batch_rows: int,
        epoch_rows: int | None,
        keeps: MaterializedView | None = None,
    ) -> None:
        self.planned = planned
        self.keeps = keeps
        self.feeds: list[Feed] = []
        self.writer = ChangeWriter(planned.dataflow, batch_rows)
        self.partitions: Partitions
        self._evaluators: list[Evaluator] = []
        self._opened: list[_Closeable] = []
        self.epochs: Epochs
        self.pace: Pace
        self._catalog = catalog
        self._config = config
        self._session = session
        asked = planned.dataflow.continuous.epoch_rows
        self._epoch_rows = asked if asked is not None else epoch_rows

    def open(self, saved: SavedQuery | None = None) -> None:
        """Take the cut, and make an operator for every node in every partition that is in this process. With `saved`, go on from there.

        Raises:
            StreamqError: a relation is gone, or DuckDB does not accept the plan's SQL. Then nothing is open.
            StorageError: what was saved is another query.
        """
        if saved is not None:
            check_plan(saved.plan, fingerprint(self.planned.dataflow))
        with ExitStack() as stack:
            stack.callback(self.close)
            inlets = self._open_feeds({} if saved is None else saved.bookmarks)
            self.pace = self._open_pace()
            self._open_evaluators()
            self._open_partitions()
            self._late = LateRowCounter(self.planned.dataflow, self._evaluators[0], self._late_rows_into())
            self.epochs = Epochs(
                _bounded(self.planned.dataflow, self._config.max_state_bytes),
                inlets,
                self.partitions,
                self.writer,
                self._late,
                pace=self.pace,
                epoch_rows=self._epoch_rows,
            )
            if saved is not None:
                self.epochs.resume(saved)
            stack.pop_all()

    def interrupt(self) -> None:
        """Make an epoch that is computed now end soon, with an error. To be repeated until it has. From any thread."""
        self.partitions.interrupt()
        self._late.interrupt()

    def close(self) -> None:
        """Give everything back. Nothing of it may be in use."""
        opened, self._opened = self._opened, []
        with ExitStack() as stack:
            for each in opened:
                stack.callback(each.close)

    def _open_feeds(self, bookmarks: Mapping[str, Bookmark]) -> list[Inlet]:
        """Open one feed for each relation, so that all reads of it see the same rows in an epoch."""
        dataflow = self.planned.dataflow
        looked_up = _looked_up(dataflow.nodes)
        reads: dict[str, list[Read]] = {}
        for node in dataflow.nodes:
            if isinstance(node, Read):
                reads.setdefault(node.scan.relation.lower(), []).append(node)
        after = {name.lower(): bookmark for name, bookmark in bookmarks.items()}
        start = dataflow.continuous.start
        wanted = {name: Wanted(nodes[0].scan.relation, _columns(nodes), start, after.get(name)) for name, nodes in reads.items()}
        opened = self._catalog.open_feeds(wanted)
        self.feeds = [opened[name] for name in reads]
        self._opened += self.feeds
        return [
            Inlet(
                feed,
                tuple(node.id for node in nodes),
                looked_up=any(node.id in looked_up for node in nodes),
                awaited=not all(node.id in looked_up for node in nodes),
            )
            for feed, nodes in zip(self.feeds, reads.values(), strict=True)
        ]

    def _open_pace(self) -> Pace:
        views = [feed for feed in self.feeds if isinstance(feed, ViewFeed)]
        if self.keeps is not None:
            self.keeps.kept_by(views)
        elif not views:
            return AsWritten(lambda: self._catalog.sequence)
        return ByCuts(self._catalog.commits, self.feeds, self.keeps)

    def _open_evaluators(self) -> None:
        here = self.planned.partitions if self.planned.executor.kind == "thread" else 1
        self._evaluators = [Evaluator(self._session) for _ in range(here)]
        self._opened += self._evaluators

    def _open_partitions(self) -> None:
        dataflow = self.planned.dataflow
        if self.planned.executor.kind == "process":
            self.partitions = ProcessPartitions(dataflow, self.planned.partitions)
            return
        nodes: Mapping[str, Node] = {node.id: node for node in dataflow.nodes}
        parameters = dict(dataflow.parameters)
        evaluators = self._evaluators

        def operator(node: Node, partition: int) -> Operator:
            return make(node, OperatorContext.of(node, nodes, evaluators[partition], parameters, partition))

        self.partitions = LocalPartitions(dataflow, self.planned.partitions, operator, interrupt=self._interrupt_sql)
        self._opened.append(self.partitions)

    def _interrupt_sql(self) -> None:
        for evaluator in self._evaluators:
            evaluator.interrupt()

    def _late_rows_into(self) -> Callable[[pa.RecordBatch], Insertion] | None:
        name = self.planned.dataflow.continuous.late_rows_into
        if name is None:
            return None
        # Binding has checked that it has the user's columns; system columns are kept where it has them too.
        target = {column.lower() for column in self._catalog.relation(name).schema.names}

        def insertion(rows: pa.RecordBatch) -> Insertion:
            return self._catalog.insertion(name, rows.select([column for column in rows.schema.names if column.lower() in target]))

        return insertion


def _bounded(dataflow: Dataflow, max_state_bytes: int | None) -> Dataflow:
    """Let a query keep no more than the database allows, whatever it asked for."""
    asked = dataflow.continuous.max_state_bytes
    if max_state_bytes is None or (asked is not None and asked <= max_state_bytes):
        return dataflow
    return replace(dataflow, continuous=replace(dataflow.continuous, max_state_bytes=max_state_bytes))


def _columns(nodes: list[Read]) -> tuple[str, ...]:
    """Give the columns that several reads of one relation need."""
    return tuple(dict.fromkeys(name for node in nodes for name in node.schema.names))


def _looked_up(nodes: tuple[Node, ...]) -> set[str]:
    """Give the nodes whose rows only go into the right side of a `Lookup`, or also there."""
    found = {node.right.node for node in nodes if isinstance(node, Lookup)}
    for node in reversed(nodes):
        if node.id in found:
            found |= {edge.node for edge in edges(node)}
    return found
