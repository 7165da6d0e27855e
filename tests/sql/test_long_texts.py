"""What binding a long text takes: as much for each of its parts, however many there are."""

from __future__ import annotations

import cProfile
from collections.abc import Callable, Iterator

import pyarrow as pa
import pytest

from streamq.sql.bind import bind_query
from streamq.sql.binder import Binder
from streamq.sql.catalog import RelationInfo
from streamq.sql.parse import parse_select

CATALOG = {"t": RelationInfo("t", "source", pa.schema({"a": pa.int64(), "b": pa.int64()}), system_columns=True)}
FEW, MANY = 40, 160


def listed(count: int, part: str) -> str:
    return ", ".join(part.format(n=n) for n in range(count))


TEXTS: dict[str, Callable[[int], str]] = {
    "items": lambda n: f"SELECT {listed(n, 'a + {n} AS c{n}')} FROM t",
    "items of one name": lambda n: f"SELECT {listed(n, 'a AS c')} FROM t",
    "keys": lambda n: f"SELECT {listed(n, 'a + {n} AS c{n}')} FROM t GROUP BY {listed(n, 'c{n}')}",
    "calls": lambda n: f"SELECT a, {listed(n, 'sum(b + {n}) AS c{n}')} FROM t GROUP BY a",
    "order": lambda n: f"SELECT {listed(n, 'a + {n} AS c{n}')} FROM t ORDER BY {listed(n, 'c{n}')}",
    "order by something else": lambda n: f"SELECT a FROM t ORDER BY {listed(n, 'b + {n}')}",
    "lists": lambda n: f"SELECT {listed(n, 'unnest([a, {n}]) AS c{n}')} FROM t",
}


@pytest.fixture(scope="module")
def binder() -> Iterator[Binder]:
    binder = Binder()
    yield binder
    binder.close()


def calls_to_bind(sql: str, binder: Binder) -> int:
    """Count the functions that are called, compiled ones too."""
    select = parse_select(sql)
    with cProfile.Profile() as profile:
        bind_query(select, CATALOG, binder=binder)
    return sum(entry.callcount for entry in profile.getstats())


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_a_part_of_a_text_takes_as_much_however_many_there_are(text: Callable[[int], str], binder: Binder) -> None:
    """Binding four times as many parts takes about four times as many calls, and not sixteen."""
    few, many = calls_to_bind(text(FEW), binder), calls_to_bind(text(MANY), binder)
    assert many / few < 1.1 * MANY / FEW
