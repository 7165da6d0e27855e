"""The routing hash: its golden vectors, and what is the same value to it."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, time
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamq.storage.routing import ROUTING_VERSION, routable, route, routing_hash


def hashed(*columns: pa.Array) -> list[int]:
    return [int(value) for value in routing_hash(columns)]


def hash_of(value: object, kind: pa.DataType | None = None) -> int:
    return hashed(pa.array([value], type=kind))[0]


GOLDEN: list[tuple[object, pa.DataType, int]] = [
    (1, pa.int64(), 10444196813557099703),
    (-1, pa.int64(), 11010028157633245938),
    (2**63, pa.uint64(), 9697416567338484193),
    (True, pa.bool_(), 10164891562630100948),
    (0.0, pa.float64(), 10834553571769434842),
    (math.nan, pa.float64(), 8211980898186391542),
    (1.5, pa.float32(), 14037511044189522749),
    (Decimal("1.5"), pa.decimal128(10, 2), 3842215394452210376),
    ("", pa.string(), 11814851847355983562),
    ("a", pa.string(), 10925256646379513033),
    ("Grüße, 東京 und anderswo", pa.string(), 18122109810016656811),
    (b"a", pa.binary(), 2117458778670332144),
    (date(2024, 2, 29), pa.date32(), 16459800223490502986),
    (time(1, 2, 3), pa.time64("us"), 14704363500133503245),
    (datetime(2024, 2, 29, 1), pa.timestamp("us"), 15120244866980428271),
    (None, pa.string(), 756517608410894910),
]


@pytest.mark.parametrize(("value", "kind", "expected"), GOLDEN, ids=repr)
def test_golden_vectors(value: object, kind: pa.DataType, expected: int) -> None:
    """The hash of a value never changes: rows of a key are where they were."""
    assert ROUTING_VERSION == 1
    assert hash_of(value, kind) == expected


def test_golden_vector_of_two_columns() -> None:
    """The hash of a key of several columns never changes."""
    assert hashed(pa.array(["a"]), pa.array([1])) == [12838674315307508254]


@pytest.mark.parametrize("kind", [pa.int8(), pa.int16(), pa.int32(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()], ids=str)
def test_integers_of_any_width_are_equal(kind: pa.DataType) -> None:
    """5 is 5 in every integer type."""
    assert hash_of(5, kind) == hash_of(5, pa.int64())


SAME = [
    (pa.array([0.0]), pa.array([-0.0])),
    (pa.array([math.nan]), pa.array(np.array([0x7FF8000000000001], dtype=np.uint64).view(np.float64))),
    (pa.array([0.5], pa.float32()), pa.array([0.5], pa.float64())),
    (pa.array([Decimal("1.5")]), pa.array([Decimal("1.500")], pa.decimal128(38, 30))),
    (pa.array(["a"]), pa.array(["a"], pa.large_string())),
    (pa.array(["a"]), pa.array(["a"], pa.string_view())),
    (pa.array(["a"]), pa.array(["a"]).dictionary_encode()),
    (pa.array([b"ab"]), pa.array([b"ab"], pa.binary(2))),
    (pa.array([datetime(2024, 1, 1)], pa.timestamp("s")), pa.array([datetime(2024, 1, 1)], pa.timestamp("ns"))),
    (pa.array([datetime(2024, 1, 1)], pa.timestamp("us")), pa.array([datetime(2024, 1, 1, tzinfo=UTC)], pa.timestamp("ms", "UTC"))),
    (pa.array([date(2024, 1, 1)], pa.date32()), pa.array([date(2024, 1, 1)], pa.date64())),
    (pa.array([time(1)], pa.time32("s")), pa.array([time(1)], pa.time64("ns"))),
    (pa.array([None], pa.int64()), pa.array([None], pa.string())),
    (pa.array([None], pa.null()), pa.array([None], pa.string())),
]


@pytest.mark.parametrize(("left", "right"), SAME, ids=str)
def test_equal_values_have_equal_hashes(left: pa.Array, right: pa.Array) -> None:
    """Equality is of values, not of how they are stored."""
    assert hashed(left) == hashed(right)


DIFFERENT = [
    ([pa.array(["1"]), pa.array(["a"])], [pa.array([1]), pa.array(["a"])]),
    ([pa.array(["a|b"]), pa.array(["c"])], [pa.array(["a"]), pa.array(["b|c"])]),
    ([pa.array(["ab"]), pa.array(["c"])], [pa.array(["a"]), pa.array(["bc"])]),
    ([pa.array(["a"]), pa.array(["b"])], [pa.array(["b"]), pa.array(["a"])]),
    ([pa.array([1])], [pa.array([1]), pa.array([None], pa.int64())]),
    ([pa.array([""])], [pa.array([None], pa.string())]),
    ([pa.array([0])], [pa.array([None], pa.int64())]),
    ([pa.array([""])], [pa.array(["\0"])]),
    ([pa.array(["a"])], [pa.array(["a\0"])]),
    ([pa.array(["abcdefgh"])], [pa.array(["abcdefgh\0"])]),
    ([pa.array(["abcdefgh12345678"])], [pa.array(["12345678abcdefgh"])]),
    ([pa.array(["a"])], [pa.array([b"a"])]),
    ([pa.array([1])], [pa.array([True])]),
    ([pa.array([-1])], [pa.array([2**64 - 1], pa.uint64())]),
    ([pa.array([datetime(2024, 1, 1)])], [pa.array([date(2024, 1, 1)])]),
]


@pytest.mark.parametrize(("left", "right"), DIFFERENT, ids=lambda key: str([column.to_pylist() for column in key]))
def test_different_keys_have_different_hashes(left: list[pa.Array], right: list[pa.Array]) -> None:
    """Type, place and borders of values are part of a key."""
    assert hashed(*left) != hashed(*right)


@given(st.lists(st.one_of(st.none(), st.text(), st.text(min_size=20, max_size=70))), st.integers(0, 10))
def test_a_string_hashes_alike_wherever_it_lies(values: list[str | None], skip: int) -> None:
    """Slices, offsets and neighbours do not matter."""
    array = pa.array(values, pa.string())
    assert hashed(array)[skip:] == hashed(array.slice(skip)) == [hash_of(value, pa.string()) for value in values[skip:]]


@given(st.lists(st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9)), st.integers(0, 5))
def test_a_decimal_hashes_alike_wherever_it_lies(values: list[Decimal], skip: int) -> None:
    """Slices and neighbours do not matter."""
    array = pa.array(values, pa.decimal128(20, 3))
    assert hashed(array)[skip:] == hashed(array.slice(skip)) == [hash_of(value, pa.decimal128(20, 3)) for value in values[skip:]]


def test_chunks_do_not_matter() -> None:
    """A chunked column hashes as the whole."""
    whole = pa.array(["a", "b", "c"])
    assert hashed(pa.chunked_array([whole.slice(0, 1), whole.slice(1)])) == hashed(whole)


@pytest.mark.parametrize("array", [pa.array(np.arange(100_000)), pa.array([f"user-{i}" for i in range(100_000)])], ids=["int", "text"])
def test_keys_spread_evenly(array: pa.Array) -> None:
    """Every part gets about its share of consecutive keys, and no two of them share a hash."""
    counts = np.bincount(route([array], 7), minlength=7)
    assert counts.min() > 0.95 * len(array) / 7
    assert len(np.unique(routing_hash([array]))) == len(array)


def test_types_without_a_value_of_their_own_are_not_routable() -> None:
    """Lists and structs are no routing keys."""
    assert not routable(pa.list_(pa.int32()))
    with pytest.raises(TypeError):
        routing_hash([pa.array([[1]])])
