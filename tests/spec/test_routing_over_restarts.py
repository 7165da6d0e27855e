"""Rows of a key lie in the same shard in every process: the routing hash knows no seed."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import anyio

import streamq


async def places() -> str:
    """Push two hundred keys and say where each is."""
    async with streamq.connect(executor="thread", workers=1) as db:
        await db.execute("CREATE SOURCE s (name VARCHAR, n BIGINT, day DATE) PARTITION BY (name, n, day) WITH (shards = 13)")
        await db.execute("INSERT INTO s SELECT 'customer ' || i, i % 5, DATE '2024-01-01' + (i % 3)::INT FROM range(200) AS r(i)")
        answer = await db.fetch("SELECT name, n, _partition AS p FROM s ORDER BY name, n")
        return json.dumps([*answer.to_pylist(), hash("the seed")])


def test_keys_stay_where_they_are() -> None:
    """Two programs with different hash seeds, this one and another, put every key into the same partition."""
    *ours, our_hash = json.loads(anyio.run(places))
    other = {**os.environ, "PYTHONHASHSEED": "1" if os.environ.get("PYTHONHASHSEED") != "1" else "4711"}
    run = subprocess.run([sys.executable, __file__], env=other, check=True, capture_output=True, text=True, timeout=60)
    *theirs, their_hash = json.loads(run.stdout)
    assert our_hash != their_hash
    assert len(ours) == 200
    assert theirs == ours


if __name__ == "__main__":
    print(anyio.run(places))
