"""Which operator does what a node says."""

from __future__ import annotations

from streamq.operators.base import Operator, OperatorContext
from streamq.operators.map import MapOperator
from streamq.operators.union import UnionOperator
from streamq.plan.dataflow import Map, Node, Union


def instance(node: Node, context: OperatorContext) -> Operator:
    """Make the operator of a node."""
    match node:
        case Map():
            return MapOperator(node, context)
        case Union():
            return UnionOperator(node, context)
        case _:
            raise ValueError(f"{node.id}: a {type(node).__name__} has no operator")
