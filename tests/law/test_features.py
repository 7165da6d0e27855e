"""Every construct of DuckDB's SELECT does what `features.txt` says: the table is the documentation, this is its proof."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal

import duckdb
import pytest

import streamq
from tests.law.continuous import Collector, Follower, Reading, Story, Way, Write, follow, for_following
from tests.law.engine import Engine, Executor, Run
from tests.law.law import Query, connect_oracle, differences
from tests.law.relations import Column, fixed
from tests.law.seeds import rows_from

pytestmark = pytest.mark.by_turns
Promise = Literal["exact", "loose", "error", "-"]
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
P = "SELECT * FROM (VALUES (1, 'one'), (2, 'two')) AS v(id, v)"
ORDER_BY = re.compile(r"\bORDER BY (?P<terms>[^()]+)$", re.IGNORECASE)
CHOOSES = re.compile(r"\b(LIMIT|OFFSET|FETCH|DISTINCT ON)\b")
FINAL = ("EMIT FINAL", "EMIT ON WINDOW CLOSE")


def _story() -> Story:
    """Write a table, and rows of two sources by turns; the query starts in between."""
    t = fixed("t", rows_from(T), "source")
    t = replace(t, columns=(Column("id", "big"), Column("ts", "ts")), watermark="ts - INTERVAL '1' DAY")
    u, p = fixed("u", rows_from(U), "source", pieces=2), fixed("p", rows_from(P), "table", pieces=1)
    writes = [Write(relation.name, piece) for relation in (p, t, u) for piece in relation.pieces]
    return Story((t, u, p), tuple(writes[place] for place in (0, 1, 4, 2, 5, 3)), before=3)


STORY = _story()


@dataclass(frozen=True, slots=True)
class Feature:
    """A line of the table: what a snapshot and a continuous query do with a construct, and what is said where one fails.

    `oracle` is how DuckDB spells the example, where it lacks the syntax.
    """

    construct: str
    snapshot: Promise
    continuous: Promise
    sql: str
    oracle: str
    says: tuple[str, ...]


def read_features() -> Iterator[Feature]:
    """Read the table."""
    lines = (Path(__file__).parent / "features.txt").read_text("utf-8").splitlines()
    for number, line in enumerate(lines):
        if line and not line.startswith(("#", " ")):
            construct, snapshot, continuous, example = re.split(r" \| ", line, maxsplit=3)
            sql, _, oracle = example.partition(" ~ ")
            says = tuple(text.strip() for text in takewhile(lambda text: text.startswith(" "), lines[number + 1 :]))
            yield Feature(construct, _promise(snapshot), _promise(continuous), sql, oracle or sql, says)


def _promise(text: str) -> Promise:
    match text:
        case "exact" | "loose" | "error" | "-":
            return text
    raise ValueError(f"not a promise: {text}")


FEATURES = list(read_features())


SNAPSHOT = [feature for feature in FEATURES if feature.snapshot != "-"]
CONTINUOUS = [feature for feature in FEATURES if feature.continuous != "-"]
AT_ONCE = [CONTINUOUS[first : first + 12] for first in range(0, len(CONTINUOUS), 12)]


@pytest.fixture(scope="module")
def oracle() -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB that has all rows of the relations."""
    with connect_oracle({"t": rows_from(T), "u": rows_from(U), "p": rows_from(P)}) as oracle:
        yield oracle


@pytest.fixture(scope="module")
def executor(anyio_backend: tuple[str, dict[str, Any]], engine: Engine) -> Iterator[Executor]:
    """An executor whose database holds `t` and `u`: one for each backend, since SQL does not see the difference between these."""
    chosen: Executor = "thread" if anyio_backend[0] == "asyncio" else "process"
    relations = [fixed("t", rows_from(T), "parquet", row_group=2), fixed("u", rows_from(U), "chunks"), fixed("p", rows_from(P), "arrow")]
    with engine.holding(relations, chosen):
        yield chosen


