"""EXPLAIN of continuous queries."""

from streamq.plan.dataflow import Dataflow


def explain_dataflow(dataflow: Dataflow) -> str:
    """Describe a dataflow."""
    return "\n".join(repr(node) for node in dataflow.nodes)
