"""What the C library keeps of what is freed, in programs of their own."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

COMES_AND_GOES = """
import resource
from streamq.execution.freed_memory import expect_blocks, keep_freed_memory
{prepare}
for turn in range(20):
    if turn == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [b"1" * (1 << 20) for _ in range(6)]
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told what to keep")
@pytest.mark.parametrize("prepare", ["expect_blocks(8 << 20)", "keep_freed_memory(32 << 20, 64 << 20)"])
def test_what_comes_again_costs_no_page_faults(prepare: str) -> None:
    """Blocks of six megabytes, freed together, are on the same pages again; each time some two thousand pages could be new."""
    program = COMES_AND_GOES.format(prepare=prepare)
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(ran.stdout) < 1_000
