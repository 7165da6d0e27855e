"""Services for the tests of pools. Workers import this module, so it imports little."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from streamq.errors import DataError
from streamq.kernels.session import Interrupted, Session


@dataclass(frozen=True, slots=True)
class Recorded:
    """Sets up a `Recorder`, which writes what becomes of it to a file."""

    log: str

    def open(self, session: Session) -> Recorder:
        return Recorder(Path(self.log), session)


class Recorder:
    """Does what it is told: echoes, fails, waits to be interrupted, runs SQL, lists modules."""

    def __init__(self, log: Path, session: Session) -> None:
        self._log = log
        self._cursor = session.cursor()
        self._stopped = threading.Event()
        self._note("opened")

    def call(self, request: object) -> object:
        match request:
            case "fail":
                raise DataError("as asked")
            case "break":
                raise AssertionError("this cannot be")
            case "wait":
                self._note("waits")
                self._stopped.wait()
                raise Interrupted("stopped")
            case ("sql", str(sql)):
                self._note("waits")
                return self._cursor.sql(sql).fetchall()
            case ("modules", *names):
                return [name for name in names if name in sys.modules]
            case _:
                return request

    def interrupt(self) -> None:
        self._stopped.set()
        self._cursor.interrupt()

    def close(self) -> None:
        self._cursor.close()
        self._note("closed")

    def _note(self, event: str) -> None:
        with self._log.open("a") as log:
            print(event, file=log)


def notes(path: Path) -> Sequence[str]:
    """Give what a recorder has written."""
    return path.read_text().split() if path.exists() else ()
