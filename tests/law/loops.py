"""What hardly depends on the event loop runs on one of the two: each case on one, the next on the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import pytest

from tests.conftest import BACKENDS

Case = TypeVar("Case")


def each_on_one_loop(name: str, cases: Sequence[Case], label: Callable[[Case], str]) -> pytest.MarkDecorator:
    """Give a test every case as its argument `name`, and the event loops by turns."""
    # Those of a loop come together, for whatever a module opens on it.
    turns = [
        pytest.param(*loop.values, case, id=f"{loop.id}-{label(case)}")
        for number, loop in enumerate(BACKENDS)
        for case in cases[number :: len(BACKENDS)]
    ]
    return pytest.mark.parametrize(("anyio_backend", name), turns, indirect=["anyio_backend"], scope="module")
