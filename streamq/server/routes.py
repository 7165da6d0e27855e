"""What the service answers: a function for each route, from a request to what the database does."""

from __future__ import annotations

import importlib.util
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

import anyio.to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from streamq.config.tokens import Caller
from streamq.errors import BindError, SourceError
from streamq.server.asked import EXECUTE_OPTIONS, EXPLAIN_OPTIONS, QUERY_OPTIONS, STREAM_OPTIONS, asked, content_type
from streamq.server.formats import FORMATS, NDJSON, choose_format
from streamq.server.guard import CALLER
from streamq.server.logs import note
from streamq.server.outside import Lasting
from streamq.server.responses import QueryResponse, error_response, while_connected, while_sending, within
from streamq.server.rights import check_right
from streamq.server.service import Service
from streamq.server.uploads import Hold, arrow_pieces, csv_pieces, json_pieces, whole_table
from streamq.sql.catalog import RelationInfo
from streamq.storage.rows import InsertResult
from streamq.storage.text import type_name
from streamq.wire import arrow
from streamq.wire.parameters import parameters_from_json
from streamq.wire.records import to_json

CSV = "text/csv"


async def query(request: Request) -> Response:
    """Run a SELECT, and stream its result as the client accepts it. With `snapshot` one with EMIT is refused."""
    service = _service(request)
    result = choose_format(request.headers.get("accept", ""))
    if result is None:
        raise HTTPException(406, f"results are {', '.join(FORMATS)}: accept one of these")
    said = await asked(request, service.limits, QUERY_OPTIONS)
    options = {name: said[name] for name in STREAM_OPTIONS if said.get(name) is not None}
    if said.get("snapshot"):
        if said.get("epoch_rows") is not None or said.get("progress"):
            raise ValueError("epoch_rows and progress are for queries with EMIT, which snapshot refuses")
        options.pop("progress", None)
    start = service.database.snapshot if said.get("snapshot") else service.database.query
    stream = start(said["sql"], parameters_from_json(said, service.limits.max_request_bytes), **options)
    await _check_statement(request, said["sql"])
    return Lasting(QueryResponse(service, stream, result, _caller(request)))


async def execute(request: Request) -> Response:
    """Run a statement that is not a SELECT. A table in its answer is a list of rows, or an Arrow stream in base64 for who accepts Arrow."""
    service = _service(request)
    said = await asked(request, service.limits, EXECUTE_OPTIONS)
    params = parameters_from_json(said, service.limits.max_request_bytes)
    await _check_statement(request, said["sql"])
    work = partial(within, service.limits.max_query_s)
    with service.statement(_caller(request), partial(_note_query, request)) as database:
        result = await while_connected(request.receive, lambda: work(database.execute(said["sql"], params)))
    table: Any = None
    if result.table is not None:
        wants_arrow = arrow.CONTENT_TYPE in request.headers.get("accept", "")
        table = {"arrow": arrow.table_to_text(result.table)} if wants_arrow else to_json(result.table.to_pylist())
    return JSONResponse({"kind": result.kind, "rows": result.rows, "table": table})


async def explain(request: Request) -> Response:
    """Describe how a query runs; with `analyze` it is run."""
    service = _service(request)
    said = await asked(request, service.limits, EXPLAIN_OPTIONS)
    params, analyze = parameters_from_json(said, service.limits.max_request_bytes), bool(said.get("analyze"))
    if analyze:
        await _check_statement(request, said["sql"])
    work = partial(within, service.limits.max_query_s)
    with service.statement(_caller(request), partial(_note_query, request)) as database:
        text = await while_connected(request.receive, lambda: work(database.explain(said["sql"], params, analyze=analyze)))
    return JSONResponse({"text": text})


