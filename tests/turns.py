"""Tests marked `by_turns`: every test runs on both event loops and both executors, but each of its cases only on some of them.

The cases (all that a test is parametrized by besides `anyio_backend` and `executor`) take turns: one loop, and from four cases on
one executor, for each. Files that are named on the command line run whole.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence

import pytest

LOOP, EXECUTOR = "anyio_backend", "executor"
MARK = "by_turns"


def in_turn(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Leave out the combinations that are not a case's turn."""
    tests: dict[Hashable, _Turns] = {}
    for item in items:
        tests.setdefault(_test(item), _Turns()).add(item)
    return [item for item in items if item.get_closest_marker(MARK) is None or tests[_test(item)].has(item)]


class _Turns:
    """The cases of one test, and the loops and executors that they can have, numbered as they come."""

    def __init__(self) -> None:
        self._cases: dict[Hashable, int] = {}
        self._values: dict[str, dict[Hashable, int]] = {LOOP: {}, EXECUTOR: {}}

    def add(self, item: pytest.Item) -> None:
        self._number(self._cases, _case(item))
        for name, value in _turning(item):
            self._number(self._values[name], value)

    def has(self, item: pytest.Item) -> bool:
        case = self._cases[_case(item)]
        match [self._values[name][value] for name, value in _turning(item)]:
            case [one]:
                return len(self._cases) == 1 or (one + case) % 2 == 0
            case [one, other]:
                # Two of the four pairs, other ones for the next case; of many cases each has one pair.
                return (one + other + case) % 2 == 0 and (len(self._cases) < 4 or (one + case // 2) % 2 == 0)
            case _:
                return True

    @staticmethod
    def _number(numbers: dict[Hashable, int], value: Hashable) -> None:
        numbers.setdefault(value, len(numbers))


def _test(item: pytest.Item) -> Hashable:
    return item.path, getattr(item, "originalname", item.name)


def _case(item: pytest.Item) -> Hashable:
    return tuple((name, value) for name, value in _parameters(item) if name not in (LOOP, EXECUTOR))


def _turning(item: pytest.Item) -> list[tuple[str, Hashable]]:
    return [(name, value) for name, value in _parameters(item) if name in (LOOP, EXECUTOR)]


def _parameters(item: pytest.Item) -> Iterable[tuple[str, Hashable]]:
    """Give a test's parameters by name, and which object each is: the combinations of a test share them."""
    callspec = getattr(item, "callspec", None)
    return () if callspec is None else sorted((name, id(value)) for name, value in callspec.params.items())
