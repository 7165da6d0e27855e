"""How the rows of one node of a dataflow reach the instances of the next: frozen data."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keep:
    """Rows stay in the partition that made them."""


@dataclass(frozen=True, slots=True)
class Hash:
    """Rows go to the owner of their bucket: the routing hash of `columns`, typed and stable.

    With `in_place` they are there already: nothing is moved, but what is kept of them goes by these columns too.
    """

    columns: tuple[str, ...]
    in_place: bool = False


@dataclass(frozen=True, slots=True)
class Gather:
    """All rows go to partition 0."""


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Every partition gets all rows."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Rows are cut into runs, one a partition: for what is read, before anything is known of it."""


Exchange = Keep | Hash | Gather | Broadcast | Spread


@dataclass(frozen=True, slots=True)
class Edge:
    """The changes of node `node`, brought by `exchange`."""

    node: str
    exchange: Exchange
