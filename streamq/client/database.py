"""What a database does, as requests to a service."""

from __future__ import annotations

import ssl
from base64 import b64decode
from collections.abc import AsyncIterable, Callable, Mapping
from types import TracebackType
from typing import Any, TypeVar, TypeVarTuple
from urllib.parse import quote

import anyio
import anyio.to_thread
import pyarrow as pa

from streamq.client.query import Answer, RemoteQuery, RemoteRequest
from streamq.client.rows import items_body, reader_body, table_body, upload_reader
from streamq.client.transport import Transport
from streamq.config import Config
from streamq.database import AskedQuery, Database
from streamq.errors import QueryTimeout, SourceError, SqlSyntaxError, UnsupportedError
from streamq.execution.host import QueryHost
from streamq.execution.query import RunningQuery
from streamq.execution.results import ExecuteResult
from streamq.execution.statistics import DatabaseStatistics, QueryStatistics
from streamq.execution.stream import QueryBatchStream
from streamq.sql.catalog import RelationInfo
from streamq.sql.statements import Parameters
from streamq.storage.rows import InsertResult, arrow_table, table_of
from streamq.wire.arrow import table_from_text
from streamq.wire.parameters import parameters_to_json
from streamq.wire.records import from_json

T = TypeVar("T")
Args = TypeVarTuple("Args")

_UNKNOWN = "whether it was done is not known"


