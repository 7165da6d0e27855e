"""Which operator does what a node says."""

from __future__ import annotations

from typing import assert_never

from streamq.operators.aggregate import AggregateOperator
from streamq.operators.base import Operator, OperatorContext
from streamq.operators.distinct import DistinctOperator
from streamq.operators.first import FirstOperator
from streamq.operators.hold import HoldOperator
from streamq.operators.hop import HopOperator
from streamq.operators.join import JoinOperator
from streamq.operators.lookup import LookupOperator
from streamq.operators.map import MapOperator
from streamq.operators.recompute import recompute_operator
from streamq.operators.sessions import SessionsOperator
from streamq.operators.sided import SidedOperator
from streamq.operators.top_n import TopNOperator
from streamq.operators.union import UnionOperator
from streamq.plan.dataflow import (
    Aggregate,
    Distinct,
    First,
    Hold,
    Hop,
    Join,
    Lookup,
    Map,
    Node,
    Read,
    Recompute,
    Sessions,
    Sided,
    TopN,
    Union,
)


def instance(node: Node, context: OperatorContext) -> Operator:
    """Make the operator of a node."""
    match node:
        case Read():
            raise ValueError(f"{node.id}: what is read comes from a feed, not from an operator")
        case Map():
            return MapOperator(node, context)
        case Union():
            return UnionOperator(node, context)
        case Sided():
            return SidedOperator(node, context)
        case Aggregate():
            return AggregateOperator(node, context)
        case Hop():
            return HopOperator(node, context)
        case Recompute():
            return recompute_operator(node, context)
        case Distinct():
            return DistinctOperator(node, context)
        case Join():
            return JoinOperator(node, context)
        case Lookup():
            return LookupOperator(node, context)
        case TopN():
            return TopNOperator(node, context)
        case First():
            return FirstOperator(node, context)
        case Sessions():
            return SessionsOperator(node, context)
        case Hold():
            return HoldOperator(node, context)
        case _:
            assert_never(node)