async def insert(request: Request) -> Response:
    """Write rows as they come: an Arrow IPC stream, JSON lines or CSV. An error says how many rows had gone in before.

    With ``?whole=true`` an Arrow stream is written whole, or not at all.
    """
    service = _service(request)
    name, limit = request.path_params["name"], service.limits.max_insert_bytes
    whole = request.query_params.get("whole", "false")
    if whole not in ("true", "false"):
        raise ValueError(f"whole must be true or false, not {whole!r}")
    with service.uploading() as hold:
        if content_type(request) == arrow.CONTENT_TYPE and whole == "true":
            table = await whole_table(request, limit, service.limits.stall_s, "max_insert_bytes", hold)
            return JSONResponse(to_json(await while_connected(request.receive, lambda: service.database.insert(name, table))))

        async def write(sending: Request) -> InsertResult:
            return await service.database.insert(name, await _pieces(sending, name, hold))

        return JSONResponse(to_json(await while_sending(request, write)))


async def finish(request: Request) -> Response:
    """End a pushed source."""
    await _service(request).database.finish(request.path_params["name"])
    return JSONResponse({})


async def register(request: Request) -> Response:
    """Keep an Arrow IPC stream as a relation."""
    service = _service(request)
    if content_type(request) != arrow.CONTENT_TYPE:
        raise HTTPException(415, f"a relation is registered as {arrow.CONTENT_TYPE}")
    with service.uploading() as hold:
        table = await whole_table(request, service.limits.max_register_bytes, service.limits.stall_s, "max_register_bytes", hold)
    name = request.path_params["name"]
    try:
        await service.database.register(name, table, watermark=request.query_params.get("watermark"))
    except (BindError, SourceError) as error:
        taken = any(relation.name.lower() == name.lower() for relation in await service.database.relations())
        return error_response(error, 409 if taken else None)
    return JSONResponse({"rows": table.num_rows}, 201)


async def unregister(request: Request) -> Response:
    """Forget a registered relation."""
    await _service(request).database.unregister(request.path_params["name"])
    return JSONResponse({})


async def relations(request: Request) -> Response:
    """List what queries can name."""
    return JSONResponse([_relation_record(relation) for relation in await _service(request).database.relations()])


async def relation(request: Request) -> Response:
    """Describe one relation."""
    return JSONResponse(_relation_record(await _relation(_service(request), request.path_params["name"])))


async def queries(request: Request) -> Response:
    """List the running queries: those of the same token, with the right `admin` all."""
    service, caller = _service(request), _caller(request)
    running = await service.database.queries()
    return JSONResponse(to_json([query for query in running if service.sees(caller, query.query_id)]))


async def query_statistics(request: Request) -> Response:
    """Tell what one running query has done so far."""
    service, query_id = _service(request), request.path_params["id"]
    for running in await service.database.queries():
        if running.query_id == query_id and service.sees(_caller(request), query_id):
            return JSONResponse(to_json(running))
    raise _no_such_query(query_id)


async def cancel(request: Request) -> Response:
    """Abort a query, and answer when nothing of it is left: with its last statistics, if it was one of this service's clients'."""
    service, query_id = _service(request), request.path_params["id"]
    answer = service.answer(query_id)
    if not (service.sees(_caller(request), query_id) and await service.database.cancel(query_id)):
        raise _no_such_query(query_id)
    return JSONResponse({"cancelled": True, "statistics": None if answer is None else to_json(await answer.statistics())})


async def statistics(request: Request) -> Response:
    """Tell what the database has done so far and what it holds."""
    return JSONResponse(to_json(await _service(request).database.statistics()))


async def metrics(request: Request) -> Response:
    """Give the statistics to Prometheus."""
    if any(importlib.util.find_spec(name) is None for name in ("prometheus_client", "psutil")):
        raise HTTPException(501, "metrics need prometheus-client and psutil: pip install 'streamq[metrics]'")
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

    from streamq.metrics import collector

    registry = CollectorRegistry()
    service = _service(request)
    registry.register(collector(service.database, service.requests))
    return Response(await anyio.to_thread.run_sync(generate_latest, registry), media_type=CONTENT_TYPE_LATEST)


