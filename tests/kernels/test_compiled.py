"""Machine code that is kept on disk."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

from streamq.kernels.compiled.routing import hash_values

HASHED = """
import sys
import numpy as np
from streamq.kernels.compiled.routing import hash_values
hashes = np.empty(3, np.uint64)
hash_values(np.arange(3, dtype=np.uint64), 1, hashes)
print(*hashes, *[name for name in ("numba.np.linalg", "cffi") if name in sys.modules])
"""


def test_kept_code_is_run_without_what_compiled_it() -> None:
    """Another process gets the same from the code that is kept, and does not load the compiler's library for it."""
    hashes = np.empty(3, np.uint64)
    hash_values(np.arange(3, dtype=np.uint64), 1, hashes)
    other = subprocess.run([sys.executable, "-c", HASHED], capture_output=True, text=True, check=True)
    assert other.stdout.split() == [str(value) for value in hashes]
