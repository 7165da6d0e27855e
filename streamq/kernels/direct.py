"""SQL that Arrow's own functions compute, without a call of DuckDB: it takes a fraction of the time, above all for few rows.

DuckDB parses the text; what comes out is followed only as far as both are known to give the same to the last bit: columns, the
comparisons, logic and NULL tests below, and arithmetic of doubles, in SELECTs without anything else that read each other. None of
these can fail on a row. Everything that is not named here is left to DuckDB.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from threading import Lock
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

MOST_KNOWN = 256
"""So many queries are remembered: one takes a few kilobytes."""
Json = Any
"""A part of the parsed text: what it is is seen by matching it."""
_COMPARISONS: Mapping[str, Callable[..., pa.Array]] = {
    "COMPARE_EQUAL": pc.equal,
    "COMPARE_NOTEQUAL": pc.not_equal,
    "COMPARE_LESSTHAN": pc.less,
    "COMPARE_LESSTHANOREQUALTO": pc.less_equal,
    "COMPARE_GREATERTHAN": pc.greater,
    "COMPARE_GREATERTHANOREQUALTO": pc.greater_equal,
}
_LOGIC: Mapping[str, Callable[..., pa.Array]] = {"CONJUNCTION_AND": pc.and_kleene, "CONJUNCTION_OR": pc.or_kleene}
_ARITHMETIC: Mapping[str, Callable[..., pa.Array]] = {"+": pc.add, "-": pc.subtract, "*": pc.multiply}
_KEPT = frozenset({
    pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(),
    pa.float32(), pa.float64(), pa.string(), pa.binary(), pa.date32(), pa.time64("us"), pa.time64("ns"),
    pa.timestamp("s"), pa.timestamp("ms"), pa.timestamp("us"), pa.timestamp("ns"), pa.timestamp("us", "UTC"), pa.timestamp("ns", "UTC"),
})  # fmt: skip
"""Types without parts whose columns DuckDB gives as they came."""
_PLAIN_CALL: Json = {
    "schema": "", "filter": None, "order_bys": {"type": "ORDER_MODIFIER", "orders": []}, "distinct": False, "is_operator": True,
    "export_state": False, "catalog": "",
}  # fmt: skip
_PLAIN_SELECT: Json = {
    "type": "SELECT_NODE", "modifiers": [], "group_expressions": [], "group_sets": [], "aggregate_handling": "STANDARD_HANDLING",
    "having": None, "sample": None, "qualify": None,
}  # fmt: skip
_PLAIN_TABLE: Json = {
    "type": "BASE_TABLE",
    "sample": None,
    "schema_name": "",
    "column_name_alias": [],
    "catalog_name": "",
    "at_clause": None,
}
_PLAIN_CTE: Json = {"aliases": [], "materialized": "CTE_MATERIALIZE_DEFAULT", "key_targets": [], "payload_aggregates": []}
_PLAIN_STAR: Json = {
    "class": "STAR", "type": "STAR", "relation_name": "", "exclude_list": [], "replace_list": [], "columns": False, "expr": None,
    "qualified_exclude_list": [], "rename_list": [],
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Value:
    """What an expression gives for rows of the input, of which it needs the columns `reads`."""

    type: pa.DataType
    of: Callable[[pa.RecordBatch], pa.Array]
    reads: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Rows:
    """What a SELECT gives: named values of those rows of the input for which all conditions are true."""

    columns: tuple[tuple[str, _Value], ...]
    conditions: tuple[_Value, ...] = ()


_Asked = tuple[str, tuple[tuple[str, pa.Schema], ...]]


class _NotDirect(Exception):
    """DuckDB must compute it."""


class Direct:
    """A query over one table, row by row, made by `direct`. May be used from several threads."""

    def __init__(self, rows: _Rows) -> None:
        self._schema = pa.schema([(name, value.type) for name, value in rows.columns])
        self._reads = sorted(frozenset().union(*(value.reads for _, value in rows.columns)))
        self._rows = rows

    def __call__(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Give the result's rows, in the input's order."""
        if self._rows.conditions:
            kept = reduce(pc.and_kleene, [condition.of(rows) for condition in self._rows.conditions])
            rows = rows.select(self._reads).filter(kept)
        return pa.RecordBatch.from_arrays([value.of(rows) for _, value in self._rows.columns], schema=self._schema)


class DirectQueries:
    """The queries that were found to need no DuckDB, for whoever asks for the same again. May be used from several threads."""

    def __init__(self) -> None:
        self._known: dict[_Asked, Direct] = {}
        self._lock = Lock()

    def get(self, sql: str, inputs: Mapping[str, pa.Schema]) -> Direct | None:
        """Give what computes a query, if that is known."""
        with self._lock:
            return self._known.get((sql, tuple(inputs.items())))

    def keep(self, sql: str, inputs: Mapping[str, pa.Schema], found: Direct) -> None:
        """Remember what computes a query."""
        with self._lock:
            self._known[sql, tuple(inputs.items())] = found
            while len(self._known) > MOST_KNOWN:
                del self._known[next(iter(self._known))]


