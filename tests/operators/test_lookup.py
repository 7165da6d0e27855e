"""Lookup: rows joined with a relation as it is when they come."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamq.kernels.evaluate import Evaluator
from streamq.plan.dataflow import Lookup
from streamq.sql.logical import JoinKind

from .driver import LEFT, RIGHT, Driver, Row, Script, scripts

LEFT_SCHEMA = pa.schema([("l.k", pa.string()), ("l.x", pa.int64())])
RIGHT_SCHEMA = pa.schema([("r.k", pa.string()), ("r.y", pa.int64())])
ROWS = st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 3))
RESIDUAL = 'SELECT "#pair" FROM "in" WHERE "l.x" <= "r.y"'


def lookup(kind: JoinKind, residual: str | None = None) -> Lookup:
    """Make a lookup by k."""
    fields = [*LEFT_SCHEMA, *([] if kind in ("semi", "anti") else RIGHT_SCHEMA)]
    return Lookup("lookup", LEFT, RIGHT, kind, ("l.k",), ("r.k",), residual, pa.schema(fields), retracts=False)


def looked_up(node: Lookup, left: list[Row], right: list[Row]) -> Counter[Row]:
    """Compare every row with every other."""
    result: list[Row] = []
    for one in left:
        found = [other for other in right if one[0] == other[0] is not None and (node.residual is None or one[1] <= other[1])]
        match node.kind:
            case "inner":
                result += [(*one, *other) for other in found]
            case "left":
                result += [(*one, *other) for other in found] or [(*one, None, None)]
            case _:
                result += [one] if bool(found) == (node.kind == "semi") else []
    return Counter(result)


@pytest.mark.parametrize("kind", ["inner", "left", "semi", "anti"])
@given(scripts(ROWS, retracts=False), scripts(ROWS), st.sampled_from([None, RESIDUAL]))
def test_kinds(evaluator: Evaluator, kind: JoinKind, left: Script, right: Script, residual: str | None) -> None:
    """Each row sees the right side with the changes of its own epoch, and none of later ones."""
    node = lookup(kind, residual)
    driver = Driver(node, evaluator, [LEFT_SCHEMA, RIGHT_SCHEMA], [False, True])
    present: Counter[Row] = Counter()
    expected: Counter[Row] = Counter()
    for number in range(max(len(left.epochs), len(right.epochs))):
        if number == left.restart:
            driver.restart()
        steps = [script.epochs[number] if number < len(script.epochs) else [] for script in (left, right)]
        for row, weight in steps[1]:
            present[row] += weight
        expected += looked_up(node, [row for row, _ in steps[0]], list(present.elements()))
        driver.step(*steps)
        assert driver.given == expected


def test_later_changes_change_nothing(evaluator: Evaluator) -> None:
    """What was looked up stays as it was."""
    driver = Driver(lookup("left"), evaluator, [LEFT_SCHEMA, RIGHT_SCHEMA], [False, True])
    assert driver.step([(("a", 1), 1)], [(("a", 7), 1)]) == [(("a", 1, "a", 7), 1)]
    assert driver.step([], [(("a", 7), -1), (("a", 8), 1)]) == []
    assert driver.step([(("a", 2), 1), (("b", 2), 1)], []) == [(("a", 2, "a", 8), 1), (("b", 2, None, None), 1)]


def test_without_keys(evaluator: Evaluator) -> None:
    """Without keys a row meets all rows of the right side."""
    driver = Driver(replace(lookup("inner"), left_keys=(), right_keys=()), evaluator, [LEFT_SCHEMA, RIGHT_SCHEMA], [False, True])
    assert len(driver.step([((None, 1), 1)], [(("a", 7), 1), ((None, 8), 2)])) == 3
