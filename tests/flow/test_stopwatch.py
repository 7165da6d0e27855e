"""Time that tasks wait, added up."""

from __future__ import annotations

import pytest

from streamq.flow.stopwatch import Stopwatch


class Clock:
    """Stands still until it is set."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_it_adds_up_what_was_inside() -> None:
    """Times inside count, times between do not."""
    clock = Clock()
    stopwatch = Stopwatch(clock)
    for now in (1.0, 10.0):
        clock.now = now
        with stopwatch:
            clock.now = now + 2
    clock.now = 50.0
    assert stopwatch.seconds == 4.0


def test_those_that_still_wait_count() -> None:
    """Each of them from when it began, so a wait without an end is seen while it lasts."""
    clock = Clock()
    stopwatch = Stopwatch(clock)
    with stopwatch:
        clock.now += 3
        with stopwatch:
            clock.now += 1
            assert stopwatch.seconds == 5.0
        clock.now += 1
        assert stopwatch.seconds == 6.0


def test_an_error_ends_a_wait() -> None:
    """Cancellation comes as one."""
    clock = Clock()
    stopwatch = Stopwatch(clock)
    with pytest.raises(KeyError), stopwatch:
        clock.now += 2
        raise KeyError
    clock.now += 5
    assert stopwatch.seconds == 2.0
