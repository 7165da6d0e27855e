"""Join: two changing relations, all kinds."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamq.kernels.evaluate import Evaluator
from streamq.plan.dataflow import Interval, Join
from streamq.sql.logical import JoinKind

from .driver import LEFT, RIGHT, Driver, Row, Script, check, scripts

LEFT_SCHEMA = pa.schema([("l.k", pa.string()), ("l.x", pa.int64())])
RIGHT_SCHEMA = pa.schema([("r.k", pa.string()), ("r.y", pa.int64())])
ROWS = st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 3))
RESIDUAL = 'SELECT "#pair" FROM "in" WHERE "l.x" <= "r.y"'
KINDS: tuple[JoinKind, ...] = ("inner", "left", "right", "full", "semi", "anti")


def join(kind: JoinKind, *, residual: str | None = None, keys: bool = True) -> Join:
    """Make a join by k."""
    fields = [*LEFT_SCHEMA, *([] if kind in ("semi", "anti") else RIGHT_SCHEMA)]
    left_keys, right_keys = (("l.k",), ("r.k",)) if keys else ((), ())
    return Join("join", LEFT, RIGHT, kind, left_keys, right_keys, residual, pa.schema(fields), retracts=True)


def reference(node: Join, left: list[Row], right: list[Row]) -> Counter[Row]:
    """Compare every row with every other."""

    def matches(one: Row, other: Row) -> bool:
        return (not node.left_keys or one[0] == other[0] is not None) and (node.residual is None or one[1] <= other[1])

    pairs = Counter([(*one, *other) for one in left for other in right if matches(one, other)])
    left_alone = [one for one in left if not any(matches(one, other) for other in right)]
    right_alone = [other for other in right if not any(matches(one, other) for one in left)]
    match node.kind:
        case "semi":
            return Counter(left) - Counter(left_alone)
        case "anti":
            return Counter(left_alone)
        case _:
            pairs += Counter([(*one, None, None) for one in left_alone if node.kind in ("left", "full")])
            return pairs + Counter([(None, None, *other) for other in right_alone if node.kind in ("right", "full")])


@pytest.mark.parametrize("kind", KINDS)
@given(scripts(ROWS), scripts(ROWS), st.sampled_from([None, RESIDUAL]))
def test_kinds(evaluator: Evaluator, kind: JoinKind, left: Script, right: Script, residual: str | None) -> None:
    """Every kind follows both sides; NULL equals nothing."""
    node = join(kind, residual=residual)
    check(Driver(node, evaluator, [LEFT_SCHEMA, RIGHT_SCHEMA], [True, True]), lambda *sides: reference(node, *sides), left, right)


@given(scripts(ROWS), scripts(ROWS), st.sampled_from(KINDS), st.sampled_from([None, RESIDUAL]))
def test_without_keys(evaluator: Evaluator, left: Script, right: Script, kind: JoinKind, residual: str | None) -> None:
    """Without keys every row meets every other."""
    node = join(kind, residual=residual, keys=False)
    check(Driver(node, evaluator, [LEFT_SCHEMA, RIGHT_SCHEMA], [True, True]), lambda *sides: reference(node, *sides), left, right)


@given(scripts(ROWS, retracts=False), scripts(ROWS, retracts=False))
def test_additions_only(evaluator: Evaluator, left: Script, right: Script) -> None:
    """An inner join of rows that are only added only adds."""
    node = replace(join("inner"), retracts=False)
    check(Driver(node, evaluator, [LEFT_SCHEMA, RIGHT_SCHEMA], [False, False]), lambda *sides: reference(node, *sides), left, right)


def test_unmatched_row_is_withdrawn_by_its_match(evaluator: Evaluator) -> None:
    """A left row with NULLs goes when its first match comes, and comes back when its last one goes."""
    driver = Driver(join("left"), evaluator, [LEFT_SCHEMA, RIGHT_SCHEMA], [True, True])
    assert driver.step([(("a", 1), 2)], []) == [(("a", 1, None, None), 2)]
    assert driver.step([], [(("a", 7), 1)]) == [(("a", 1, None, None), -2), (("a", 1, "a", 7), 2)]
    assert driver.step([], [(("a", 8), 1), (("a", 7), -1)]) == [(("a", 1, "a", 7), -2), (("a", 1, "a", 8), 2)]
    assert driver.step([], [(("a", 8), -1)]) == [(("a", 1, "a", 8), -2), (("a", 1, None, None), 2)]


def test_update_of_both_sides_is_net(evaluator: Evaluator) -> None:
    """Pairs that only exist between the two sides' changes are not given."""
    driver = Driver(join("inner"), evaluator, [LEFT_SCHEMA, RIGHT_SCHEMA], [True, True])
    driver.step([(("a", 1), 1)], [(("a", 1), 1)])
    found = driver.step([(("a", 1), -1), (("a", 2), 1)], [(("a", 1), -1), (("a", 2), 1)])
    assert found == [(("a", 1, "a", 1), -1), (("a", 2, "a", 2), 1)]


def test_a_zero_is_withdrawn_with_its_sign(evaluator: Evaluator) -> None:
    """A row whose 0.0 becomes -0.0 is withdrawn as the one that it then is."""
    schema = pa.schema([("l.k", pa.string()), ("l.x", pa.float64())])
    node = replace(join("left"), schema=pa.schema([*schema, *RIGHT_SCHEMA]))
    driver = Driver(node, evaluator, [schema, RIGHT_SCHEMA], [True, True])
    driver.step([(("a", 0.0), 1)], [(("a", 1), 1)])
    driver.step([(("a", 0.0), -1), (("a", -0.0), 1)], [])
    assert len(driver.step([(("a", -0.0), -1)], [])) == 1


