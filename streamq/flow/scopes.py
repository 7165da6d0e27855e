"""Small helpers around task groups: what leaves streamq is one error, never a group of them."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType


def leaves(error: BaseException) -> Iterator[BaseException]:
    """Give the errors inside nested groups, in order.

    >>> [str(e) for e in leaves(ExceptionGroup("", [ValueError("a"), ExceptionGroup("", [KeyError("b")])]))]
    ['a', "'b'"]
    """
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            yield from leaves(member)
    else:
        yield error


def one_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Choose the error that stands for a group: what ends the program first, then cancellation, then the first to fail.

    The others are named in its notes, so that none is lost. To be raised ``from error.__cause__``, which keeps what it came from.
    """
    errors = list(leaves(group))
    chosen = min(errors, key=_urgency)
    for other in errors:
        if other is not chosen:
            chosen.add_note(f"at the same time: {type(other).__name__}: {other}")
    return chosen


class raising_one:
    """Raises of a group, which a task group in the block raises, the error that stands for it: see `one_error`."""

    __slots__ = ()

    def __enter__(self) -> None:
        """Do nothing yet."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, BaseExceptionGroup):
            chosen = one_error(error)
            raise chosen from chosen.__cause__


def _urgency(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return 0
    return 2 if isinstance(error, Exception) else 1