def direct(connection: duckdb.DuckDBPyConnection, sql: str, inputs: Mapping[str, pa.Schema]) -> Direct | None:
    """Give what computes a query that DuckDB has accepted without it; None where there is no such way."""
    if len(inputs) != 1:
        return None
    ((table, schema),) = inputs.items()
    if not all(map(_is_kept, schema.types)):
        return None
    ((text,),) = connection.execute("SELECT json_serialize_sql($1)", [sql]).fetchall()
    parsed = json.loads(text, object_hook=_without_places)
    columns = tuple((field.name, _column(field.name, field.type)) for field in schema)
    try:
        match parsed:
            case {"error": False, "statements": [{"node": {"cte_map": {"map": ctes}, **select}, "named_param_map": []}]}:
                tables = {table.casefold(): _Rows(columns)}
                for cte in ctes:
                    tables[cte["key"].casefold()] = _cte(cte["value"], tables)
                return Direct(_select(select, tables))
    except _NotDirect:
        pass
    return None


def _is_kept(kind: pa.DataType) -> bool:
    """Tell whether columns of a type leave DuckDB as they came: of others, such as dictionaries, it makes another one."""
    if types.is_struct(kind):
        return all(_is_kept(field.type) for field in kind)
    if types.is_list(kind) or types.is_fixed_size_list(kind):
        return _is_kept(kind.value_type)
    if types.is_map(kind):
        return _is_kept(kind.key_type) and _is_kept(kind.item_type)
    return kind in _KEPT or types.is_decimal128(kind)


def _without_places(node: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in node.items() if not key.startswith("query_location")}


# SELECTs


def _cte(cte: Json, tables: Mapping[str, _Rows]) -> _Rows:
    match cte:
        case {"query_node": {"cte_map": {"map": []}, **select}, **rest} if rest == _PLAIN_CTE:
            return _select(select, tables)
    raise _NotDirect


def _select(select: Json, tables: Mapping[str, _Rows]) -> _Rows:
    match select:
        case {"select_list": [*items], "from_table": {**source}, "where_clause": where, **rest} if rest == _PLAIN_SELECT:
            scope = _Scope(*_table(source, tables))
            conditions = scope.rows.conditions if where is None else (*scope.rows.conditions, scope.condition(where))
            columns = tuple(column for item in items for column in scope.item(item))
            if len({name.casefold() for name, _ in columns}) == len(columns):  # else DuckDB names some of them anew
                return _Rows(columns, conditions)
    raise _NotDirect


def _table(source: Json, tables: Mapping[str, _Rows]) -> tuple[_Rows, str]:
    match source:
        case {"table_name": str(table), "alias": str(alias), "qualified_name": {"path": [str(path)]}, **rest}:
            if rest == _PLAIN_TABLE and table == path and table.casefold() in tables:
                return tables[table.casefold()], alias or table
    raise _NotDirect


# Expressions


