"""What a database does, as requests to a service."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from types import TracebackType
from typing import Any
from urllib.parse import quote

import anyio
import anyio.to_thread
import pyarrow as pa

from streamq.client.query import Answer, RemoteQuery, RemoteRequest
from streamq.client.rows import items_body, reader_body, table_body, upload_reader
from streamq.client.transport import Transport
from streamq.config import Config
from streamq.engine import Database, check_query_options
from streamq.errors import QueryTimeout, SourceError, UnsupportedError
from streamq.execution.host import QueryHost
from streamq.execution.query import RunningQuery
from streamq.execution.statements import ExecuteResult
from streamq.execution.statistics import DatabaseStatistics, QueryStatistics
from streamq.execution.stream import QueryBatchStream
from streamq.sql.catalog import RelationInfo
from streamq.sql.statements import Parameters
from streamq.storage.rows import InsertResult, arrow_table, table_of
from streamq.wire.arrow import table_from_text
from streamq.wire.parameters import parameters_to_json
from streamq.wire.records import from_json


class RemoteConnection:
    """The database of a service, from its opening to its end, which ends the queries that were started in it. Nothing is sent before."""

    def __init__(self, url: str, token: str | None, config: Config) -> None:
        self._host = QueryHost(config)
        self._transport = Transport(url, token)

    async def __aenter__(self) -> Database:
        return RemoteDatabase(await self._host.__aenter__(), self._transport)

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        try:
            return await self._host.__aexit__(kind, error, trace)
        finally:
            with anyio.CancelScope(shield=True):
                await self._transport.aclose()


class RemoteDatabase(Database):
    """The database of a service, used as one in this program is."""

    def __init__(self, host: QueryHost, transport: Transport) -> None:
        self._host = host
        self._transport = transport

    # Queries

    def snapshot(
        self,
        sql: str,
        params: Parameters = None,
        *,
        timeout: float | None = None,
        batch_rows: int = 32_768,
        partitions: int | None = None,
    ) -> QueryBatchStream:
        """Make a stream of a snapshot query's answer."""
        return self._remote(sql, params, timeout, {"batch_rows": batch_rows, "partitions": partitions, "snapshot": True})

    def query(
        self,
        sql: str,
        params: Parameters = None,
        *,
        timeout: float | None = None,
        batch_rows: int = 32_768,
        epoch_rows: int | None = None,
        partitions: int | None = None,
        progress: bool = False,
    ) -> QueryBatchStream:
        """Make a stream of a SELECT's answer, see `streamq.Database.query`."""
        check_query_options(timeout, batch_rows, epoch_rows)
        options = {"batch_rows": batch_rows, "epoch_rows": epoch_rows, "partitions": partitions, "progress": progress}
        return self._remote(sql, params, timeout, options)

    async def explain(self, sql: str, params: Parameters = None, *, analyze: bool = False) -> str:
        """Describe how a query runs in the service."""
        said = await self._call("POST", "/v1/explain", asked={"sql": sql, "analyze": analyze, **parameters_to_json(params)})
        return str(said["text"])

    async def relations(self) -> tuple[RelationInfo, ...]:
        """List everything that a query can name."""
        return tuple(map(_relation, await self._call("GET", "/v1/relations")))

    async def queries(self) -> tuple[QueryStatistics, ...]:
        """List the running queries, of all clients."""
        return tuple(from_json(QueryStatistics, query) for query in await self._call("GET", "/v1/queries"))

    async def cancel(self, query_id: str) -> bool:
        """Abort a query, of any client; its reader gets QueryCancelled. False if no such query runs."""
        return await self._call("DELETE", f"/v1/queries/{quote(query_id, safe='')}", may_be_absent=True) is not None

    async def statistics(self) -> DatabaseStatistics:
        """Tell what the service's database has done so far and what it holds."""
        return from_json(DatabaseStatistics, await self._call("GET", "/v1/statistics"))

    def statistics_nowait(self) -> DatabaseStatistics:
        """Refuse: a service has to be asked.

        Raises:
            UnsupportedError: always.
        """
        raise UnsupportedError("a service's statistics have to be waited for", hint="use `await db.statistics()`, or scrape its /metrics")

    # Everything else

    async def execute(self, sql: str, params: Parameters = None) -> ExecuteResult:
        """Run a statement that is not a SELECT."""
        said = await self._call("POST", "/v1/execute", asked={"sql": sql, **parameters_to_json(params)})
        table = said["table"]
        return ExecuteResult(said["kind"], said["rows"], None if table is None else table_from_text(table["arrow"]))

    async def insert(self, relation: str, rows: object) -> InsertResult:
        """Insert rows into a source or a table, see `streamq.Database.insert`. An async iterable is sent as it comes."""
        self._host.check_open()
        path = f"/v1/relations/{quote(relation, safe='')}/rows"
        if isinstance(rows, AsyncIterable):
            return await self._insert_items(relation, path, rows)
        table = await self._in_thread(arrow_table, rows)
        if table is None:
            info = await self._writable(relation, path)
            table = await self._in_thread(lambda: table_of(rows, info.schema, relation=info.name))
        # Written whole or not at all.
        said = await self._call("POST", path, body=table_body(table), params={"whole": "true"})
        return from_json(InsertResult, said)

    async def finish(self, relation: str) -> None:
        """End a pushed source: no more rows come."""
        await self._call("POST", f"/v1/relations/{quote(relation, safe='')}/finish")

    async def register(self, name: str, obj_or_path: object, *, watermark: str | None = None) -> None:
        """Send an object with Arrow data to the service, which keeps it under a name.

        Raises:
            UnsupportedError: a path, which would be one of this machine.
            SourceError: the object has no Arrow data.
            BindError: the name is taken, the watermark does not fit.
        """
        self._host.check_open()
        reader = await self._in_thread(upload_reader, name, obj_or_path)
        params = {} if watermark is None else {"watermark": watermark}
        await self._call("PUT", f"/v1/relations/{quote(name, safe='')}", body=reader_body(reader), params=params)

    async def unregister(self, name: str) -> None:
        """Forget a registered relation."""
        await self._call("DELETE", f"/v1/relations/{quote(name, safe='')}")

    # How it is done

    async def _call(self, method: str, path: str, **request: Any) -> Any:
        self._host.check_open()
        return await self._transport.call(method, path, **request)

    def _remote(self, sql: str, params: Parameters, timeout: float | None, options: Mapping[str, object]) -> QueryBatchStream:
        async def start() -> RunningQuery:
            self._host.check_open()
            deadline = anyio.current_time() + timeout if timeout is not None else float("inf")
            asked = {"sql": sql, "timeout": timeout, **options, **parameters_to_json(params)}
            with anyio.CancelScope(deadline=deadline):
                return await self._start_remote(asked, deadline, timeout)
            raise QueryTimeout(f"the query did not start within its timeout of {timeout} s")

        return QueryBatchStream(start, self._host.drop)

    async def _start_remote(self, asked: Mapping[str, Any], deadline: float, timeout: float | None) -> RunningQuery:
        response = await self._transport.send("POST", "/v1/query", asked=asked)
        answer = Answer(self._transport, response)
        try:
            schema, description, progress = await answer.begin()
            # No await from here on: from its launch, the query closes the answer.
            request = RemoteRequest(asked["sql"], schema, description, progress, answer, deadline, timeout)
            return self._host.launch(RemoteQuery(request, self._transport, self._host.waiting, self._host.query_ended))
        except BaseException:
            with anyio.CancelScope(shield=True):
                await answer.aclose()
            raise

    async def _writable(self, relation: str, path: str) -> RelationInfo:
        """Give a source or table.

        Raises:
            SourceError: there is none of this name.
        """
        found = [info for info in await self.relations() if info.name.lower() == relation.lower()]
        if not found or found[0].kind not in ("source", "table"):
            # The service says why it takes no rows.
            await self._call("POST", path, body=table_body(pa.table({})), params={"whole": "true"})
            raise SourceError(f"{relation!r} takes no rows")
        return found[0]

    async def _insert_items(self, relation: str, path: str, items: AsyncIterable[object]) -> InsertResult:
        try:
            info = await self._writable(relation, path)
            return from_json(InsertResult, await self._call("POST", path, body=items_body(items, info)))
        finally:
            if isinstance(items, AsyncGenerator):
                await items.aclose()


def _relation(said: Mapping[str, Any]) -> RelationInfo:
    watermark = said["watermark"]
    return RelationInfo(
        name=said["name"],
        kind=said["kind"],
        schema=pa.ipc.read_schema(pa.py_buffer(b64decode(said["arrow_schema"]))),
        system_columns=said["system_columns"],
        primary_key=tuple(said["primary_key"]),
        watermark=None if watermark is None else (watermark["column"], watermark["expression"]),
        view_sql=said["view_sql"],
    )
