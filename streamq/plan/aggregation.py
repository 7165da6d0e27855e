"""Aggregation of a block: in one phase where whole groups are together, else in two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from streamq.plan.draft import Draft, Spread, is_single, labelled, together
from streamq.plan.fragments import FullyPartitionable, TwoPhaseAggregation
from streamq.plan.render import is_name, named, plain, quote
from streamq.sql.logical import Block, Call, Mean, Named


def aggregate(draft: Draft, block: Block, rows: Spread, window_keys: frozenset[str]) -> Spread:
    """Aggregate rows that have the block's inputs into rows that have its keys and calls.

    `window_keys` are names that all later window functions partition by: groups that are exchanged go by those if they can.
    """
    keys = block.keys or ()
    renamed = _renamed(block)
    if not is_single(rows) and keys and together(rows, frozenset(renamed)):
        by = tuple(plain(name) for name in sorted(rows[0].grouped or ()))
        draft.choose(FullyPartitionable(by), f"the rows are already partitioned by {', '.join(by)}: every task has whole groups")
    elif not is_single(rows):
        if all(call.partial for call in block.calls):
            return _two_phases(draft, block, rows)
        return _exchanged(draft, block, rows, window_keys)
    return tuple(replace(part, grouped=_after(part.grouped, renamed)) for part in _one_phase(draft, block, rows))


def _renamed(block: Block) -> dict[str, str]:
    """Say which inputs are group keys just as they are, and the keys' names."""
    return {column.name: key.name for key in block.keys or () for column in block.inputs if is_name(key.sql, column.name)}


def _after(grouped: frozenset[str] | None, renamed: dict[str, str]) -> frozenset[str] | None:
    if grouped is None or not grouped <= renamed.keys():
        return None
    return frozenset(renamed[name] for name in grouped)


def _one_phase(draft: Draft, block: Block, rows: Spread) -> Spread:
    keys = block.keys or ()
    calls = [Named(call.sql, call.name) for call in block.calls]
    return labelled(draft.step(rows, "groups", _columns([*keys, *calls]), group_by=len(keys)), "aggregate")


def _columns(columns: Sequence[Named]) -> tuple[str, ...]:
    # An aggregation must name something, even where only the existence of its row matters.
    return named(columns) or ('count(*) AS "rows"',)


def _two_phases(draft: Draft, block: Block, rows: Spread) -> Spread:
    keys = block.keys or ()
    parts = [part for call in block.calls for part in call.partial]
    partial = labelled(draft.step(rows, "partial", _columns([*keys, *parts]), group_by=len(keys)), "partial aggregate")
    names = tuple(quote(key.name) for key in keys)
    if keys and draft.final_partitions > 1:
        together_by = frozenset(key.name for key in keys)
        draft.choose(TwoPhaseAggregation(), f"every aggregate has partial results; they are merged in {draft.final_partitions} partitions")
        merged = draft.exchange(partial, names, together_by, "exchange", "merge aggregate", count=draft.final_partitions)
    else:
        draft.choose(TwoPhaseAggregation(), "every aggregate has partial results: tasks keep theirs, and one task merges them")
        merged = draft.cut(partial, "keep", "merge aggregate")
    means = [mean for call in block.calls for mean in call.means]
    if means:
        merged = draft.step(merged, "means", ("*", *(_mean(mean, names) for mean in means)))
    plain_keys = [Named(name, key.name) for name, key in zip(names, keys, strict=True)]
    finals = [Named(call.final, call.name) for call in block.calls]
    return draft.step(merged, "groups", _columns([*plain_keys, *finals]), group_by=len(keys))


def _mean(mean: Mean, keys: Sequence[str]) -> str:
    group = f"PARTITION BY {', '.join(keys)}" if keys else ""
    weight = f"({mean.weight})"
    return f"sum({weight} * ({mean.value})) OVER ({group}) / sum({weight}) OVER ({group}) AS {quote(mean.name)}"


def _exchanged(draft: Draft, block: Block, rows: Spread, window_keys: frozenset[str]) -> Spread:
    """Bring whole groups together, then aggregate them in one phase."""
    keys = block.keys or ()
    why = f"{_whole_call(block.calls).sql} needs every row of a group at once"
    if not keys:
        draft.choose(TwoPhaseAggregation(), f"{why}: tasks filter and project, and one task aggregates", fallback="not_decomposable")
        return _one_phase(draft, block, draft.cut(rows, "keep", "aggregate"))
    by = [key for key in keys if key.name in window_keys] or list(keys)
    names = tuple(plain(key.name) for key in by)
    draft.choose(FullyPartitionable(names), f"{why}: rows are hashed by {', '.join(names)} into {draft.partitions} partitions")
    # What was hashed are the keys' values, so that equal groups meet whatever the inputs were.
    exchanged = draft.exchange(rows, [key.sql for key in by], frozenset(), "exchange", "aggregate")
    grouped = frozenset(key.name for key in by)
    return tuple(replace(part, grouped=grouped) for part in _one_phase(draft, block, exchanged))


def _whole_call(calls: Sequence[Call]) -> Call:
    return next(call for call in calls if not call.partial)