@dataclass(frozen=True, slots=True)
class _Scope:
    """The rows that a SELECT reads, as the table `name`."""

    rows: _Rows
    name: str

    def item(self, node: Json) -> Sequence[tuple[str, _Value]]:
        """Give the columns that an item of a SELECT list makes."""
        match node:
            case {"alias": "", **rest} if rest == _PLAIN_STAR:
                return self.rows.columns
            case {"alias": "", "class": "COLUMN_REF", "column_names": [*names]}:
                return [self.column(names)]
            case {"alias": str(alias)} if alias:
                return [(alias, self.value(node))]
        raise _NotDirect

    def condition(self, node: Json) -> _Value:
        value = self.value(node)
        if not types.is_boolean(value.type):
            raise _NotDirect
        return value

    def value(self, node: Json) -> _Value:
        """Follow an expression. Its alias does not matter inside of another one."""
        match {key: value for key, value in node.items() if key != "alias"}:
            case {"class": "COLUMN_REF", "type": "COLUMN_REF", "column_names": [*names], **rest} if not rest:
                return self.column(names)[1]
            case {"class": "COMPARISON", "type": str(kind), "left": left, "right": right, **rest} if not rest and kind in _COMPARISONS:
                return _applied(_COMPARISONS[kind], pa.bool_(), *self.comparable(left, right))
            case {"class": "CONJUNCTION", "type": str(kind), "children": [*children], **rest} if not rest and kind in _LOGIC:
                return reduce(lambda a, b: _applied(_LOGIC[kind], pa.bool_(), a, b), map(self.condition, children))
            case {"class": "OPERATOR", "type": "OPERATOR_NOT", "children": [child], **rest} if not rest:
                return _applied(pc.invert, pa.bool_(), self.condition(child))
            case {"class": "OPERATOR", "type": "OPERATOR_IS_NULL", "children": [child], **rest} if not rest:
                return _applied(pc.is_null, pa.bool_(), self.value(child))
            case {"class": "OPERATOR", "type": "OPERATOR_IS_NOT_NULL", "children": [child], **rest} if not rest:
                return _applied(pc.is_valid, pa.bool_(), self.value(child))
            case {"class": "OPERATOR", "type": "OPERATOR_COALESCE", "children": [child, last], **rest} if not rest and _literal(last) == (
                "BOOLEAN",
                "true",
            ):
                return _applied(_or_true, pa.bool_(), self.condition(child))
            case {"class": "FUNCTION", "type": "FUNCTION", "function_name": str(name), "arguments": [a, b], "qualified_name": path, **rest}:
                if rest == _PLAIN_CALL and name in _ARITHMETIC and path == {"path": [name]}:
                    return _applied(_ARITHMETIC[name], pa.float64(), *self.doubles(a, b))
        raise _NotDirect

    def column(self, names: Sequence[str]) -> tuple[str, _Value]:
        """Find a column, maybe with its table in front; a struct's field is none."""
        found = [(name, value) for name, value in self.rows.columns if name.casefold() == names[-1].casefold()]
        tables = [name.casefold() for name in names[:-1]]
        hidden = any(name.casefold() in tables for name, _ in self.rows.columns)
        if len(found) != 1 or tables not in ([], [self.name.casefold()]) or hidden:
            raise _NotDirect
        return found[0]

    def comparable(self, left: Json, right: Json) -> tuple[_Value, _Value]:
        """Give the sides of a comparison, of one type whose order is the same everywhere: not floats, for NaN's sake."""
        if left["class"] == "CONSTANT":
            raise _NotDirect
        a = self.value(left)
        b = _constant(right, a.type) if right["class"] == "CONSTANT" else self.value(right)
        if a.type != b.type or not (_is_ordered(a.type) or types.is_boolean(a.type)):
            raise _NotDirect
        return a, b

    def doubles(self, *arguments: Json) -> list[_Value]:
        """Give the arguments of arithmetic as doubles, as at least one of them is; the others are integers."""
        values = []
        for argument in arguments:
            match argument:
                case {"name": "", "expression": {**node}, **rest} if not rest and node["class"] != "CONSTANT":
                    values.append(self.value(node))
                case _:
                    raise _NotDirect
        if not any(types.is_float64(value.type) for value in values):
            raise _NotDirect
        return [_double(value) for value in values]


def _column(name: str, kind: pa.DataType) -> _Value:
    return _Value(kind, lambda rows: rows.column(name), frozenset((name,)))


def _applied(function: Callable[..., pa.Array], kind: pa.DataType, *arguments: _Value) -> _Value:
    reads = frozenset[str]().union(*(argument.reads for argument in arguments))
    return _Value(kind, lambda rows: function(*(argument.of(rows) for argument in arguments)), reads)


def _double(value: _Value) -> _Value:
    if types.is_float64(value.type):
        return value
    # All these integers are doubles, so nothing is rounded.
    if not types.is_integer(value.type) or value.type.bit_width > 32:
        raise _NotDirect
    return _applied(_as_double, pa.float64(), value)


def _as_double(array: pa.Array) -> pa.Array:
    return array.cast(pa.float64())


def _or_true(array: pa.Array) -> pa.Array:
    return pc.fill_null(array, True)


def _is_ordered(kind: pa.DataType) -> bool:
    return bool(types.is_integer(kind) or types.is_string(kind) or types.is_timestamp(kind) or types.is_date32(kind))


def _literal(node: Json) -> tuple[str, str] | None:
    match node:
        case {"class": "CONSTANT", "type": "VALUE_CONSTANT", "literal": {"kind": str(kind), "text": str(text)}}:
            return kind, text
    return None


def _constant(node: Json, kind: pa.DataType) -> _Value:
    """Give a literal that is compared with a column of a type, if the type has its value: else the column would be cast."""
    match _literal(node):
        case "INTEGER", text if types.is_integer(kind) and text.removeprefix("-").isdecimal() and int(text) in _integers(kind):
            scalar = pa.scalar(int(text), kind)
        case "STRING", text if types.is_string(kind):
            scalar = pa.scalar(text, kind)
        case _:
            raise _NotDirect
    return _Value(kind, lambda rows: scalar)


def _integers(kind: pa.DataType) -> range:
    """Give the values of an integer type."""
    if types.is_unsigned_integer(kind):
        return range(2**kind.bit_width)
    return range(-(2 ** (kind.bit_width - 1)), 2 ** (kind.bit_width - 1))
