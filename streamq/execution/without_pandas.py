"""Keeps pandas out of processes that are streamq's own: it is for their users, and takes long to import and much memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class _NotFound:
    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("this process does without pandas", name=name)


@contextmanager
def without_pandas() -> Iterator[None]:
    """Have pandas not be found, which Arrow looks for with its first array, once and for all. It stays where it has been imported."""
    finder = _NotFound()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
