"""What a catalog has: relations and views, and what is told of each."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from streamq.plan.relations import Relation, RelationKind
from streamq.sql.catalog import RelationInfo
from streamq.storage.feeds import Followers
from streamq.storage.source import PushedSource
from streamq.storage.table import KeyedTable
from streamq.storage.view import MaterializedView


@dataclass(frozen=True, slots=True)
class View:
    """A named SELECT. `reads` are the names of the relations and views in it."""

    name: str
    sql: str
    schema: pa.Schema
    reads: frozenset[str]


@dataclass(frozen=True, slots=True)
class RelationState:
    """What a relation holds. `inserted` counts rows ever inserted; None where rows come from elsewhere."""

    name: str
    kind: RelationKind
    rows: int
    bytes: int
    shards: int
    inserted: int | None
    finished: bool
    followers: Followers


Entry = Relation | View


def state_of(relation: Relation) -> RelationState:
    """Tell what a relation holds."""
    match relation:
        case PushedSource():
            return RelationState(
                relation.name,
                "source",
                relation.rows,
                relation.bytes,
                relation.shards,
                relation.inserted,
                relation.finished,
                relation.followers,
            )
        case KeyedTable():
            return RelationState(relation.name, "table", relation.rows, relation.bytes, 1, relation.inserted, False, relation.followers)
        case MaterializedView():
            ended = relation.complete
            return RelationState(relation.name, relation.kind, relation.rows, relation.bytes, 1, None, ended, relation.followers)
        case _:
            snapshot = relation.snapshot()
            return RelationState(relation.name, relation.kind, snapshot.rows, snapshot.bytes, 1, None, True, Followers())


def kind_of(entry: Entry) -> RelationKind:
    """Tell what kind of thing an entry is."""
    return "view" if isinstance(entry, View) else entry.kind


def said(entry: Entry) -> str:
    """Say for people what an entry is."""
    kind = kind_of(entry)
    return "registered relation" if kind == "registered" else kind


def needs_of(entry: Entry) -> frozenset[str]:
    """Give the names (lower case) of what an entry cannot be without."""
    match entry:
        case MaterializedView():
            return entry.needs
        case View():
            return frozenset(name.lower() for name in entry.reads)
        case _:
            return frozenset()


def info_of(entry: Entry) -> RelationInfo:
    """Give what binding needs of an entry."""
    if isinstance(entry, View):
        return RelationInfo(entry.name, "view", entry.schema, view_sql=entry.sql)
    return RelationInfo(
        entry.name,
        entry.kind,
        entry.schema,
        entry.system_columns,
        entry.primary_key,
        entry.watermark,
    )


def how_to_drop(entry: Entry) -> str:
    """Say how an entry is taken away."""
    kind = kind_of(entry)
    return "use unregister()" if kind == "registered" else f"use DROP {said(entry).upper()} {entry.name}"
