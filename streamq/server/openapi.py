"""`/openapi.json`: what the service answers, made of its routes, their docstrings, the options of requests and the types of what is sent.

A route that nothing is said about here is an error where the document is made, so the two do not drift apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from streamq import __version__, errors
from streamq.database import LONGEST_S, MOST_ROWS
from streamq.execution.statistics import DatabaseStatistics, QueryStatistics
from streamq.server.asked import EXECUTE_OPTIONS, EXPLAIN_OPTIONS, JSON, QUERY_OPTIONS, Options
from streamq.server.formats import EVENTS, FORMATS, NDJSON
from streamq.server.json_schema import Schema, schema_of
from streamq.server.rights import is_open, right_for
from streamq.storage.rows import InsertResult
from streamq.wire import arrow

Content = Mapping[str, Schema]
"""Schemas by content type."""

_TEXT: Schema = {"type": "string"}
_BINARY: Schema = {"type": "string", "format": "binary"}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_EMPTY: Schema = {"type": "object", "maxProperties": 0}


def _object(optional: Iterable[str] = (), **properties: Schema) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_OPTION_SCHEMAS: Mapping[type, Schema] = {
    bool: {"type": ["boolean", "null"]},
    int: {"type": ["integer", "null"], "minimum": 1, "maximum": MOST_ROWS},
    float: {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": LONGEST_S},
}


def _asked(options: Options, example: str) -> Content:
    """Give the schema of a request in JSON, see `streamq.server.asked`."""
    own: dict[str, Schema] = {
        "sql": {"type": "string", "description": "one statement", "examples": [example]},
        "params": {"anyOf": [{"type": "array"}, {"type": "object"}, {"type": "null"}], "description": "values for ? and $1, or for $name"},
        "params_arrow": {"type": "string", "description": "in place of params: a row of an Arrow IPC stream, in base64"},
        "params_named": {"type": "boolean", "description": "whether the columns of params_arrow are names, or numbers of parameters"},
    }
    given = {name: _OPTION_SCHEMAS[kind] for name, kind in options.items()}
    schema = _object([*own.keys() - {"sql"}, *given], **own, **given)
    return {JSON: {**schema, "examples": [{"sql": example}]}}


_RELATION = _object(
    name=_TEXT,
    kind={"enum": ["source", "table", "view", "materialized view", "registered"]},
    columns={"type": "array", "items": _object(name=_TEXT, type=_TEXT, nullable={"type": "boolean"})},
    primary_key={"type": "array", "items": _TEXT},
    watermark={"anyOf": [_object(column=_TEXT, expression=_TEXT), {"type": "null"}]},
    system_columns={"type": "boolean"},
    view_sql={"type": ["string", "null"]},
    arrow_schema={"type": "string", "contentEncoding": "base64"},
)
_TABLE: Schema = {"anyOf": [{"type": "array", "items": {"type": "object"}}, _object(arrow=_TEXT), {"type": "null"}]}
_RESULT: Content = {
    arrow.CONTENT_TYPE: {**_BINARY, "description": "An Arrow IPC stream; progress, errors and the end are in the metadata of its batches."},
    NDJSON: {**_TEXT, "description": "A line for each row, and a last one with the member streamq: end or error."},
    EVENTS: {
        **_object(event={"enum": ["query", "rows", "end", "error"]}, data={"type": "string", "contentMediaType": JSON}),
        "description": "Events: query, then rows any number of times, at last end or error. Comments say that the connection lives.",
    },
}
assert _RESULT.keys() == FORMATS.keys(), "each form of a result is described"
_ROWS: Content = {
    arrow.CONTENT_TYPE: {**_BINARY, "description": "An Arrow IPC stream without compression."},
    NDJSON: {**_TEXT, "description": "An object for each row.", "examples": ['{"n": 1}\n']},
    "application/jsonl": _TEXT,
    "application/jsonlines": _TEXT,
    "text/csv": {**_TEXT, "description": "The first line names columns; an empty field is NULL.", "examples": ["n\n1\n"]},
}


@dataclass(frozen=True, slots=True)
class Operation:
    """What a route takes and gives: the status and content of success, the statuses of errors, the body, and values in the query string."""

    answer: Content
    refusals: Sequence[int] = ()
    status: int = 200
    body: Content = field(default_factory=dict)
    parameters: Mapping[str, Schema] = field(default_factory=dict)


_BODY = (400, 408, 413, 415)
_RUN = (*_BODY, 409, 422, 429, 503, 504, 507)
OPERATIONS: Mapping[str, Operation] = {
    "query": Operation(_RESULT, (*_RUN, 406), body=_asked(QUERY_OPTIONS, "SELECT 42 AS answer")),
    "execute": Operation(
        {JSON: _object(kind=_TEXT, rows=_COUNT, table=_TABLE)}, (*_RUN, 404), body=_asked(EXECUTE_OPTIONS, "SHOW RELATIONS")
    ),
    "explain": Operation({JSON: _object(text=_TEXT)}, _RUN, body=_asked(EXPLAIN_OPTIONS, "SELECT 42 AS answer")),
    "insert": Operation(
        {JSON: _ref("InsertResult")},
        (400, 404, 408, 413, 415, 422, 429, 503, 507),
        body=_ROWS,
        parameters={"whole": {"enum": ["true", "false"]}},
    ),
    "finish": Operation({JSON: _EMPTY}, (400, 404, 422, 503)),
    "relations": Operation({JSON: {"type": "array", "items": _ref("Relation")}}, (503,)),
    "relation": Operation({JSON: _ref("Relation")}, (404, 503)),
    "register": Operation(
        {JSON: _object(rows=_COUNT)},
        (400, 404, 408, 409, 413, 415, 422, 429, 503, 507),
        status=201,
        body={arrow.CONTENT_TYPE: _BINARY},
        parameters={"watermark": {"type": "string", "description": "an SQL expression, such as: ts - INTERVAL '5' SECOND"}},
    ),
    "unregister": Operation({JSON: _EMPTY}, (400, 404, 422, 503)),
    "queries": Operation({JSON: {"type": "array", "items": _ref("QueryStatistics")}}, (503,)),
    "query_statistics": Operation({JSON: _ref("QueryStatistics")}, (404, 503)),
    "cancel": Operation(
        {JSON: _object(cancelled={"const": True}, statistics={"anyOf": [_ref("QueryStatistics"), {"type": "null"}]})}, (404, 503)
    ),
    "statistics": Operation({JSON: _ref("DatabaseStatistics")}, (503,)),
    "metrics": Operation({"text/plain": _TEXT}, (501, 503)),
    "healthz": Operation({"text/plain": {"const": "ok\n"}}),
    "readyz": Operation({"text/plain": _TEXT}),
}
"""What each route takes and gives, by the name of the function that answers it."""

_MEANINGS: Mapping[int, str] = {
    400: "The request or its SQL is wrong; of SQL the error has line, column and hint.",
    401: "A token is needed that the service knows.",
    403: "The token does not suffice, or a browser asks for a page of another site.",
    404: "There is no such relation or query.",
    406: "None of the forms of a result is accepted.",
    408: "Nothing more of the request came.",
    409: "The name is taken, or the query was cancelled before it had begun.",
    413: "The request, its SQL, or what its rows come to is larger than the service takes.",
    415: "The body has another content type, or is compressed.",
    421: "Without tokens the service answers to localhost and to names of its configuration.",
    422: "The rows do not fit the relation, or its data cannot be read.",
    429: "As much is being done as may be: try again later.",
    501: "The service was installed without metrics.",
    503: "The service is shutting down, or a part of it has failed: try again.",
    504: "It took longer than it may.",
    507: "There is no room: a limit of memory, disk or size was reached.",
}
_HEADERS: Mapping[int, Schema] = {
    401: {"WWW-Authenticate": {"schema": _TEXT}},
    429: {"Retry-After": {"schema": _TEXT}},
    503: {"Retry-After": {"schema": _TEXT}},
}


def route(routes: Sequence[Route], *, has_tokens: bool) -> Route:
    """Make the route of the document about `routes`."""
    said = document(routes, has_tokens=has_tokens)

    async def openapi(_: Request) -> Response:
        """Describe the service."""
        return JSONResponse(said)

    return Route("/openapi.json", openapi, methods=["GET"])


def document(routes: Sequence[Route], *, has_tokens: bool) -> Schema:
    """Make the OpenAPI document about routes, of a service with tokens or without."""
    paths: dict[str, dict[str, Schema]] = {}
    for one in routes:
        path = one.path.replace(":path}", "}")
        for method in sorted((one.methods or set()) - {"HEAD"}):
            paths.setdefault(path, {})[method.lower()] = _operation(one, method, has_tokens)
    components: dict[str, Any] = {"schemas": _schemas()}
    if has_tokens:
        components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "streamq", "version": __version__, "description": "Streaming SQL over HTTP."},
        # Wherever it is mounted.
        "servers": [{"url": "."}],
        "paths": paths,
        "components": components,
    }


def _operation(one: Route, method: str, has_tokens: bool) -> Schema:
    said = OPERATIONS[one.name]
    summary, _, rest = (one.endpoint.__doc__ or "").strip().partition("\n\n")
    operation: Schema = {
        "operationId": one.name,
        "summary": summary,
        "parameters": [_parameter(name, "path", _TEXT) for name in one.param_convertors]
        + [_parameter(name, "query", schema) for name, schema in said.parameters.items()],
        "responses": _responses(one, method, said, has_tokens),
    }
    if rest:
        operation["description"] = " ".join(rest.split())
    if said.body:
        operation["requestBody"] = {"required": True, "content": {kind: _media(schema) for kind, schema in said.body.items()}}
    if has_tokens and not is_open(method, one.path):
        operation["security"] = [{"bearer": []}]
        operation["x-streamq-right"] = right_for(method, one.path)
    return operation


def _responses(one: Route, method: str, said: Operation, has_tokens: bool) -> Schema:
    success: Schema = {
        "description": HTTPStatus(said.status).phrase,
        "content": {kind: _media(schema) for kind, schema in said.answer.items()},
    }
    if one.name == "query":
        success["headers"] = {"X-Streamq-Query": {"schema": _TEXT, "description": "the query's id"}}
    if one.name == "readyz":
        return {"200": success, "503": {"description": "Requests are not welcome.", "content": {"text/plain": _media(_TEXT)}}}
    refusals = set(said.refusals)
    if not is_open(method, one.path):
        refusals |= {401, 403} if has_tokens else {403, 421}
    errors_by_status = {
        str(status): {
            "description": _MEANINGS[status],
            "content": {JSON: _media(_ref("Error"))},
            **({"headers": _HEADERS[status]} if status in _HEADERS else {}),
        }
        for status in sorted(refusals)
    }
    return {str(said.status): success, **errors_by_status}


def _parameter(name: str, place: str, schema: Schema) -> Schema:
    return {"name": name, "in": place, "required": place == "path", "schema": {"minLength": 1, **schema} if place == "path" else schema}


def _media(schema: Schema) -> Schema:
    """Give a schema as content has it, with its examples where tools look for them."""
    examples = schema.get("examples", ())
    named = {"examples": {f"example{number}": {"value": value} for number, value in enumerate(examples)}} if examples else {}
    return {"schema": {key: value for key, value in schema.items() if key != "examples"}, **named}


def _schemas() -> dict[str, Schema]:
    schemas: dict[str, Schema] = {"Relation": _RELATION, "Error": _error_schema()}
    for kind in (QueryStatistics, DatabaseStatistics, InsertResult):
        schema_of(kind, schemas)
    return schemas


def _error_schema() -> Schema:
    tree = [name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.StreamqError)]
    number: Schema = {"type": ["integer", "null"]}
    text: Schema = {"type": ["string", "null"]}
    return _object(
        ("sql", "line", "column", "hint", "shard"),
        **{"class": {"enum": [*tree, "ValueError"], "description": "The class of the error in the client."}},
        message={"type": "string", "minLength": 1},
        retryable={"type": "boolean", "description": "Whether the same request can succeed if it is made again."},
        sql=text,
        line=number,
        column=number,
        hint=text,
        shard=_TEXT,
    )
