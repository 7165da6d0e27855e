"""Which right a request needs. What is not named here needs them all."""

from __future__ import annotations

from typing import assert_never

import anyio.to_thread

from streamq.config.tokens import Caller, Right
from streamq.server.refusals import Forbidden
from streamq.sql.parse import parse_one
from streamq.sql.recent import RecentTexts
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

MAX_TEXT = 1 << 20
"""So many characters of SQL are kept, each text with its right."""
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


class StatementRights:
    """Tells which rights statements need, by their texts, of which many come again."""

    def __init__(self) -> None:
        self._known: RecentTexts[Right] = RecentTexts(max_characters=MAX_TEXT, max_length=MAX_TEXT)

    async def of(self, sql: str) -> Right:
        """Give the right that a statement needs.

        Raises:
            SqlError: it is none.
        """
        known = self._known.get(sql)
        return known if known is not None else self._known.keep(sql, right_to_run(await anyio.to_thread.run_sync(parse_one, sql)))


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
