"""Drives one operator through epochs, and compares what its changes add up to with a reference over all rows so far."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

from streamq import operators
from streamq.kernels.evaluate import Evaluator
from streamq.operators.base import Delta, Epoch, Operator, OperatorContext, State
from streamq.plan.dataflow import Node
from streamq.plan.exchanges import Edge, Keep

Row = tuple[Any, ...]
Change = tuple[Row, int]
Reference = Callable[..., "Counter[Row]"]

IN = Edge("in", Keep())
LEFT, RIGHT = Edge("left", Keep()), Edge("right", Keep())


def batch(schema: pa.Schema, rows: Sequence[Row]) -> pa.RecordBatch:
    """Make a batch of rows."""
    return pa.RecordBatch.from_arrays(
        [pa.array([row[place] for row in rows], kind.type) for place, kind in enumerate(schema)], schema=schema
    )


def delta(schema: pa.Schema, changes: Sequence[Change], *, retracts: bool) -> Delta:
    """Make changes: with weights where they may be withdrawals."""
    rows = batch(schema, [row for row, _ in changes])
    return Delta(rows, np.array([weight for _, weight in changes], np.int64)) if retracts else Delta(rows)


def changes(given: Delta) -> list[Change]:
    """Give changes as plain rows and weights."""
    weights = [1] * given.num_rows if given.weights is None else given.weights.tolist()
    return list(
        zip([canonical(row) for row in zip(*(column.to_pylist() for column in given.rows.columns), strict=True)], weights, strict=True)
    )


def canonical(row: Sequence[Any]) -> Row:
    """Make rows comparable: NaN is NaN, -0.0 is 0.0, lists are tuples."""
    return tuple(_value(value) for value in row)


def _value(value: Any) -> Any:
    match value:
        case float():
            return "nan" if math.isnan(value) else value + 0.0
        case list():
            return canonical(value)
        case _:
            return value


@dataclass
class Driver:
    """An operator, and what it has given so far."""

    node: Node
    evaluator: Evaluator
    schemas: Sequence[pa.Schema]
    retracts: Sequence[bool]
    parameters: dict[str, object] = field(default_factory=dict)
    partition: int = 0
    given: Counter[Row] = field(default_factory=Counter)
    number: int = 0

    def __post_init__(self) -> None:
        self.operator = self.make()

    def make(self) -> Operator:
        """Make the operator anew, with nothing in its state."""
        context = OperatorContext(tuple(self.schemas), tuple(self.retracts), self.evaluator, self.parameters, self.partition)
        return operators.make(self.node, context)

    def step(self, *inputs: Sequence[Change], horizon_us: int | None = None, ended: bool = False) -> list[Change]:
        """Run an epoch; give its changes, of which none withdraws what was not given."""
        deltas = [
            delta(schema, input, retracts=retracts) for schema, input, retracts in zip(self.schemas, inputs, self.retracts, strict=True)
        ]
        self.number += 1
        result = self.operator.process(deltas, Epoch(self.number, self.number, horizon_us, ended))
        assert result.rows.schema.names == self.node.schema.names
        assert result.rows.schema.types == self.node.schema.types
        found = changes(result)
        assert all(weight for _, weight in found)
        if not self.node.retracts:
            assert result.weights is None
        for row, weight in found:
            self.given[row] += weight
        assert min(self.given.values(), default=0) >= 0
        self.given = +self.given
        return found

    def restart(self) -> State:
        """Go on with a new operator that has taken over the state of the old one."""
        state = self.operator.snapshot()
        rows = self.operator.state_rows
        self.operator = self.make()
        self.operator.restore(state)
        assert self.operator.state_rows <= rows
        return state


@dataclass(frozen=True)
class Script:
    """Epochs of changes of one input; `restart` is the epoch before which the operator is made anew."""

    epochs: list[list[Change]]
    restart: int


def scripts(row: st.SearchStrategy[Row], *, retracts: bool = True) -> st.SearchStrategy[Script]:
    """Generate epochs in which rows are added, and withdrawn while they are there."""
    step = st.tuples(row, st.integers(0, 2) if retracts else st.just(0), st.integers(0, 1_000))
    return st.builds(_script, st.lists(st.lists(step, max_size=6), min_size=1, max_size=6), st.integers(0, 6))


def _script(steps: list[list[tuple[Row, int, int]]], restart: int) -> Script:
    present: list[Row] = []
    epochs: list[list[Change]] = []
    for epoch in steps:
        epochs.append([])
        for row, kind, pick in epoch:
            if kind == 2 and present:
                epochs[-1].append((present.pop(pick % len(present)), -1))
            else:
                present.append(row)
                epochs[-1].append((row, 1))
    return Script(epochs, restart)


def check(driver: Driver, reference: Reference, *inputs: Script) -> None:
    """Run scripts side by side; after every epoch, what was given is the reference over the rows so far."""
    present: list[Counter[Row]] = [Counter() for _ in inputs]
    for number in range(max(len(script.epochs) for script in inputs)):
        if number == inputs[0].restart:
            driver.restart()
        steps = [script.epochs[number] if number < len(script.epochs) else [] for script in inputs]
        for bag, step in zip(present, steps, strict=True):
            for row, weight in step:
                bag[row] += weight
        driver.step(*steps)
        expected = Counter({canonical(row): count for row, count in reference(*(list(bag.elements()) for bag in present)).items()})
        assert driver.given == expected, f"epoch {number}"
