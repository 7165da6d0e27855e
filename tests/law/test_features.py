"""Every construct of DuckDB's SELECT does what `features.txt` says: the table is the documentation, this is its proof."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import duckdb
import pytest

import streamq
from tests.law.engine import Engine, Executor, Run
from tests.law.law import Query, connect_oracle, differences
from tests.law.relations import fixed
from tests.law.seeds import rows_from

Promise = Literal["exact", "loose", "error"]
T = """
    SELECT id, k, g, x::DOUBLE AS x, b, ts, d, m::DECIMAL(12,2) AS m, l::INTEGER[] AS l, {'a': k, 'b': g} AS s FROM (VALUES
        (1, 1, 'a', 0.5, true, TIMESTAMP '2024-01-01 00:00:00', DATE '2024-01-01', 1.25, [1, 2, NULL]),
        (2, 1, 'b', -0.25, false, TIMESTAMP '2024-01-01 00:09:59', DATE '2024-01-01', NULL, []),
        (3, 2, 'a', NULL, true, TIMESTAMP '2024-01-01 00:10:00', DATE '2024-01-02', 0.10, NULL),
        (4, 3, 'B', 'NaN'::DOUBLE, NULL, TIMESTAMP '2023-12-31 23:59:59.999999', NULL, -3.00, [3]),
        (5, NULL, 'a', 4.0, false, NULL, DATE '2024-01-01', 7.75, [1, 1]),
        (6, 3, NULL, 0.5, true, TIMESTAMP '2024-01-01 01:00:00', DATE '2024-03-01', 2.00, [2]),
        (7, NULL, '12', 1.0, true, TIMESTAMP '2024-01-01 01:00:00', DATE '2024-03-01', 2.00, [5, 6])
    ) AS v(id, k, g, x, b, ts, d, m, l)"""
U = "SELECT * FROM (VALUES (1, 1, 'a', 10), (2, 1, 'c', 20), (3, 3, 'A', NULL), (4, NULL, 'b', 40), (5, 9, NULL, 50)) AS v(id, k, g, n)"
ORDER_BY = re.compile(r"\bORDER BY (?P<terms>[^()]+)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Feature:
    """A line of the table. `oracle` is how DuckDB spells the example, where it lacks the syntax."""

    construct: str
    promise: Promise
    sql: str
    oracle: str


def read_features() -> Iterator[Feature]:
    """Read the table."""
    for line in (Path(__file__).parent / "features.txt").read_text("utf-8").splitlines():
        if line and not line.startswith("#"):
            construct, promise, example = re.split(r" \| ", line, maxsplit=2)
            sql, _, oracle = example.partition(" ~ ")
            yield Feature(construct, _promise(promise), sql, oracle or sql)


def _promise(text: str) -> Promise:
    match text:
        case "exact" | "loose" | "error":
            return text
    raise ValueError(f"not a promise: {text}")


FEATURES = list(read_features())
every_feature = pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.construct)


@pytest.fixture(scope="module")
def executor(anyio_backend: tuple[str, dict[str, Any]], engine: Engine) -> Iterator[Executor]:
    """An executor whose database holds `t` and `u`: one for each backend, since SQL does not see the difference between these."""
    chosen: Executor = "thread" if anyio_backend[0] == "asyncio" else "process"
    relations = [fixed("t", rows_from(T), "parquet", row_group=2), fixed("u", rows_from(U), "chunks")]
    with engine.holding(relations, chosen):
        yield chosen


@every_feature
def test_feature_does_what_the_table_says(engine: Engine, executor: Executor, feature: Feature) -> None:
    """An `exact` or `loose` construct answers as DuckDB does, which has it; an `error` is raised before anything runs."""
    run = Run(executor, partitions=3)
    match feature.promise:
        case "error":
            with pytest.raises((streamq.SqlError, streamq.DataError)) as raised:
                engine.answer(feature.sql, run)
            assert str(raised.value)
        case "exact" | "loose":
            with connect_oracle({"t": rows_from(T), "u": rows_from(U)}) as oracle:
                assert differences(engine.answer(feature.sql, run), _query(feature, oracle), oracle) == []


def test_constructs_have_different_names() -> None:
    """Each construct has one line."""
    names = [feature.construct for feature in FEATURES]
    assert len(names) == len(set(names))


def _query(feature: Feature, oracle: duckdb.DuckDBPyConnection) -> Query:
    columns = oracle.sql(feature.oracle).columns
    ordered = ORDER_BY.search(feature.sql)
    names = re.findall(r"[a-z]+", re.sub(r"\b(LIMIT|OFFSET|FETCH)\b.*", "", ordered["terms"])) if ordered else []
    order = tuple(columns.index(name) for name in names if name in columns)
    loose = feature.sql.split(" LIMIT ")[0].split(" USING ")[0] if feature.promise == "loose" else None
    return Query(feature.sql, order, unlimited=loose, oracle=feature.oracle)
