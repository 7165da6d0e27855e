"""What constants are, for tests of plans without a database."""

from __future__ import annotations

from collections.abc import Mapping

import duckdb

from streamq.plan.fragments import PhysicalPlan
from streamq.plan.pruning import PlannedScan, plan_scans
from streamq.plan.relations import RelationSnapshot


def evaluate(constant: str) -> object:
    """Compute a constant's SQL; None where it is NULL or cannot be computed."""
    try:
        return duckdb.sql(f"SELECT {constant}").fetchall()[0][0]
    except duckdb.Error:
        return None


def scans_of(plan: PhysicalPlan, snapshots: Mapping[str, RelationSnapshot]) -> dict[int, PlannedScan]:
    """Prune a plan's scans."""
    return plan_scans(plan, snapshots, evaluate)
