"""Queries that come again and again: parsed once, and bound once for parameters of the same types.

What is kept is a bound query: what the text means over the relations that exist, whatever rows they have. How it is run is planned anew
each time. A text that was bound over other relations, or for parameters that it depends on in another way, is bound again.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from threading import Lock

from streamq.sql.bind import bind_form
from streamq.sql.binder import Binder
from streamq.sql.catalog import CatalogView
from streamq.sql.logical import BoundQuery
from streamq.sql.parameters import Given, parameter_form
from streamq.sql.parse import parse_select
from streamq.sql.recent import RecentTexts
from streamq.sql.statements import Parameters, Select

MAX_TEXT = 64 << 10
"""So many characters of SQL are kept. A query that is parsed and bound takes hundreds of times the memory of its text."""
MAX_QUERY = 8 << 10
MAX_FORMS = 8
"""A query is kept for so many types of parameters, and values where these count."""
MAX_KEY = 1 << 10
"""So many characters are kept of types and values, of one time."""

_SIMPLE = frozenset({type(None), bool, int, float, str, bytes, Decimal, date, datetime, time, timedelta})
_Key = tuple[str, ...]


class PreparedSelect:
    """A parsed query. Its text may be bound from several threads."""

    def __init__(self, select: Select) -> None:
        self.select = select
        self._form = parameter_form(select)
        self._catalog: CatalogView | None = None
        self._bound: OrderedDict[_Key, BoundQuery] = OrderedDict()
        self._by_value: frozenset[str] = frozenset()
        self._lock = Lock()

    def bind(self, catalog: CatalogView, parameters: Parameters, binder: Binder) -> BoundQuery:
        """Bind the query as `bind_query` does, or give what it was bound to. Each state of the catalog is to be an object of its own.

        Raises:
            SqlError: it cannot be run as written.
        """
        given = self._form.take(parameters)
        known = self._known(catalog, given)
        if known is not None:
            return replace(known, parameters=given.values)
        bound = bind_form(self._form, catalog, given, binder=binder)
        self._keep(catalog, given, bound)
        return bound

    def _known(self, catalog: CatalogView, given: Given) -> BoundQuery | None:
        with self._lock:
            if self._catalog is not catalog:
                self._catalog, self._by_value = catalog, frozenset()
                self._bound.clear()
            key = _key(given, self._by_value)
            if key is None or key not in self._bound:
                return None
            self._bound.move_to_end(key)
            return self._bound[key]

    def _keep(self, catalog: CatalogView, given: Given, bound: BoundQuery) -> None:
        with self._lock:
            if self._catalog is not catalog or bound.by_value is None:
                return
            # Of what was kept before, that which now lacks a value in its key is not found any more, and makes room in time.
            self._by_value |= bound.by_value
            key = _key(given, self._by_value)
            if key is not None:
                # Not the values of this time, which may be large.
                self._bound[key] = replace(bound, parameters=())
            while len(self._bound) > MAX_FORMS:
                self._bound.popitem(last=False)


class PreparedSelects:
    """The queries that came last. May be used from several threads."""

    def __init__(self) -> None:
        self._queries: RecentTexts[PreparedSelect] = RecentTexts(max_characters=MAX_TEXT, max_length=MAX_QUERY)

    def get(self, sql: str) -> PreparedSelect:
        """Parse the text of one query, or give it parsed.

        Raises:
            SqlError: as `parse_select`, and where its parameters are of several kinds.
        """
        known = self._queries.get(sql)
        return known if known is not None else self._queries.keep(sql, PreparedSelect(parse_select(sql)))


def _key(given: Given, by_value: frozenset[str]) -> _Key | None:
    """Give what a bound query depends on, besides the relations; None if that cannot be told, or not in a few words."""
    key: list[str] = []
    for name, value in given.values:
        said = (None if name in by_value else _type_of(value)) or _written(value)
        if said is None:
            return None
        key.append(said)
    return tuple(key) if sum(map(len, key)) <= MAX_KEY else None


def _type_of(value: object) -> str | None:
    """Name the type that DuckDB gives a value, of those types that do not depend on more than a few properties of it."""
    match value:
        case _ if type(value) not in _SIMPLE:
            return None
        case None | bool() | float() | str():
            return type(value).__name__
        case int():
            size = (value if value >= 0 else ~value).bit_length()
            return "integer" if size < 32 else "bigint" if size < 64 else None
        case datetime():
            return "timestamp" if value.tzinfo is None else "timestamptz"
        case date():
            return "date"
        case _:
            return None


def _written(value: object) -> str | None:
    """Write a value so that no other one is written like it; None for what has parts, or is too large to be written."""
    match value:
        case _ if type(value) not in _SIMPLE:
            return None
        case str() | bytes() if len(value) > MAX_KEY:
            return None
        case int() if value.bit_length() > 128:
            return None
        case datetime() | time():
            text = value.isoformat()  # two time zones may call themselves the same
        case _:
            text = repr(value)
    return f"{type(value).__name__}: {text}"
