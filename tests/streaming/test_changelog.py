"""Batches of changes, and what becomes of them when they are folded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import streamq
from streamq.operators.base import Delta
from streamq.plan.dataflow import Changelog, Dataflow
from streamq.sql.logical import Continuous
from streamq.streaming.changelog import ChangeWriter

SCHEMA = pa.schema([("k", pa.string()), ("n", pa.int64())])
Row = tuple[Any, Any]


def writer(form: Changelog, key: tuple[str, ...] | None = None, *, ready: bool = False, batch_rows: int = 100) -> ChangeWriter:
    return ChangeWriter(Dataflow((), "", SCHEMA, key, form, ready, Continuous("changes")), batch_rows)


def delta(*rows: tuple[Any, Any, int]) -> Delta:
    columns = [pa.array([row[place] for row in rows], field.type) for place, field in enumerate(SCHEMA)]
    return Delta(pa.RecordBatch.from_arrays(columns, schema=SCHEMA), np.array([row[2] for row in rows], np.int64))


def written(changes: ChangeWriter, *deltas: Delta) -> list[tuple[Any, ...]]:
    changes.add(deltas)
    return [tuple(row.values()) for batch in changes.write() for row in batch.to_pylist()]


def test_append_gives_rows_as_often_as_they_were_added() -> None:
    """An append changelog has no extra column, and copies written out."""
    assert writer("append").schema == SCHEMA
    assert written(writer("append"), delta(("a", 1, 2), ("b", 2, 1))) == [("a", 1), ("a", 1), ("b", 2)]


def test_retract_gives_deletes_first() -> None:
    """Deletes, then inserts, one for every copy."""
    rows = written(writer("retract"), delta(("a", 1, 1), ("b", 2, -2)))
    assert rows == [("b", 2, "delete"), ("b", 2, "delete"), ("a", 1, "insert")]


@pytest.mark.parametrize("form", ["retract", "upsert"])
def test_what_came_and_went_does_not_show(form: Changelog) -> None:
    """Changes are net over all partitions."""
    key = ("k",) if form == "upsert" else None
    assert written(writer(form, key), delta(("a", 1, 1)), delta(("a", 1, -1))) == []


def test_upsert_gives_one_row_a_key() -> None:
    """The old row of a key that is gone, the new one of a key that changed or came."""
    rows = written(writer("upsert", ("k",)), delta(("a", 1, -1), ("a", 2, 1), ("b", 1, -1)), delta((None, 1, 1)))
    assert rows == [("b", 1, "delete"), ("a", 2, "update"), (None, 1, "insert")]


def test_a_row_without_key_is_updated() -> None:
    """With the key () there is one row."""
    assert written(writer("upsert", ()), delta(("a", 1, -1), ("a", 2, 1))) == [("a", 2, "update")]


def test_ready_changes_only_get_their_order() -> None:
    """Where the last operator names the changes itself, deletes still come first."""
    changes = writer("upsert", ("k",), ready=True)
    rows = pa.RecordBatch.from_arrays([pa.array(["a", "b"]), pa.array([1, 2]), pa.array(["insert", "delete"])], schema=changes.schema)
    assert written(changes, Delta(rows)) == [("b", 2, "delete"), ("a", 1, "insert")]


def test_batches_are_bounded() -> None:
    """No batch has more rows than asked for."""
    changes = writer("append", batch_rows=2)
    changes.add([delta(("a", 1, 5))])
    assert [batch.num_rows for batch in changes.write()] == [2, 2, 1]


def test_small_parts_of_an_append_changelog_share_a_batch() -> None:
    """What partitions give comes in their order: small parts together, large ones as they are."""
    changes = writer("append", batch_rows=4)
    changes.add([delta(("a", 1, 1)), delta(("b", 1, 1)), delta(("c", 1, 1), ("d", 1, 2)), delta(("e", 1, 1))])
    assert [batch.column("k").to_pylist() for batch in changes.write()] == [["a", "b"], ["c", "d", "d"], ["e"]]


def test_epochs_that_wait_are_made_net_together() -> None:
    """Changes of several epochs that are emitted together are one net change; waiting does not keep what was taken back."""
    changes = writer("upsert", ("k",), batch_rows=10)
    for number in range(500):
        changes.add([delta(("a", number, -1), ("a", number + 1, 1))])
        assert changes.waiting_rows <= 40
    assert [row for batch in changes.write() for row in batch.to_pylist()] == [{"k": "a", "n": 500, "_op": "update"}]
    assert changes.write() == []


def test_a_batch_without_rows_has_the_schema() -> None:
    """For readers that want to see every epoch."""
    assert writer("upsert", ("k",)).empty().schema == pa.schema([*SCHEMA, pa.field("_op", pa.string(), nullable=False)])


def fold(table: pa.Table, rows: Sequence[tuple[Any, ...]], key: Sequence[str] | None) -> list[Row]:
    schema = pa.schema([*SCHEMA, ("_op", pa.string())])
    columns = [pa.array([row[place] for row in rows], field.type) for place, field in enumerate(schema)]
    folded = streamq.apply_changes(table, pa.RecordBatch.from_arrays(columns, schema=schema), key=key)
    return [tuple(row.values()) for row in folded.to_pylist()]


START = pa.table([pa.array(["a", "b", None]), pa.array([1, 2, 3])], schema=SCHEMA)


def test_folding_by_key() -> None:
    """A row replaces or removes the one of its key; several changes of a key follow each other."""
    rows = fold(START, [("a", 1, "delete"), (None, 9, "update"), ("c", 1, "insert"), ("c", 1, "delete"), ("a", 5, "insert")], ("k",))
    assert sorted(rows, key=repr) == [("a", 5), ("b", 2), (None, 9)]


def test_folding_one_row() -> None:
    """The key () means that there is at most one row."""
    assert fold(START.slice(0, 1), [("b", 7, "update")], ()) == [("b", 7)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("a", 4, "insert"), "insert of a row that is there already: {'k': 'a'}"),
        (("x", 4, "update"), "update of a row that is not there: {'k': 'x'}"),
        (("x", 4, "delete"), "delete of a row that is not there: {'k': 'x'}"),
        (("a", 4, "replace"), "_op is 'replace'"),
    ],
)
def test_changes_that_do_not_follow_the_table_are_refused(change: tuple[Any, ...], message: str) -> None:
    """A conflict says which row."""
    with pytest.raises(ValueError, match=message):
        fold(START, [change], ("k",))


def test_a_delete_without_key_removes_one_row() -> None:
    """Of equal rows, one goes."""
    table = pa.concat_tables([START, START])
    assert Counter(fold(table, [("a", 1, "delete"), ("b", 2, "insert")], None)) == Counter({("a", 1): 1, ("b", 2): 3, (None, 3): 2})


def test_a_delete_without_key_of_a_row_that_is_not_there_is_refused() -> None:
    """Without a key the whole row must be there."""
    with pytest.raises(ValueError, match=r"not there: \{'k': 'a', 'n': 9\}"):
        fold(START, [("a", 9, "delete")], None)


def test_rows_without_op_are_added() -> None:
    """Changes of an append query only add."""
    assert streamq.apply_changes(START, START.to_batches()[0], key=None).num_rows == 6


Counts = dict[Row, int]
states = st.dictionaries(st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 2)), st.integers(1, 3))


@given(states, states)
def test_a_written_change_folds_from_one_bag_to_another(before: Counts, after: Counts) -> None:
    """Whatever changed, the changes of form retract lead from the old rows to the new ones."""
    changed = [(*row, after.get(row, 0) - before.get(row, 0)) for row in {**before, **after}]
    table = pa.Table.from_batches([b for b in _batches(before)], schema=SCHEMA)
    rows = written(writer("retract"), *([delta(*changed)] if changed else []))
    assert Counter(fold(table, rows, None)) == Counter(after)


maps = st.dictionaries(st.sampled_from(["a", "b", None]), st.integers(0, 2))


@given(maps, maps)
def test_a_written_change_folds_by_key(before: dict[Any, int], after: dict[Any, int]) -> None:
    """Whatever changed, the changes of form upsert lead from the old rows to the new ones."""
    changed = [(key, n, -1) for key, n in before.items()] + [(key, n, 1) for key, n in after.items()]
    table = pa.Table.from_batches(_batches({row: 1 for row in before.items()}), schema=SCHEMA)
    rows = written(writer("upsert", ("k",)), *([delta(*changed)] if changed else []))
    assert dict(fold(table, rows, ("k",))) == after


def _batches(bag: Counts) -> list[pa.RecordBatch]:
    rows = list(Counter(bag).elements())
    columns = [pa.array([row[place] for row in rows], field.type) for place, field in enumerate(SCHEMA)]
    return [pa.RecordBatch.from_arrays(columns, schema=SCHEMA)]