LEFT_TIMES = pa.schema([("l.k", pa.string()), ("l.t", pa.timestamp("us"))])
RIGHT_TIMES = pa.schema([("r.k", pa.string()), ("r.t", pa.timestamp("us"))])
WITHIN = """SELECT "#pair" FROM "in" WHERE epoch_us("r.t") - epoch_us("l.t") BETWEEN -2 AND 3"""


def interval_join(kind: JoinKind, *, final: bool, retracts: bool) -> Join:
    """Make a join by k of rows from 2 µs before to 3 µs after the left one."""
    fields = [*LEFT_TIMES, *([] if kind in ("semi", "anti") else RIGHT_TIMES)]
    interval = Interval("l.t", "r.t", -2, 3)
    return Join("join", LEFT, RIGHT, kind, ("l.k",), ("r.k",), WITHIN, pa.schema(fields), retracts, interval, final)


def within(kind: JoinKind, left: list[Row], right: list[Row]) -> Counter[Row]:
    """Compare every row with every other, by key and time."""
    shifted = replace(join(kind, residual=None), left_keys=("l.k",))

    def matches(one: Row, other: Row) -> bool:
        return one[0] == other[0] is not None and None not in (one[1], other[1]) and -2 <= other[1] - one[1] <= 3

    pairs = [(*one, *other) for one in left for other in right if matches(one, other)]
    left_alone = [one for one in left if not any(matches(one, other) for other in right)]
    right_alone = [other for other in right if not any(matches(one, other) for one in left)]
    if shifted.kind in ("semi", "anti"):
        return Counter(left_alone) if kind == "anti" else Counter(left) - Counter(left_alone)
    alone = [(*one, None, None) for one in left_alone if kind in ("left", "full")]
    return Counter(pairs + alone + [(None, None, *other) for other in right_alone if kind in ("right", "full")])


def microseconds(rows: Counter[Row]) -> Counter[Row]:
    """Make timestamps integers again."""
    return Counter({tuple(getattr(value, "microsecond", value) for value in row): count for row, count in rows.items()})


TIMED = st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 9))


@pytest.mark.parametrize("kind", KINDS)
@given(
    st.lists(st.tuples(st.lists(TIMED, max_size=4), st.lists(TIMED, max_size=4), st.integers(0, 3)), max_size=7),
    st.integers(0, 7),
    st.booleans(),
)
def test_interval(evaluator: Evaluator, kind: JoinKind, steps: list[tuple[list[Row], list[Row], int]], restart: int, final: bool) -> None:
    """Matches are found in either order of arrival, as long as no row is behind the horizon; with `final` nothing is withdrawn."""
    node = interval_join(kind, final=final, retracts=not final and kind not in ("inner", "semi"))
    driver = Driver(node, evaluator, [LEFT_TIMES, RIGHT_TIMES], [False, False])
    left: list[Row] = []
    right: list[Row] = []
    horizon = 0
    for number, (left_step, right_step, ahead) in enumerate(steps):
        if number == restart:
            driver.restart()
        # Rows behind the horizon are late: they never get here.
        left_step, right_step = ([row for row in step if row[1] >= horizon] for step in (left_step, right_step))
        horizon += ahead
        driver.step([(row, 1) for row in left_step], [(row, 1) for row in right_step], horizon_us=horizon)
        left, right = left + left_step, right + right_step
        expected = within(kind, left, right)
        assert microseconds(driver.given) <= expected
        if not final:
            assert microseconds(driver.given) == expected
    driver.step([], [], ended=True)
    assert microseconds(driver.given) == within(kind, left, right)


def test_final_row_comes_when_no_match_can(evaluator: Evaluator) -> None:
    """A left row without a match is given once the horizon is past its time and the bound, not before."""
    driver = Driver(interval_join("left", final=True, retracts=False), evaluator, [LEFT_TIMES, RIGHT_TIMES], [False, False])
    assert driver.step([(("a", 5), 1), (("b", 5), 1), ((None, 6), 1)], [], horizon_us=5)[0][0][0] is None
    assert len(driver.step([], [(("b", 8), 1)], horizon_us=8)) == 1
    driver.restart()
    ((row, _),) = driver.step([], [], horizon_us=9)
    assert row[0] == "a"
    assert row[2:] == (None, None)


def test_interval_state_is_bounded(evaluator: Evaluator) -> None:
    """What the horizon has passed is forgotten."""
    node = interval_join("left", final=False, retracts=True)
    driver = Driver(node, evaluator, [LEFT_TIMES, RIGHT_TIMES], [False, False])
    for epoch in range(30):
        times = range(200 * epoch, 200 * (epoch + 1))
        driver.step([(("a", time), 1) for time in times], [(("b", time), 1) for time in times], horizon_us=200 * (epoch + 1))
    assert driver.operator.state_rows < 4_000
    assert driver.operator.snapshot()["input0.matches"].num_rows < 10


def test_withdrawing_what_is_not_there_names_the_operator(evaluator: Evaluator) -> None:
    """A negative multiplicity is a fault of the program."""
    with pytest.raises(AssertionError, match=r"^join: "):
        Driver(join("inner"), evaluator, [LEFT_SCHEMA, RIGHT_SCHEMA], [True, True]).step([(("a", 1), -1)], [])
