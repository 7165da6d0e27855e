"""The result that is folded from changes, and what of it is shown."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from streamq.cli.folded import Folded, sorting
from streamq.sql.order import OutputTerm

TOTALS = pa.schema([("shop", pa.string()), ("total", pa.int64()), ("_op", pa.string())])
ROWS = pa.schema([("shop", pa.string()), ("total", pa.int64())])


def changes(*rows: tuple[Any, ...], schema: pa.Schema = TOTALS) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([dict(zip(schema.names, row, strict=True)) for row in rows], schema)


def shown(folded: Folded, limit: int | None = None) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in folded.excerpt(limit).rows.to_pylist()]


def test_changes_by_key_are_shown_in_the_order_of_the_query() -> None:
    """A top-n is read from its top."""
    folded = Folded(TOTALS, "upsert", ("shop",), (OutputTerm("total", True),), tail_rows=10)
    folded.add(changes(("a", 5, "insert"), ("b", 7, "insert"), ("c", 1, "insert")), complete=True)
    folded.add(changes(("c", 1, "delete"), ("a", 9, "update")), complete=True)
    assert shown(folded) == [("a", 9), ("b", 7)]
    assert (shown(folded, 1), folded.excerpt(1).more, folded.excerpt(1).total) == ([("a", 9)], True, 2)


def test_without_an_order_rows_stay_in_their_places() -> None:
    """They are sorted by the key, or by all columns where there is none."""
    by_key = Folded(TOTALS, "upsert", ("shop",), tail_rows=10)
    by_key.add(changes(("b", 1, "insert"), ("a", 2, "insert")), complete=True)
    assert shown(by_key) == [("a", 2), ("b", 1)]
    bag = Folded(TOTALS, "retract", None, tail_rows=10)
    bag.add(changes(("b", 1, "insert"), ("a", 2, "insert"), ("a", 1, "insert"), ("a", 1, "insert")), complete=True)
    bag.add(changes(("a", 1, "delete")), complete=True)
    assert shown(bag) == [("a", 1), ("a", 2), ("b", 1)]


def test_half_an_epoch_is_not_shown() -> None:
    """Between the batches of an epoch there is no answer."""
    folded = Folded(TOTALS, "upsert", ("shop",), tail_rows=10)
    folded.add(changes(("a", 1, "insert")), complete=False)
    assert (shown(folded), folded.epochs) == ([], 0)
    folded.add(changes(("b", 2, "insert")), complete=True)
    assert (shown(folded), folded.epochs) == ([("a", 1), ("b", 2)], 1)


def test_a_result_that_only_grows_keeps_its_last_rows() -> None:
    """However long it goes on; all of them are counted."""
    folded = Folded(ROWS, "append", None, tail_rows=3)
    for number in range(5):
        folded.add(changes((str(number), number), schema=ROWS), complete=True)
    assert shown(folded) == [("2", 2), ("3", 3), ("4", 4)]
    excerpt = folded.excerpt(2)
    assert (excerpt.rows.num_rows, excerpt.more, excerpt.total, excerpt.last) == (2, True, 5, True)


@pytest.mark.parametrize(
    ("order", "key", "expected"),
    [
        ((OutputTerm(1, True),), None, (("total", "descending"), ("shop", "ascending"))),
        ((OutputTerm(7, True), OutputTerm("other", False)), ("shop",), (("shop", "ascending"),)),
        ((), (), ()),
    ],
)
def test_sorting(order: tuple[OutputTerm, ...], key: tuple[str, ...] | None, expected: tuple[tuple[str, str], ...]) -> None:
    """By the terms that are columns of the result, then by what tells rows apart."""
    assert sorting(ROWS, order, key) == expected
