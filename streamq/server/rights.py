"""Which right a request needs. What is not named here needs them all."""

from __future__ import annotations

from typing import assert_never

from streamq.config.tokens import Caller, Right
from streamq.server.refusals import Forbidden
from streamq.sql.statements import (
    CreateSink,
    CreateSource,
    CreateTable,
    CreateView,
    Delete,
    Describe,
    Drop,
    Explain,
    Insert,
    Select,
    Show,
    Statement,
    Update,
)

_OPEN = frozenset({"/", "/healthz", "/readyz", "/openapi.json"})
_OPEN_BELOW = "/console/"
_SAFE = frozenset({"GET", "HEAD"})


def check_right(caller: Caller, needed: Right) -> None:
    """Check that a caller has a right.

    Raises:
        Forbidden: it has not.
    """
    if not caller.may(needed):
        raise Forbidden(f"this needs the right {needed}: the token {caller.name!r} has the right {caller.right}")


def is_open(method: str, path: str) -> bool:
    """Tell whether anybody may ask for this: whether the service lives, the files of the console, which have no data in them.

    >>> is_open("GET", "/healthz"), is_open("POST", "/healthz"), is_open("GET", "/metrics")
    (True, False, False)
    """
    return method in _SAFE and (path in _OPEN or path.startswith(_OPEN_BELOW))


def right_for(method: str, path: str) -> Right:
    """Give the right that a request needs at least; of those with SQL, the statement decides the rest.

    >>> right_for("POST", "/v1/query"), right_for("POST", "/v1/relations/clicks/rows"), right_for("DELETE", "/v1/relations/clicks")
    ('read', 'write', 'admin')
    """
    match method, path:
        case ("GET" | "HEAD", _) | ("POST", "/v1/query" | "/v1/execute" | "/v1/explain"):
            return "read"
        case ("POST" | "PUT", _) if path.startswith("/v1/relations/"):
            return "write"
        case ("DELETE", _) if path.startswith("/v1/queries/"):
            # Of others' queries none is found, but by those who may do anything.
            return "read"
        case _:
            return "admin"


def right_to_run(statement: Statement) -> Right:
    """Give the right that a statement needs."""
    match statement:
        case Select(late_rows_into=None) | Show() | Describe() | Explain(analyze=False):
            return "read"
        case Explain(query=query):
            return right_to_run(query)
        case Select() | Insert() | Update() | Delete():
            # Late rows are written too.
            return "write"
        case CreateSource() | CreateTable() | CreateView() | CreateSink() | Drop():
            return "admin"
        case other:
            assert_never(other)
