"""Puts the changes of several inputs, whose columns are equal by position, into one stream. Keeps nothing."""

from __future__ import annotations

from collections.abc import Sequence

from streamq.operators.base import Delta, Epoch, OperatorContext
from streamq.operators.deltas import concatenated
from streamq.operators.stateless import Stateless
from streamq.plan.dataflow import Union


class UnionOperator(Stateless):
    """Gives the changes of all inputs, those of the first one first."""

    def __init__(self, node: Union, context: OperatorContext) -> None:
        self._schema = node.schema

    def process(self, inputs: Sequence[Delta], epoch: Epoch) -> Delta:
        return concatenated(self._schema, inputs)