class RemoteConnection:
    """The database of a service, from its opening to its end, which ends the queries that were started in it. Nothing is sent before."""

    def __init__(self, url: str, token: str | None, tls: ssl.SSLContext | None, config: Config) -> None:
        self._transport = Transport(url, token, tls)
        self._host = QueryHost(config)

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

    async def explain(self, sql: str, params: Parameters = None, *, analyze: bool = False) -> str:
        said = await self._call("POST", "/v1/explain", asked=_asked(sql, params, analyze=analyze))
        return str(said["text"])

    async def relations(self) -> tuple[RelationInfo, ...]:
        return tuple(map(_relation, await self._read("/v1/relations")))

    async def queries(self) -> tuple[QueryStatistics, ...]:
        return tuple(from_json(QueryStatistics, query) for query in await self._read("/v1/queries"))

    async def cancel(self, query_id: str) -> bool:
        return await self._call("DELETE", f"/v1/queries/{_segment(query_id)}", may_be_absent=True) is not None

    async def statistics(self) -> DatabaseStatistics:
        return from_json(DatabaseStatistics, await self._read("/v1/statistics"))

    def statistics_nowait(self) -> DatabaseStatistics:
        raise UnsupportedError("a service's statistics have to be waited for", hint="use `await db.statistics()`, or scrape its /metrics")

    # Everything else

    async def execute(self, sql: str, params: Parameters = None) -> ExecuteResult:
        said = await self._call("POST", "/v1/execute", asked=_asked(sql, params), lost=_UNKNOWN)
        table = said["table"]
        return ExecuteResult(said["kind"], said["rows"], None if table is None else table_from_text(table["arrow"]))

    async def finish(self, relation: str) -> None:
        await self._call("POST", f"/v1/relations/{_segment(relation)}/finish", lost=_UNKNOWN)

    async def register(self, name: str, obj_or_path: object, *, watermark: str | None = None) -> None:
        self._host.check_open()
        reader = await self._in_thread(upload_reader, name, obj_or_path)
        params = {} if watermark is None else {"watermark": watermark}
        await self._call("PUT", f"/v1/relations/{_segment(name)}", body=reader_body(name, reader), params=params, lost=_UNKNOWN)

    async def unregister(self, name: str) -> None:
        await self._call("DELETE", f"/v1/relations/{_segment(name)}", lost=_UNKNOWN)

    async def _insert_at_once(self, relation: str, rows: object) -> InsertResult:
        self._host.check_open()
        table = await self._in_thread(arrow_table, rows, relation)
        if table is None:
            info = await self._writable(relation)
            table = await self._in_thread(lambda: table_of(rows, info.schema, relation=info.name))
        lost = "whether the rows went in, all or none, is not known"
        said = await self._call("POST", _rows_path(relation), body=table_body(table), params={"whole": "true"}, lost=lost)
        return from_json(InsertResult, said)

    async def _insert_each(self, relation: str, items: AsyncIterable[object]) -> InsertResult:
        self._host.check_open()
        info = await self._writable(relation)
        lost = "how many of the rows went in is not known"
        return from_json(InsertResult, await self._call("POST", _rows_path(relation), body=items_body(items, info), lost=lost))

    # How it is done

    async def _call(self, method: str, path: str, **request: Any) -> Any:
        self._host.check_open()
        return await self._transport.call(method, path, **request)

    async def _read(self, path: str) -> Any:
        self._host.check_open()
        return await self._transport.read(path)

    async def _in_thread(self, function: Callable[[*Args], T], *args: *Args) -> T:
        """Run what converts rows off the event loop."""
        return await anyio.to_thread.run_sync(function, *args, limiter=self._host.limiter)

    def _stream(self, asked: AskedQuery) -> QueryBatchStream:
        async def start() -> RunningQuery:
            self._host.check_open()
            deadline = anyio.current_time() + asked.timeout if asked.timeout is not None else float("inf")
            with anyio.CancelScope(deadline=deadline):
                return await self._start(asked, deadline)
            raise QueryTimeout(f"the query did not start within its timeout of {asked.timeout} s")

        return QueryBatchStream(start, self._host.drop)

    async def _start(self, asked: AskedQuery, deadline: float) -> RunningQuery:
        response = await self._transport.send("POST", "/v1/query", asked=_request(asked), lost="the query, if it had begun, ends with it")
        answer = Answer(self._transport, response)
        try:
            schema, description, progress = await answer.begin()
            # No await from here on: from its launch, the query closes the answer.
            request = RemoteRequest(asked.sql, schema, description, progress, answer, deadline, asked.timeout)
            return self._host.launch(RemoteQuery(request, self._transport, self._host.waiting, self._host.query_ended))
        except BaseException:
            with anyio.CancelScope(shield=True):
                await answer.aclose()
            raise

    async def _writable(self, relation: str) -> RelationInfo:
        """Give a source or table.

        Raises:
            SourceError: there is none of this name.
        """
        found = [info for info in await self.relations() if info.name.lower() == relation.lower()]
        if not found or found[0].kind not in ("source", "table"):
            # The service says why it takes no rows.
            await self._call("POST", _rows_path(relation), body=table_body(pa.table({})), params={"whole": "true"})
            raise SourceError(f"{relation!r} takes no rows")
        return found[0]


def _rows_path(relation: str) -> str:
    return f"/v1/relations/{_segment(relation)}/rows"


def _segment(name: str) -> str:
    """Write a name as a part of a path that stays one: `.` and `..` would be taken for steps."""
    return quote(name, safe="").replace(".", "%2E")


def _asked(sql: str, params: Parameters, **options: Any) -> dict[str, Any]:
    """Make a request in JSON.

    Raises:
        SqlSyntaxError, BindError: the text or a value cannot be sent, nor be run anywhere.
    """
    try:
        sql.encode()
    except UnicodeEncodeError as error:
        raise SqlSyntaxError(f"character {error.start + 1} of the text is half of a surrogate pair, which is none by itself") from None
    return {"sql": sql, **options, **parameters_to_json(params)}


def _request(asked: AskedQuery) -> dict[str, Any]:
    options: dict[str, Any] = {"batch_rows": asked.batch_rows, "partitions": asked.partitions, "timeout": asked.timeout}
    if asked.snapshot:
        options["snapshot"] = True
    else:
        options |= {"epoch_rows": asked.epoch_rows, "progress": asked.progress}
    return _asked(asked.sql, asked.params, **options)


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
