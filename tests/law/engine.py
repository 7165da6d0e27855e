"""The engine under test: databases that are driven by plain calls, and the ways to run a query on them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Literal, TypeVar, TypeVarTuple

import anyio
import pyarrow as pa
import pyarrow.parquet as pq
from anyio.from_thread import BlockingPortal
from hypothesis import strategies as st

import streamq
from tests.law.relations import ENDLESS, Relation

T = TypeVar("T")
Args = TypeVarTuple("Args")
Executor = Literal["thread", "process"]
EXECUTORS: tuple[Executor, ...] = ("thread", "process")
PARTITIONS = (1, 2, 3, 7, 8)
PATIENCE_S = 60


@dataclass(frozen=True, slots=True)
class Run:
    """A way to run a query. Without a number of partitions, small queries run as one task.

    `broadcast_bytes` 0 lets no join input be given whole to every task where it can be avoided.
    """

    executor: Executor = "thread"
    partitions: int | None = 2
    batch_rows: int = 32_768
    broadcast_bytes: int | None = None

    def spell(self, sql: str) -> str:
        """Write the query with the options that are not arguments of `query`."""
        return sql if self.broadcast_bytes is None else f"{sql} WITH (broadcast_bytes = {self.broadcast_bytes})"


runs = st.builds(
    Run, st.sampled_from(EXECUTORS), st.sampled_from((*PARTITIONS, None)), st.sampled_from([1, 7, 32_768]), st.sampled_from([None, 0, 400])
)


class Engine:
    """Databases that live in an event loop on another thread, so that Hypothesis drives them with plain calls."""

    def __init__(self, portal: BlockingPortal, databases: dict[Executor, streamq.Database]) -> None:
        self._portal = portal
        self.databases = databases

    def answer(self, sql: str, run: Run) -> pa.Table:
        """Give streamq's whole answer."""
        return self._portal.call(self._answer, sql, run)

    def explain(self, sql: str, run: Run) -> str:
        """Explain the query with the run's broadcasts, for the database's own number of partitions."""
        return self._portal.call(self.databases[run.executor].explain, run.spell(sql))

    def execute(self, sql: str, executor: Executor) -> None:
        self._portal.call(self.databases[executor].execute, sql)

    def call(self, function: Callable[[*Args], Awaitable[T]], *args: *Args) -> T:
        """Run a coroutine function in the event loop of the databases."""
        return self._portal.call(function, *args)

    @contextmanager
    def holding(self, held: Sequence[Relation], executor: Executor, *, empty: bool = False) -> Iterator[None]:
        """Have the relations in the executor's database for the length of the block, or, where rows can be written later, `empty` ones."""
        with tempfile.TemporaryDirectory(prefix="law-") as directory, ExitStack() as stack:
            for relation in held:
                if empty and relation.hold in ENDLESS:
                    relation = replace(relation, rows=relation.rows.slice(0, 0), cuts=())
                self._portal.call(self._hold, relation, executor, directory)
                stack.callback(self._portal.call, self._release, relation, executor)
            yield

    async def _answer(self, sql: str, run: Run) -> pa.Table:
        with anyio.fail_after(PATIENCE_S):
            async with self.databases[run.executor].query(run.spell(sql), partitions=run.partitions, batch_rows=run.batch_rows) as stream:
                answer = await stream.read_all()
            assert answer.schema == stream.schema
            return answer

    async def _hold(self, relation: Relation, executor: Executor, directory: str) -> None:
        db, name = self.databases[executor], relation.name
        path = os.path.join(directory, name)
        match relation.hold:
            case "source" | "partitioned":
                partitions = f" PARTITION BY ({relation.partition_key}) WITH (shards = 7)" if relation.hold == "partitioned" else ""
                await db.execute(f"CREATE SOURCE {name} ({relation.declaration}){partitions}")
                for piece in relation.pieces:
                    await db.insert(name, piece)
            case "table":
                await db.execute(f"CREATE TABLE {name} ({relation.declaration}, PRIMARY KEY ({relation.columns[0].name}))")
                for piece in relation.pieces:
                    await db.insert(name, piece)
            case "parquet":
                pq.write_table(relation.rows, f"{path}.parquet", row_group_size=relation.row_group)
                await db.register(name, f"{path}.parquet", watermark=relation.watermark)
            case "files":
                for number, piece in enumerate(relation.pieces):
                    pq.write_table(piece, f"{path}-{number}.parquet", row_group_size=relation.row_group)
                await db.register(name, f"{path}-*.parquet", watermark=relation.watermark)
            case "arrow":
                await db.register(name, relation.rows, watermark=relation.watermark)
            case "chunks":
                await db.register(name, pa.concat_tables(relation.pieces), watermark=relation.watermark)

    async def _release(self, relation: Relation, executor: Executor) -> None:
        db = self.databases[executor]
        match relation.hold:
            case "source" | "partitioned":
                await db.execute(f"DROP SOURCE IF EXISTS {relation.name}")
            case "table":
                await db.execute(f"DROP TABLE IF EXISTS {relation.name}")
            case _:
                await db.unregister(relation.name)
