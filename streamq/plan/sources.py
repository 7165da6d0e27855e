"""The FROM clause of a block: which leaves are divided, and the stage in whose tasks they are joined."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import assert_never

from streamq.plan.draft import Draft, Rows, Spread
from streamq.plan.fragments import (
    BroadcastJoin,
    CoPartitions,
    FullyPartitionable,
    Once,
    Partitions,
    Passthrough,
    RepartitionRequired,
)
from streamq.plan.joins import Divided, Exchanged, ExchangeKey, Gathered, plan_joins
from streamq.plan.leaves import PlanQuery, attach, divide, exchange_leaf, scan_input
from streamq.plan.render import is_name, is_value, named, select
from streamq.plan.sizes import human_bytes, leaf_bytes
from streamq.sql.logical import Block, Derived, Leaf, Scan

_QUALIFIED = re.compile(r'(?:(?:"(?P<quoted_table>[^"]+)"|(?P<table>\w+))\.)?(?:"(?P<quoted>[^"]+)"|(?P<plain>\w+))\Z')


def join_leaves(draft: Draft, block: Block, plan: PlanQuery, together: frozenset[str]) -> Spread:
    """Open the stages that join the leaves, filter, and compute the block's inputs.

    `together` are inputs by which the block would like rows to be grouped; empty if it does not matter.
    """
    rows = attach(draft, _joined(draft, block, plan, together), block.input_subqueries, plan)
    if _gives_its_leaf(block):
        return rows
    # count(*) needs rows and no column of them.
    columns = named(block.inputs) or ('1 AS "row"',)
    return tuple(part.view(draft.new_name("rows"), select(columns, block.from_sql, where=block.where)) for part in rows)


def _gives_its_leaf(block: Block) -> bool:
    """Tell whether a block's inputs are its only leaf, just as it is."""
    if len(block.leaves) != 1 or block.where is not None or block.unnests:
        return False
    (leaf,) = block.leaves
    columns = list(leaf.columns or ()) if isinstance(leaf, Scan) else leaf.query.schema.names
    return all([_column_of(given.sql, columns), given.name] == [name] * 2 for given, name in zip(block.inputs, columns, strict=False)) and (
        len(block.inputs) == len(columns)
    )


def _joined(draft: Draft, block: Block, plan: PlanQuery, together: frozenset[str]) -> Spread:
    if not block.leaves:
        return (Rows(Once(), (), (), "", single=True, label="values"),)
    if draft.one_task:
        first, *others = block.leaves
        return attach(draft, divide(draft, first, plan), others, plan)
    if len(block.leaves) == 1:
        return _partitioned_scan(draft, block, together) or divide(draft, block.leaves[0], plan)
    leaves = {leaf.name: leaf for leaf in block.leaves}
    sizes = {name: leaf_bytes(leaf, draft.snapshots) for name, leaf in leaves.items()}
    choice = plan_joins(list(leaves), block.joins, sizes, draft.broadcast_bytes)
    match choice:
        case Divided(driver):
            return _broadcast(draft, leaves, sizes, driver, plan)
        case Exchanged(keys):
            return _co_partitioned(draft, leaves, keys, plan) or _exchanged(draft, leaves, sizes, keys, plan)
        case Gathered(fallback, reason):
            draft.choose(Passthrough("single"), reason, fallback)
            return attach(draft, (Rows(Once(), (), (), "", single=True, label="join"),), block.leaves, plan)
        case _:
            assert_never(choice)


def _broadcast(draft: Draft, leaves: Mapping[str, Leaf], sizes: Mapping[str, int], driver: str, plan: PlanQuery) -> Spread:
    others = [leaf for name, leaf in leaves.items() if name != driver]
    limit = human_bytes(draft.broadcast_bytes)
    for leaf in others:
        what, over = describe(leaf), describe(leaves[driver])
        draft.choose(BroadcastJoin(what), f"{what} ({human_bytes(sizes[leaf.name])} ≤ {limit}) is given whole to every task over {over}")
    rows = attach(draft, divide(draft, leaves[driver], plan), others, plan)
    return tuple(replace(part, label=f"{part.label}, join") for part in rows)


