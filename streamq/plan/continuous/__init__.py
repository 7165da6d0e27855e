"""Continuous queries: from a bound query to a dataflow of incremental operators, and that as text."""

from streamq.plan.continuous.build import plan_continuous
from streamq.plan.continuous.explain import explain_dataflow

__all__ = ["explain_dataflow", "plan_continuous"]
