"""Rows of a key lie in the same shard in every process: the routing hash knows no seed."""

from __future__ import annotations

import os
import subprocess
import sys

PROGRAM = """
import anyio, json, streamq

async def main():
    async with streamq.connect(executor="thread", workers=1) as db:
        await db.execute("CREATE SOURCE s (name VARCHAR, n BIGINT, day DATE) PARTITION BY (name, n, day) WITH (shards = 13)")
        await db.execute("INSERT INTO s SELECT 'customer ' || i, i % 5, DATE '2024-01-01' + (i % 3)::INT FROM range(200) AS r(i)")
        answer = await db.fetch("SELECT name, n, _partition AS p FROM s ORDER BY name, n")
        print(json.dumps(answer.to_pylist()))

anyio.run(main)
"""


def places(seed: str) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    return subprocess.run([sys.executable, "-c", PROGRAM], env=environment, check=True, capture_output=True, text=True, timeout=60).stdout


def test_keys_stay_where_they_are() -> None:
    """Two programs with different hash seeds put every key into the same partition."""
    first = places("1")
    assert first.count('"p"') == 200
    assert places("4711") == first