def _exchanged(
    draft: Draft, leaves: Mapping[str, Leaf], sizes: Mapping[str, int], keys: Mapping[str, ExchangeKey], plan: PlanQuery
) -> Spread:
    limit = human_bytes(draft.broadcast_bytes)
    sides = ", ".join(
        f"{describe(leaves[name])} by {', '.join(key.expressions)} ({human_bytes(sizes[name])})" for name, key in keys.items()
    )
    to = ", ".join(next(iter(keys.values())).expressions)
    large = [describe(leaves[name]) for name in keys if sizes[name] > draft.broadcast_bytes]
    why = f"more than one side is over {limit}" if len(large) > 1 else "the kind of join lets no side be given whole to every task"
    draft.choose(RepartitionRequired("round robin", to), f"hashed into {draft.partitions} partitions: {sides}; {why}")
    single = draft.partitions == 1
    rows = Rows(Once() if single else Partitions(draft.partitions), (), (), "", single, "join")
    for name, key in keys.items():
        inputs, views = exchange_leaf(draft, leaves[name], key, plan)
        rows = replace(rows, inputs=(*rows.inputs, *inputs), views=(*rows.views, *views))
    others = [leaf for name, leaf in leaves.items() if name not in keys]
    for leaf in others:
        draft.choose(
            BroadcastJoin(describe(leaf)), f"{describe(leaf)} ({human_bytes(sizes[leaf.name])} ≤ {limit}) is given whole to every task"
        )
    return attach(draft, (rows,), others, plan)


def describe(leaf: Leaf) -> str:
    """Name a leaf for people."""
    match leaf:
        case Scan():
            return leaf.relation
        case Derived():
            return f"subquery {leaf.name}"
        case _:
            assert_never(leaf)


# Relations that lie in partitions already


def _co_partitioned(draft: Draft, leaves: Mapping[str, Leaf], keys: Mapping[str, ExchangeKey], plan: PlanQuery) -> Spread:
    """Join leaves partition by partition if all of them lie partitioned by what they are joined on; else give nothing."""
    scans = [leaf for name, leaf in leaves.items() if name in keys and isinstance(leaf, Scan)]
    if len(scans) < len(keys):
        return ()
    placed = [_placement(draft, scan, keys[scan.name]) for scan in scans]
    if placed[0] is None or any(other != placed[0] for other in placed):
        return ()
    columns = draft.snapshots[scans[0].relation].partition_keys
    count = draft.snapshots[scans[0].relation].max_parallelism
    names = " and ".join(dict.fromkeys(scan.relation for scan in scans))
    draft.choose(FullyPartitionable(columns), f"{names} lie in {count} partitions by {', '.join(columns)}: each is joined on its own")
    driver = CoPartitions(tuple(scan.name for scan in scans), count)
    rows = Rows(driver, tuple(scan_input(scan) for scan in scans), (), "", single=count == 1, label="join")
    return attach(draft, (rows,), [leaf for name, leaf in leaves.items() if name not in keys], plan)


def _placement(draft: Draft, scan: Scan, key: ExchangeKey) -> tuple[object, ...] | None:
    """Say where equal keys lie: relations with the same answer are partitioned alike. None if not by the join key."""
    snapshot = draft.snapshots[scan.relation]
    places: list[object] = [snapshot.max_parallelism]
    for column in snapshot.partition_keys:
        place = next((number for number, sql in enumerate(key.expressions) if is_name(sql, column)), None)
        if place is None:
            return None
        # The routing hash is typed: only equal types are routed alike.
        places += [place, snapshot.schema.field(column).type]
    return tuple(places) if snapshot.partition_keys else None


def _partitioned_scan(draft: Draft, block: Block, together: frozenset[str]) -> Spread:
    """Read a relation partition by partition if that brings together what the block groups by; else give nothing."""
    (leaf,) = block.leaves
    if not isinstance(leaf, Scan) or not together:
        return ()
    snapshot = draft.snapshots[leaf.relation]
    inputs = {
        column: name for named_ in block.inputs if (column := _column_of(named_.sql, snapshot.schema.names)) for name in (named_.name,)
    }
    grouped = frozenset(inputs[column] for column in snapshot.partition_keys if column in inputs)
    if not grouped or len(grouped) < len(snapshot.partition_keys) or not grouped <= together or block.unnests:
        return ()
    if snapshot.max_parallelism < draft.partitions:
        return ()
    driver = CoPartitions((leaf.name,), snapshot.max_parallelism)
    return (Rows(driver, (scan_input(leaf),), (), leaf.name, snapshot.max_parallelism == 1, "scan", grouped),)


def _column_of(sql: str, columns: list[str]) -> str | None:
    """Tell which column of the only leaf an expression is. A qualifier that is itself a column would be a struct's name."""
    found = _QUALIFIED.match(sql)
    if found is None or (found["plain"] and is_value(found["plain"])):
        return None
    table, name = found["quoted_table"] or found["table"], found["quoted"] or found["plain"]
    return name if name in columns and table not in columns else None
