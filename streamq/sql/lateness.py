"""Late rows: which rows of a source come too late for a time window or a time bound, and where they are dropped.

A time is judged where it is the watermark column of a source (or registered relation), possibly handed through plain queries that name it
bare. Each row carries the watermark that stood before it, `_watermark`; what lies `lateness` behind that is dropped. Whole rows are
dropped where the relation is read. A hopping window may lose some of a row's windows only: then `_watermark` is handed up to where
the windows are, and they are dropped there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa
from sqlglot import exp

from streamq.errors import BindError
from streamq.sql.catalog import WATERMARK, RelationInfo, watermark_type
from streamq.sql.logical import Block, Derived, Leaf, Named, Query, Scan, Union
from streamq.sql.text import column, name_sql, sql_of, unique_names
from streamq.sql.window_bounds import Timed, end_of_window, first_end

if TYPE_CHECKING:
    from streamq.sql.lower import Lowering


def is_event_time(low: Lowering, leaf: Leaf, name: str) -> bool:
    """Tell whether a column of a leaf is the watermark column of the sources that its rows come from."""
    match leaf:
        case Scan():
            return _is_watermarked(low.catalog[leaf.relation], name)
        case Derived():
            found = list(_origins(leaf.query, name))
            return bool(found) and all(origin is not None and is_event_time(low, *origin) for origin in found)


def drop_late_rows(low: Lowering, leaf: Leaf, name: str, timed: Timed) -> Leaf:
    """Give a leaf, whose column `name` is an event time, without the rows that are late for what `timed` says.

    Of hopping windows, only rows that are late for all of them go.
    """
    match leaf:
        case Scan():
            return Derived(leaf.name, drop_in_block(low, _block_over(low, leaf), name, timed))
        case Derived():
            return replace(leaf, query=_drop(low, leaf.query, name, timed))


def _drop(low: Lowering, query: Query, name: str, timed: Timed) -> Query:
    match query:
        case Block():
            number, inner = _origin(query, query.schema.names.index(name))
            if isinstance(query.leaves[number], Scan) and len(query.leaves) == 1:
                return drop_in_block(low, query, inner, timed)
            leaf = drop_late_rows(low, query.leaves[number], inner, timed)
            return replace(query, leaves=(*query.leaves[:number], leaf, *query.leaves[number + 1 :]))
        case Union():
            place = query.schema.names.index(name)
            return replace(query, branches=tuple(_drop(low, branch, branch.schema.names[place], timed) for branch in query.branches))
        case _:
            raise AssertionError("rows of SQL that runs whole have no event time")


def drop_in_block(low: Lowering, block: Block, name: str, timed: Timed, *, windows: bool = False) -> Block:
    """Drop late rows of the one scan of a block, and say which they are. Hopping windows are dropped where it has them (`windows`)."""
    (scan,), (alias,) = block.leaves, block.aliases
    assert isinstance(scan, Scan)
    if timed.kind != "hop" or windows:
        block = replace(block, where=_and(block.where, keep_sql(low, timed, column(name, alias), alias)))
    return replace(block, leaves=(read_watermark(low, scan),), late=late_of(low, scan, block.late, name, timed))


def read_watermark(low: Lowering, scan: Scan) -> Scan:
    """Let a scan read `_watermark` too, and every user column where late rows are kept."""
    relation = low.catalog[scan.relation]
    if any(name.lower() == WATERMARK for name in relation.schema.names):
        raise BindError(f"the column {WATERMARK} of {relation.name} hides its watermark", hint="give the column another name")
    wanted = set(scan.columns if scan.columns is not None else relation.schema.names)
    if low.continuous is not None and low.continuous.late_rows_into is not None:
        wanted |= set(relation.schema.names)
    low.late_relations.add(scan.relation)
    system = [name for name in scan.columns or () if name not in relation.schema.names and name != WATERMARK]
    columns = tuple(name for name in relation.schema.names if name in wanted)
    return replace(scan, columns=(*columns, *system, WATERMARK))


def late_of(low: Lowering, scan: Scan, known: str | None, name: str, timed: Timed) -> str:
    """Write which rows of a scan are late, over its bare columns: one of their windows has closed. `known` are others that are."""
    time = column(name)
    if timed.kind in ("tumble", "hop"):
        late = f"{sql_of(first_end(timed, time))} <= {_horizon(low, None)}"
    else:
        late = f"{sql_of(time)} < {_horizon(low, None)}"
    if scan.filter is not None:
        late = f"({scan.filter}) AND {late}"
    return late if known is None else f"({known}) OR ({late})"


def keep_sql(low: Lowering, timed: Timed, time: exp.Expression, alias: str, watermark: str = WATERMARK) -> str:
    """Write the condition that a row (for hopping windows: a row's window) is not late."""
    if timed.kind in ("tumble", "hop"):
        in_time = f"{sql_of(end_of_window(timed, time))} > {_horizon(low, alias, watermark)}"
    else:
        in_time = f"{sql_of(time)} >= {_horizon(low, alias, watermark)}"
    return f"coalesce({in_time}, true)"


def windows_horizon(low: Lowering, leaf: Leaf) -> str:
    """Write what those hopping windows do not end after that a row is late for, over the bare columns of a leaf made to tell it."""
    return _horizon(low, None, WATERMARK if isinstance(leaf, Scan) else leaf.query.schema.names[-1])


def _horizon(low: Lowering, alias: str | None, watermark: str = WATERMARK) -> str:
    lateness = low.continuous.lateness_us if low.continuous is not None else 0
    name = sql_of(column(watermark, alias))
    return f"{name} - to_microseconds({lateness})" if lateness else name


# Handing the watermark up


def hand_up_watermark(low: Lowering, leaf: Leaf, name: str) -> tuple[Leaf, str]:
    """Give a leaf that has the watermark of its column `name` as a column, and what that is called."""
    match leaf:
        case Scan():
            return read_watermark(low, leaf), WATERMARK
        case Derived():
            query = _hand_up(low, leaf.query, name)
            return replace(leaf, query=query), query.schema.names[-1]


def _hand_up(low: Lowering, query: Query, name: str) -> Query:
    place = query.schema.names.index(name)
    match query:
        case Block():
            number, inner = _origin(query, place)
            leaf, watermark = hand_up_watermark(low, query.leaves[number], inner)
            given = column(watermark, query.aliases[number])
            handed = unique_names([*(item.name for item in (*query.inputs, *query.items)), WATERMARK])[-1]
            shown = len(query.items) - query.hidden
            items = (*query.items[:shown], Named(name_sql(handed), handed), *query.items[shown:])
            return replace(
                query,
                leaves=(*query.leaves[:number], leaf, *query.leaves[number + 1 :]),
                inputs=(*query.inputs, Named(sql_of(given), handed)),
                items=items,
                schema=_with_watermark(query.schema, handed, place),
            )
        case Union():
            branches = tuple(_hand_up(low, branch, branch.schema.names[place]) for branch in query.branches)
            handed = unique_names([*query.schema.names, WATERMARK])[-1]
            return replace(query, branches=branches, schema=_with_watermark(query.schema, handed, place))
        case _:
            raise AssertionError("rows of SQL that runs whole have no event time")


def _with_watermark(schema: pa.Schema, name: str, time: int) -> pa.Schema:
    return schema.append(pa.field(name, watermark_type(schema.field(time).type)))


# Where a time comes from


def _is_watermarked(relation: RelationInfo, name: str) -> bool:
    return relation.kind in ("source", "registered") and relation.watermark is not None and relation.watermark[0].lower() == name.lower()


def _block_over(low: Lowering, scan: Scan) -> Block:
    """Make a block of its own of a scan, with the same columns."""
    relation = low.catalog[scan.relation]
    inner = replace(scan, name=low.leaf_name(relation.name))
    assert scan.columns is not None
    typed = low.scan_schema(scan)
    inputs = tuple(Named(sql_of(column(name, relation.name)), name) for name in scan.columns)
    return Block(
        leaves=(inner,), joins=(), from_sql=f"{name_sql(inner.name)} AS {name_sql(relation.name)}", where=None, inputs=inputs, keys=None,
        calls=(), having=None, items=tuple(Named(name_sql(name), name) for name in scan.columns), hidden=0, partition_by=(), qualify=None,
        distinct=False, order=(), limit=None, offset=0, schema=typed, aliases=(relation.name,),
    )  # fmt: skip


def is_plain(block: Block) -> bool:
    """Tell whether a block gives each of its rows for itself: it neither groups nor compares nor counts them."""
    grouped = block.keys is not None or block.distinct or block.limit is not None or block.offset
    return not (grouped or block.partition_by or block.qualify is not None)


def _origins(query: Query, name: str) -> Iterator[tuple[Leaf, str] | None]:
    """Give the leaves' columns that a column of a query is, one a branch; None where it is none."""
    match query:
        case Block() if is_plain(query):
            found = _origin_of(query, query.schema.names.index(name))
            yield None if found is None else (query.leaves[found[0]], found[1])
        case Union():
            place = query.schema.names.index(name)
            for branch in query.branches:
                yield from _origins(branch, branch.schema.names[place])
        case _:
            yield None


def _origin(block: Block, place: int) -> tuple[int, str]:
    found = _origin_of(block, place)
    assert found is not None
    return found


def _origin_of(block: Block, place: int) -> tuple[int, str] | None:
    """Find the leaf, and the column of it, that a result column of a block is, where it is one bare."""
    item = block.items[place]
    read = next((given.sql for given in block.inputs if name_sql(given.name) == item.sql), None)
    for number, (leaf, alias) in enumerate(zip(block.leaves, block.aliases, strict=False)):
        names = (leaf.columns or ()) if isinstance(leaf, Scan) else leaf.query.schema.names
        for name in names:
            if read == sql_of(column(name, alias)):
                return number, name
    return None


def _and(condition: str | None, other: str) -> str:
    return other if condition is None else f"({condition}) AND {other}"
