"""Incremental operators: changes in, changes of the result out. One operator a file, made from plan nodes by `make`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamq.operators.base import Operator, OperatorContext
    from streamq.plan.dataflow import Node


def make(node: Node, context: OperatorContext) -> Operator:
    """Make the operator that does what `node` says, with nothing in its state.

    Raises:
        QueryError: DuckDB does not accept the node's SQL.
    """
    from streamq.operators.instances import instance  # operators bring the compiled kernels, which those who only name a `Delta` do without

    return instance(node, context)
