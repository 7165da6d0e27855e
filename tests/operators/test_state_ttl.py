"""What operators forget under a time to live, and that what comes later for it does no harm."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from streamq.kernels.evaluate import Evaluator
from streamq.operators import make
from streamq.operators.base import Delta, Epoch, Operator, OperatorContext
from streamq.plan.dataflow import Accumulate, Aggregate, Distinct, Join, Node, Recompute
from streamq.plan.exchanges import Edge, Keep

TTL = 1_600
SCHEMA = pa.schema([("k", pa.int64()), ("v", pa.int64())])
COUNTS = pa.schema([("k", pa.int64()), ("n", pa.int64())])
JOINED = pa.schema([("k", pa.int64()), ("v", pa.int64()), ("rk", pa.int64()), ("rv", pa.int64())])
LARGEST = 'SELECT k, max(v) AS n, k AS "#group1" FROM t GROUP BY k'
IN, RIGHT = Edge("in", Keep()), Edge("right", Keep())
AGGREGATE = Aggregate("a", IN, ("k",), (Accumulate("n", "count_star", None, pa.int64()),), "delta", None, COUNTS, True, TTL)
DISTINCT = Distinct("d", IN, SCHEMA, True, None, TTL)
RECOMPUTE = Recompute("r", (IN,), ("t",), (("k",),), LARGEST, COUNTS, True, grouped=True, ttl_us=(TTL,))
NODES: dict[str, Node] = {"aggregate": AGGREGATE, "distinct": DISTINCT, "recompute": RECOMPUTE}
each = pytest.mark.parametrize("node", NODES.values(), ids=NODES.keys())


def join(kind: str, *ttl_us: int | None) -> Join:
    schema = SCHEMA if kind == "semi" else JOINED
    return Join("j", IN, RIGHT, kind, ("k",), ("k",), None, schema, True, ttl_us=ttl_us)  # type: ignore[arg-type]


def operator(node: Node, evaluator: Evaluator, *, retracts: bool = True) -> Operator:
    inputs = 2 if isinstance(node, Join) else 1
    return make(node, OperatorContext((SCHEMA,) * inputs, (retracts,) * inputs, evaluator, {}))


def delta(*rows: tuple[int, int, int]) -> Delta:
    keys, values, weights = zip(*rows, strict=True) if rows else ((), (), ())
    return Delta(pa.record_batch([pa.array(keys, pa.int64()), pa.array(values, pa.int64())], schema=SCHEMA), np.array(weights, np.int64))


def at(made: Operator, now_us: int, *inputs: Delta) -> list[tuple[object, ...]]:
    """Give an epoch's changes, each row with its weight."""
    result = made.process(list(inputs), Epoch(1, now_us))
    weights = [1] * result.num_rows if result.weights is None else result.weights.tolist()
    return sorted(((*row.values(), weight) for row, weight in zip(result.rows.to_pylist(), weights, strict=True)), key=str)


@each
def test_what_nothing_touches_is_forgotten(node: Node, evaluator: Evaluator) -> None:
    """After its time, and not before, a key is gone without a change of the result; later rows of it are the first."""
    made = operator(node, evaluator)
    first = at(made, 0, delta((1, 7, 1)))
    assert at(made, TTL - 1, delta()) == []
    assert made.state_rows > 0
    assert at(made, 2 * TTL, delta()) == []
    assert made.state_rows == 0
    assert at(made, 2 * TTL, delta((1, 7, 1))) == first


@each
def test_what_is_touched_stays(node: Node, evaluator: Evaluator) -> None:
    """Each change of a key gives it its time again."""
    made = operator(node, evaluator)
    at(made, 0, delta((1, 7, 1), (2, 7, 1)))
    for step in range(1, 5):
        at(made, step * TTL * 3 // 4, delta((1, 7, 1)))
    assert made.state_rows == (2 if node is RECOMPUTE else 1)


@each
def test_withdrawals_of_what_was_forgotten_are_passed_over(node: Node, evaluator: Evaluator) -> None:
    """They find nothing, change nothing, and leave nothing."""
    made = operator(node, evaluator)
    at(made, 0, delta((1, 7, 1)))
    at(made, 3 * TTL, delta())
    assert at(made, 3 * TTL, delta((1, 7, -1))) == []
    assert made.state_rows == 0


@each
def test_what_was_restored_counts_as_touched(node: Node, evaluator: Evaluator) -> None:
    """Nothing is forgotten because nobody ran."""
    made, again = operator(node, evaluator), operator(node, evaluator)
    at(made, 0, delta((1, 7, 1)))
    again.restore(made.snapshot())
    at(again, 9 * TTL, delta())
    at(again, 10 * TTL - 1, delta())
    assert again.state_rows > 0
    at(again, 12 * TTL, delta())
    assert again.state_rows == 0


@pytest.mark.parametrize("kind", ["inner", "left", "right", "full", "semi"])
def test_a_join_forgets_keys_that_neither_side_touches(kind: str, evaluator: Evaluator) -> None:
    """A row of either side keeps those of the other; then both go, and what comes is alone."""
    made = operator(join(kind, TTL, TTL), evaluator)
    at(made, 0, delta((1, 7, 1)), delta())
    at(made, TTL - 100, delta(), delta((1, 8, 1)))
    at(made, 2 * TTL - 200, delta(), delta())
    assert made.state_rows == 2
    at(made, 4 * TTL, delta(), delta())
    assert made.state_rows == 0
    given = at(made, 4 * TTL, delta((1, 7, 1)), delta())
    assert given == ([(1, 7, None, None, 1)] if kind in ("left", "full") else [])
    assert at(made, 4 * TTL, delta(), delta((1, 8, -1))) == []


def test_rows_of_a_table_are_not_forgotten(evaluator: Evaluator) -> None:
    """The side without a time to live is there for whoever comes, however late."""
    made = operator(join("inner", TTL, None), evaluator)
    at(made, 0, delta((1, 7, 1)), delta((1, 8, 1)))
    at(made, 9 * TTL, delta(), delta())
    assert made.state_rows == 1
    assert at(made, 9 * TTL, delta((1, 9, 1)), delta()) == [(1, 9, 1, 8, 1)]
    assert at(made, 9 * TTL, delta(), delta((1, 8, -1))) == [(1, 9, 1, 8, -1)]