@pytest.fixture(scope="module")
def written(executor: Executor) -> Executor:
    """The executor whose database has no relations: tests write their own there."""
    return "process" if executor == "thread" else "thread"


@pytest.mark.parametrize("feature", SNAPSHOT, ids=lambda feature: feature.construct)
def test_snapshot_does_what_the_table_says(engine: Engine, executor: Executor, feature: Feature, oracle: duckdb.DuckDBPyConnection) -> None:
    """An `exact` or `loose` construct answers as DuckDB does, which has it; an `error` says what the table does."""
    run = Run(executor, partitions=3)
    match feature.snapshot:
        case "error":
            with pytest.raises((streamq.SqlError, streamq.DataError)) as raised:
                engine.answer(feature.sql, run)
            _check_words(feature, raised.value)
        case _:
            assert differences(engine.answer(feature.sql, run), _query(feature, oracle), oracle) == []


@pytest.mark.parametrize("features", AT_ONCE, ids=lambda features: features[0].construct)
def test_continuous_queries_do_what_the_table_says(
    engine: Engine, written: Executor, features: Sequence[Feature], oracle: duckdb.DuckDBPyConnection
) -> None:
    """After every epoch of three rows the changes fold to DuckDB's answer over what was read; an `error` says what the table does.

    Neighbours in the table follow one story at once: relations cost more than queries over them.
    """
    db, way = engine.databases[written], Way(written, partitions=3, epoch_rows=3)
    with engine.holding(STORY.relations, written, empty=True):
        errors = engine.call(follow, db, STORY, *(_reading(db, feature, way, oracle) for feature in features))
    wrong = {feature.construct: _wrong(feature, error) for feature, error in zip(features, errors, strict=True)}
    assert not any(wrong.values()), {construct: what for construct, what in wrong.items() if what}


def _reading(db: streamq.Database, feature: Feature, way: Way, oracle: duckdb.DuckDBPyConnection) -> Reading:
    query = Query(feature.sql) if feature.continuous == "error" else _query(feature, oracle)
    if query.sql.endswith(FINAL):
        return lambda past: Collector(db, query, past, way)
    followed = query if CHOOSES.search(query.sql) else for_following(query)
    return lambda past: Follower(db, followed, past, way)


def _wrong(feature: Feature, error: Exception | None) -> str | None:
    """Say what the table does not."""
    if feature.continuous == "error":
        if not isinstance(error, streamq.SqlError | streamq.DataError):
            return f"not refused, but {error!r}"
        return None if feature.says and all(words in str(error) for words in feature.says) else str(error)
    return None if error is None else repr(error)


def _check_words(feature: Feature, error: Exception) -> None:
    assert feature.says
    assert [words for words in feature.says if words not in str(error)] == [], str(error)


def test_constructs_that_fail_say_what_to_write() -> None:
    """Nothing that a snapshot query answers is refused in a continuous one without a word on what to write instead."""
    refused = [feature for feature in FEATURES if feature.continuous == "error" and feature.snapshot in ("exact", "loose")]
    assert refused
    assert [feature.construct for feature in refused if len(feature.says) < 2] == []


def test_constructs_have_different_names() -> None:
    """Each construct has one line."""
    names = [feature.construct for feature in FEATURES]
    assert len(names) == len(set(names))


def _query(feature: Feature, oracle: duckdb.DuckDBPyConnection) -> Query:
    columns = oracle.sql(feature.oracle).columns
    ordered = ORDER_BY.search(feature.sql)
    names = re.findall(r"[a-z]+", re.sub(r"\b(LIMIT|OFFSET|FETCH)\b.*", "", ordered["terms"])) if ordered else []
    order = tuple(columns.index(name) for name in names if name in columns)
    loose = feature.sql.split(" LIMIT ")[0].split(" USING ")[0] if feature.snapshot == "loose" else None
    return Query(feature.sql, order, unlimited=loose, oracle=feature.oracle)
