"""Tests marked `by_turns`: every test runs on both event loops and both executors, but each of its cases only on some of them.

The cases (all that a test is parametrized by besides `anyio_backend` and `executor`) take turns: one loop, and from four cases on
one executor, for each. Files that are named on the command line run whole.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import pytest

TURNING = ("anyio_backend", "executor")
MARK = "by_turns"


def in_turn(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Leave out the combinations that are not a case's turn."""
    tests: dict[Hashable, _Turns] = {}
    for item in items:
        tests.setdefault(_test(item), _Turns()).add(item)
    return [item for item in items if item.get_closest_marker(MARK) is None or tests[_test(item)].has(item)]


class _Turns:
    """The cases of one test, and the values of its parameters, numbered as they come."""

    def __init__(self) -> None:
        self._cases: set[Hashable] = set()
        self._numbers: dict[str, dict[Hashable, int]] = {}

    def add(self, item: pytest.Item) -> None:
        for name, value in _parameters(item).items():
            numbers = self._numbers.setdefault(name, {})
            numbers.setdefault(value, len(numbers))
        self._cases.add(tuple(value for name, value in _parameters(item).items() if name not in TURNING))

    def has(self, item: pytest.Item) -> bool:
        numbers = {name: self._numbers[name][value] for name, value in _parameters(item).items()}
        # Neighbours in any parameter have different turns.
        case = sum(number for name, number in numbers.items() if name not in TURNING)
        match [numbers[name] for name in TURNING if len(self._numbers.get(name, ())) > 1]:
            case [one]:
                return len(self._cases) == 1 or (one + case) % 2 == 0
            case [one, other]:
                # Two of the four pairs, other ones for the next case; of many cases each has one pair.
                return (one + other + case) % 2 == 0 and (len(self._cases) < 4 or (one + case // 2) % 2 == 0)
            case _:
                return True


def _test(item: pytest.Item) -> Hashable:
    return item.path, getattr(item, "originalname", item.name)


def _parameters(item: pytest.Item) -> dict[str, Hashable]:
    """Give a test's parameters by name, and which object each is: the combinations of a test share them."""
    callspec = getattr(item, "callspec", None)
    return {} if callspec is None else {name: id(value) for name, value in callspec.params.items()}
