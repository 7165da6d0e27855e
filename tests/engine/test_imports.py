"""What a program pays for: snapshot queries do not bring the compiler of continuous ones."""

import subprocess
import sys

PROGRAM = """
import sys
import anyio
import streamq

async def main():
    async with streamq.connect(executor="thread") as db:
        await db.execute("CREATE SOURCE s (n INTEGER)")
        await db.insert("s", [{"n": 1}])
        print((await db.fetch("SELECT count(*) AS n FROM s")).to_pylist())

anyio.run(main)
print([name for name in ("numba", "llvmlite") if name in sys.modules])
"""


def test_snapshot_queries_do_without_the_compiler() -> None:
    """A program that runs no continuous query imports neither numba nor what it stands on."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["[{'n': 1}]", "[]"]
