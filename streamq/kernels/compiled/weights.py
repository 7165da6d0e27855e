"""The loops over rows' codes."""

from __future__ import annotations

from typing import Any

from streamq.kernels.compiled.pointers import compiled


@compiled
def sum_weights(codes: Any, weights: Any, sums: Any, first: Any) -> None:
    """Sum weights by code, where codes first come in ascending order; give where each came first too."""
    known = 0
    for row in range(len(codes)):
        code = codes[row]
        if code == known:
            first[known] = row
            known += 1
        sums[code] += weights[row]
