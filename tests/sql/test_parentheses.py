"""Parentheses in FROM hold relations and joins as well as queries, in snapshot and continuous queries."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import streamq

pytestmark = [pytest.mark.anyio, pytest.mark.by_turns]


@pytest.fixture(scope="module")
async def db(anyio_backend: object) -> AsyncIterator[streamq.Database]:
    async with streamq.connect(executor="thread", workers=1) as db:
        for name in "abc":
            await db.execute(f"CREATE SOURCE {name} (k BIGINT, {name}v BIGINT)")
            await db.insert(name, [{"k": k, f"{name}v": k * 10} for k in range(1, 4)])
        yield db


@pytest.mark.parametrize(
    "from_",
    [
        "(a JOIN b USING (k))",
        "((a JOIN b USING (k)))",
        "(a JOIN b USING (k)) JOIN c USING (k)",
        "((a JOIN b USING (k)) JOIN (c) USING (k))",
        "a JOIN (b JOIN c ON b.k = c.k) ON a.k = b.k",
        "a LEFT JOIN (b JOIN c ON b.k = c.k AND b.k > 1) ON a.k = b.k",
        "(a JOIN b USING (k)) AS x",
        "(a) AS a JOIN (b) USING (k)",
        "((SELECT * FROM a) a JOIN b USING (k))",
    ],
)
async def test_rows_of_parenthesised_relations(db: streamq.Database, from_: str) -> None:
    """Every form joins as it is written: three rows, or as many as the condition leaves."""
    sql = f"SELECT count(*) AS n, sum(av) AS s FROM {from_}"
    assert (await db.fetch(sql)).to_pylist() == [{"n": 3, "s": 60}]
    async with db.query(f"{sql} EMIT CHANGES") as stream:
        row = next(reversed((await anext(stream)).to_pylist()))
    assert (row["n"], row["s"]) == (3, 60)
