"""What depends on what: which views read a relation, what is read for a query, and where one would wait for the other for ever."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from streamq.storage.entries import Entry, View, needs_of
from streamq.storage.source import PushedSource
from streamq.storage.view import MaterializedView


@dataclass(frozen=True, slots=True)
class Circle:
    """A source that a query reads, itself or through views, and the view below it whose late rows go there; None: they are its own."""

    source: str
    writer: str | None


def dependents(entries: Mapping[str, Entry], name: str) -> tuple[str, ...]:
    """Give the views (lower case) that need `name`, directly or through others, each behind what it needs."""
    found: dict[str, None] = {}
    waiting = [name.lower()]
    while waiting:
        target = waiting.pop(0)
        for key, entry in entries.items():
            if target in needs_of(entry):
                found.pop(key, None)
                found[key] = None
                waiting.append(key)
    return tuple(found)


def find_circle(entries: Mapping[str, Entry], reads: Iterable[str], late_rows_into: str | None) -> Circle | None:
    """Look for a circle in which a continuous query would stand that reads `reads`, and whose late rows go into `late_rows_into`.

    Late rows wait for room in a source with a retention until who follows it has read on. All that a query follows it reads at one
    cut, so it does not read on while the view that the rows are late for is behind. A source without a retention, and a table, takes
    whatever comes: nobody waits there.
    """
    below = _below(entries, reads)
    writers = [(entry.name, entry.late_rows_into) for entry in below.values() if isinstance(entry, MaterializedView)]
    for writer, target in ((None, late_rows_into), *writers):
        source = None if target is None else below.get(target.lower())
        if isinstance(source, PushedSource) and source.retains:
            return Circle(source.name, writer)
    return None


def _below(entries: Mapping[str, Entry], names: Iterable[str]) -> dict[str, Entry]:
    """Give what is read for `names`: what has them, and what views among that read."""
    found: dict[str, Entry] = {}
    waiting = [name.lower() for name in names]
    while waiting:
        name = waiting.pop()
        entry = None if name in found else entries.get(name)
        if entry is not None:
            found[name] = entry
            waiting += [read.lower() for read in entry.reads] if isinstance(entry, View | MaterializedView) else []
    return found
