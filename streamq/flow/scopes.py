"""Small helpers around task groups: what leaves streamq is one error, never a group of them."""

from __future__ import annotations

from collections.abc import Iterator


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
    """Choose the error that stands for a group: one that is not an Exception (KeyboardInterrupt) first, else the first to fail.

    The others are named in its notes, so that none is lost.
    """
    errors = list(leaves(group))
    chosen = next((error for error in errors if not isinstance(error, Exception)), errors[0])
    for other in errors:
        if other is not chosen:
            chosen.add_note(f"at the same time: {type(other).__name__}: {other}")
    return chosen
