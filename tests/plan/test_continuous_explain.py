"""EXPLAIN of continuous queries: a reader can tell what comes out, what is kept, and until when."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from streamq.plan.continuous import explain_dataflow, plan_continuous
from streamq.sql.bind import bind_query
from streamq.sql.binder import Binder
from streamq.sql.catalog import RelationInfo
from streamq.sql.parse import parse_one
from streamq.sql.statements import Select
from tests.plan.continuous_reference import Reference
from tests.plan.seeds import SEEDS, Seed

GOLDEN = Path(__file__).parent / "golden" / "continuous"
TABLES = {"device_metadata": "device_id"}
"""Relations that are tables here, and their primary keys."""
FINAL = ("E1.2", "E2.1 group by", "E3.1", "E3.2", "E3.3", "E5.3")
CASES = {f"{name} changes": f"{seed.sql} EMIT CHANGES" for name, seed in SEEDS.items() if name.startswith("E")} | {
    f"{name} final": f"{seed.sql} EMIT FINAL" for name, seed in SEEDS.items() if name.startswith(FINAL)
}


@pytest.fixture(scope="module")
def binder() -> Iterator[Binder]:
    """Share one binder."""
    binder = Binder()
    yield binder
    binder.close()


@pytest.fixture(scope="module")
def reference() -> Reference:
    """Share one interpreter."""
    return Reference()


def catalog_of(seed: Seed) -> dict[str, RelationInfo]:
    """Describe a seed's relations as sources with an event time, where they have one, and tables."""
    return {name: _relation(name, known.schema) for name, known in seed.relations.items()}


def _relation(name: str, schema: pa.Schema) -> RelationInfo:
    if name in TABLES:
        return RelationInfo(name, "table", schema, False, (TABLES[name],))
    watermark = ("event_time", "event_time - INTERVAL '5' SECOND") if "event_time" in schema.names else None
    return RelationInfo(name, "source", schema, True, (), watermark)


def text_of(name: str, binder: Binder, reference: Reference) -> str:
    """Explain a query for four partitions."""
    statement = parse_one(CASES[name])
    assert isinstance(statement, Select)
    catalog = catalog_of(SEEDS[name.rpartition(" ")[0]])
    bound = bind_query(statement, catalog, binder=binder)
    return explain_dataflow(plan_continuous(bound, catalog, partitions=4, describe=reference.describe), 4)


def file_of(name: str) -> Path:
    """Name a query's golden file."""
    return GOLDEN / f"{re.sub('[ .]', '_', name)}.txt"


@pytest.mark.parametrize("name", CASES)
def test_golden(name: str, binder: Binder, reference: Reference) -> None:
    """The text of EXPLAIN is that of the golden file, which begins with the query."""
    sql, _, explained = file_of(name).read_text(encoding="utf-8").partition("\n\n")
    assert sql == CASES[name]
    assert text_of(name, binder, reference) == explained
