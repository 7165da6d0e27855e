"""Cuts: several relations at one place in the order of writes, materialized views among them once they have come there."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial

from streamq.errors import StreamqError
from streamq.plan.relations import Relation, RelationSnapshot
from streamq.storage.barriers import Reached
from streamq.storage.commits import Commits
from streamq.storage.versions import TableVersion
from streamq.storage.view import MaterializedView


class Cut:
    """A cut of several relations, by name. It is taken when it is made; views that are not there yet stop there, and are waited for.

    With `max_staleness_s`, a view that has all writes from longer ago is taken as it is: maybe at an earlier place than the others.
    """

    def __init__(
        self,
        relations: Mapping[str, Relation],
        commits: Commits,
        max_staleness_s: float | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._snapshots: dict[str, RelationSnapshot] = {}
        self._failure: StreamqError | None = None
        self._notify: Callable[[], None] | None = None
        self._names = tuple(relations)
        with commits.cut() as now:
            place = Reached(now, clock_s())
            for name, relation in relations.items():
                if not isinstance(relation, MaterializedView) or _is_fresh(relation, place, max_staleness_s):
                    self._snapshots[name] = relation.snapshot()
                else:
                    relation.request(place, partial(self._arrived, name, relation))

    @property
    def ready(self) -> bool:
        """Every relation is there, or one never will be."""
        return self._failure is not None or len(self._snapshots) == len(self._names)

    def wake(self, notify: Callable[[], None] | None) -> None:
        """Call `notify()`, from any thread, when the cut becomes ready; None stops that."""
        self._notify = notify

    def snapshots(self) -> Mapping[str, RelationSnapshot]:
        """Give the relations' snapshots, with their rows where these have to be read out. The cut is ready.

        Raises:
            StreamqError: a materialized view has failed or was dropped.
            ResourceLimit: a table does not fit into memory as Arrow.
        """
        assert self.ready
        if self._failure is not None:
            raise self._failure
        for snapshot in self._snapshots.values():
            if isinstance(snapshot, TableVersion):
                snapshot.read_out()
        return {name: self._snapshots[name] for name in self._names}

    def _arrived(self, name: str, view: MaterializedView) -> None:
        """Take the view's rows while it is at the cut. The view calls this under the commit lock."""
        try:
            self._snapshots[name] = view.snapshot()
        except StreamqError as error:
            self._failure = error
        if self.ready and (notify := self._notify) is not None:
            notify()


def _is_fresh(view: MaterializedView, now: Reached, max_staleness_s: float | None) -> bool:
    return max_staleness_s is not None and view.reached.at_s >= now.at_s - max_staleness_s
