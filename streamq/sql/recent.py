"""What is known of the texts that came last, for as many of them as there is room for."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class RecentTexts(Generic[T]):
    """Keeps a value for each of the texts that were asked for last: `max_characters` of text, none of more than `max_length`.

    May be used from several threads.

    >>> recent = RecentTexts[int](max_characters=4, max_length=2)
    >>> recent.keep("ab", 1), recent.keep("cd", 2), recent.get("ab"), recent.keep("e", 3), recent.keep("long", 4)
    (1, 2, 1, 3, 4)
    >>> recent.get("ab"), recent.get("cd"), recent.get("e"), recent.get("long")
    (1, None, 3, None)
    """

    def __init__(self, *, max_characters: int, max_length: int) -> None:
        self._max_characters = max_characters
        self._max_length = max_length
        self._values: OrderedDict[str, T] = OrderedDict()
        self._characters = 0
        self._lock = Lock()

    def get(self, text: str) -> T | None:
        """Give the value of a text, if there is one yet and still."""
        with self._lock:
            if text in self._values:
                self._values.move_to_end(text)
            return self._values.get(text)

    def keep(self, text: str, value: T) -> T:
        """Keep the value of a text, unless somebody else has, and give the one that is kept."""
        if len(text) > self._max_length:
            return value
        with self._lock:
            if text in self._values:
                return self._values[text]
            self._values[text] = value
            self._characters += len(text)
            while self._characters > self._max_characters:
                oldest, _ = self._values.popitem(last=False)
                self._characters -= len(oldest)
            return value
