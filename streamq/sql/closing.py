"""Which columns tell when a row's time window closes: from there on no row of that window comes, changes or goes.

A window closes by the watermark of the source that the row came from. What may bring rows of old windows all the same (a join with
something that changes whenever it likes, a subquery) makes the columns no bounds any more; a join with a time bound delays them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from streamq.sql.logical import Block, Derived, Join, Leaf, Query, Scan, Union, Whole, WindowColumn
from streamq.sql.text import name_sql


def window_columns(leaf: Leaf) -> dict[str, WindowColumn]:
    """Give the columns of a leaf that bound the window of its rows, by name."""
    return {} if isinstance(leaf, Scan) else _columns_of(leaf.query)


def _columns_of(query: Query) -> dict[str, WindowColumn]:
    match query:
        case Block():
            return _block_columns(query)
        case Union():
            return _common_columns([list(_columns_by_place(branch)) for branch in query.branches], query.schema.names)
        case Whole():
            return {}


def _block_columns(block: Block) -> dict[str, WindowColumn]:
    known = {name_sql(window.name): window for window in block.windows}
    if block.limit is not None or block.offset or block.output_subqueries:
        return {}  # rows move up when others go, and change when a subquery's result does
    if any(not known.keys() & set(partition) for partition in block.partition_by):
        return {}  # a later window changes the row's values
    shown = block.items[: len(block.items) - block.hidden]
    named = zip(block.schema.names, shown, strict=True)
    keys = None if block.keys is None else {key.sql for key in block.keys}
    return {name: replace(known[item.sql], name=name) for name, item in named if item.sql in known and (keys is None or item.sql in keys)}


def window_ends(leaf: Leaf) -> dict[str, WindowColumn]:
    """Give the columns of a leaf that are a window as a struct, by name, with what their field `end` says."""
    if isinstance(leaf, Scan) or not isinstance(leaf.query, Block):
        return {}
    block = leaf.query
    if block.limit is not None or block.offset or block.output_subqueries or block.partition_by:
        return {}
    keys = None if block.keys is None else {key.sql for key in block.keys}
    known = [window for window in block.windows if keys is None or name_sql(window.name) in keys]
    return {
        name: replace(window, name="end", plus_us=window.plus_us - size)
        for name, item in zip(block.schema.names, block.items, strict=False)
        for window in known
        for size, end in _ends(block, window)
        if item.sql.startswith("{'start': ") and item.sql.endswith(f", 'end': {end}}}")
    }


def _ends(block: Block, window: WindowColumn) -> Iterator[tuple[int, str]]:
    """Give how a window's end can be written: as the column itself, or as its start and the size."""
    name = name_sql(window.name)
    yield 0, name
    for item in block.items:
        before, _, size = item.sql.removesuffix(")}").rpartition(f"'end': ({name}) + TO_MICROSECONDS(")
        if before and size.isdigit():
            yield int(size), f"({name}) + TO_MICROSECONDS({size})"


def _columns_by_place(query: Query) -> Sequence[WindowColumn | None]:
    found = _columns_of(query)
    return [found.get(name) for name in query.schema.names]


def _common_columns(branches: list[list[WindowColumn | None]], names: list[str]) -> dict[str, WindowColumn]:
    """Give the columns that are bounds in every branch; the latest closing counts."""
    common: dict[str, WindowColumn] = {}
    for name, found in zip(names, zip(*branches, strict=True), strict=True):
        known = [window for window in found if window is not None]
        if len(known) == len(branches):
            last = max(known, key=lambda window: (window.kind == "session", window.plus_us))
            common[name] = replace(last, name=name, plus_us=max(window.plus_us for window in known))
    return common


def delay_us(leaves: Sequence[Leaf], joins: Sequence[Join], number: int, windows: Sequence[dict[str, WindowColumn]]) -> int | None:
    """Tell how long after a window of leaf `number` has closed rows of it may still be joined; None: for ever.

    `windows` are the bounds that each leaf has.
    """
    delay = 0
    for place, join in enumerate(joins, 1):
        if join.as_of_now or _is_constant(leaves[place]) or _same_windows(leaves, join, windows):
            if place == number and join.as_of_now:
                return None
            continue
        if join.time_bound is None:
            return None
        # A row of the left side meets rows of the right side up to `upper` later, and the other way round.
        upper, lower = join.time_bound.upper_us, join.time_bound.lower_us
        delay += max(0, upper if number < place else -lower if number == place else max(upper, -lower))
    return delay


def _same_windows(leaves: Sequence[Leaf], join: Join, windows: Sequence[dict[str, WindowColumn]]) -> bool:
    """Tell whether a join's keys have windows on both sides that close together."""
    names = [leaf.name for leaf in leaves]
    for left, left_sql, right_sql, _ in join.keys:
        one = next((w for w in windows[names.index(left)].values() if name_sql(w.name) == left_sql), None)
        other = next((w for w in windows[names.index(join.right)].values() if name_sql(w.name) == right_sql), None)
        if one is not None and other is not None and one.plus_us == other.plus_us:
            return True
    return False


def _is_constant(leaf: Leaf) -> bool:
    """Tell whether a leaf reads no relation."""
    return isinstance(leaf, Derived) and isinstance(leaf.query, Whole) and not leaf.query.leaves