async def healthz(_: Request) -> Response:
    """Say that the process answers."""
    return PlainTextResponse("ok\n")


async def readyz(request: Request) -> Response:
    """Say whether requests are welcome."""
    return PlainTextResponse("ready\n") if _service(request).ready else PlainTextResponse("not ready\n", 503)


ROUTES: Sequence[Route] = (
    Route("/v1/query", query, methods=["POST"]),
    Route("/v1/execute", execute, methods=["POST"]),
    Route("/v1/explain", explain, methods=["POST"]),
    Route("/v1/relations", relations, methods=["GET"]),
    Route("/v1/relations/{name:path}/rows", insert, methods=["POST"]),
    Route("/v1/relations/{name:path}/finish", finish, methods=["POST"]),
    Route("/v1/relations/{name:path}", relation, methods=["GET"]),
    Route("/v1/relations/{name:path}", register, methods=["PUT"]),
    Route("/v1/relations/{name:path}", unregister, methods=["DELETE"]),
    Route("/v1/queries", queries, methods=["GET"]),
    Route("/v1/queries/{id}", query_statistics, methods=["GET"]),
    Route("/v1/queries/{id}", cancel, methods=["DELETE"]),
    Route("/v1/statistics", statistics, methods=["GET"]),
    Route("/metrics", metrics, methods=["GET"]),
    Route("/healthz", healthz, methods=["GET"]),
    Route("/readyz", readyz, methods=["GET"]),
)
"""The routes of the service."""


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


def _caller(request: Request) -> Caller:
    caller: Caller = request.scope[CALLER]
    return caller


def _note_query(request: Request, query_id: str) -> None:
    """Name in the log the query that a statement runs."""
    note(request.scope, query_id=query_id)


def _no_such_query(query_id: str) -> HTTPException:
    """Make what is said of a query that does not run, and of one that the caller may not see."""
    return HTTPException(404, f"there is no running query {query_id!r}: /v1/queries lists those that there are")


async def _check_statement(request: Request, sql: str) -> None:
    """Check that the caller may run a statement. Those who may do anything do without.

    Raises:
        SqlError: it is none.
        Forbidden: the caller may not.
    """
    caller = _caller(request)
    if not caller.may("admin"):
        check_right(caller, await _service(request).rights.of(sql))


async def _pieces(request: Request, name: str, hold: Hold) -> AsyncIterator[object]:
    """Read rows for a relation as they come."""
    service = _service(request)
    limit, stall_s = service.limits.max_insert_bytes, service.limits.stall_s
    match content_type(request):
        case arrow.CONTENT_TYPE:
            return arrow_pieces(request, limit, stall_s, hold)
        case "application/x-ndjson" | "application/jsonl" | "application/jsonlines":
            return json_pieces(request, limit, stall_s, hold)
        case "text/csv":
            return csv_pieces(request, limit, stall_s, hold, (await _relation(service, name)).schema)
        case other:
            sent = other or "of no content type"
            raise HTTPException(415, f"rows are {arrow.CONTENT_TYPE}, {NDJSON} (an object a line) or {CSV}, not {sent}")


async def _relation(service: Service, name: str) -> RelationInfo:
    found = {relation.name.lower(): relation for relation in await service.database.relations()}
    if name.lower() not in found:
        raise SourceError(f"there is no relation {name!r}: /v1/relations lists those that there are")
    return found[name.lower()]


def _relation_record(relation: RelationInfo) -> dict[str, Any]:
    columns = [{"name": field.name, "type": type_name(field.type), "nullable": field.nullable} for field in relation.schema]
    return {
        "name": relation.name,
        "kind": relation.kind,
        "columns": columns,
        "primary_key": list(relation.primary_key),
        "watermark": None if relation.watermark is None else {"column": relation.watermark[0], "expression": relation.watermark[1]},
        "system_columns": relation.system_columns,
        "view_sql": relation.view_sql,
        "arrow_schema": b64encode(relation.schema.serialize()).decode(),
    }
