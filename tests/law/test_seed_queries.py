"""The seed queries, over every executor and number of partitions."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from typing import Any

import pytest

import streamq
from tests.law.engine import EXECUTORS, PARTITIONS, Engine, Run
from tests.law.law import rows_of
from tests.law.relations import Hold, Relation, fixed
from tests.law.seeds import SEEDS, Seed, rows_from

pytestmark = pytest.mark.by_turns


@pytest.fixture(params=PARTITIONS)
def run(request: pytest.FixtureRequest, anyio_backend: tuple[str, dict[str, Any]]) -> Run:
    """A number of partitions on an executor; what is on one executor here is on the other one on the other event loop."""
    turn = PARTITIONS.index(request.param) + (anyio_backend[0] == "trio")
    return Run(EXECUTORS[turn % len(EXECUTORS)], request.param)


def held(relations: dict[str, str], hold: Hold) -> list[Relation]:
    made = {name: rows_from(sql) for name, sql in relations.items()}
    return [fixed(name, rows, hold, row_group=max(rows.num_rows // 11, 1)) for name, rows in made.items()]


@pytest.mark.parametrize("seed", SEEDS.values(), ids=SEEDS.keys())
def test_seed_query_gives_the_worked_rows(engine: Engine, seed: Seed, run: Run) -> None:
    """The answer is the one worked out by hand, whatever the executor and the number of partitions."""
    with engine.holding(held(seed.relations, seed.hold), run.executor):
        answer = engine.answer(seed.sql, run)
    compared = answer.select(list(seed.columns)) if seed.columns else answer
    assert Counter(rows_of(compared)) == Counter(seed.expected())


def test_system_columns_are_read_in_any_case(engine: Engine, run: Run) -> None:
    """`_TIMESTAMP`, `_PARTITION` and `_OFFSET` come from the record, and the first true branch of CASE wins."""
    rows = rows_from(
        "SELECT symbol, exchange, price::DOUBLE AS price, volume, average::DOUBLE AS hourly_avg_volume, high::DOUBLE AS daily_high "
        "FROM (VALUES "
        "('AAPL', 'NASDAQ', 99.5, 30000, 10000.0, 100.0), ('AAPL', 'NASDAQ', 99.5, 15000, 10000.0, 100.0), "
        "('MSFT', 'NASDAQ', 50.0, 10001, 10000.0, 100.0), ('MSFT', 'NASDAQ', 50.0, 10000, 1.0, 1.0), "
        "('AAPL', 'NYSE', 1.0, 90000, 1.0, 1.0), ('GOOGL', 'NASDAQ', 1.0, 20000, NULL, NULL)) "
        "AS v(symbol, exchange, price, volume, average, high)"
    )
    sql = """
    SELECT symbol, exchange, price, volume, _TIMESTAMP as processing_time, _PARTITION as kafka_partition, _OFFSET as kafka_offset,
        CASE WHEN volume > hourly_avg_volume * 2.0 THEN 'high_volume_alert'
            WHEN price > daily_high * 0.99 THEN 'near_high' ELSE 'normal' END
            as status_flag
    FROM market_data WHERE symbol IN ('AAPL', 'GOOGL', 'MSFT') AND exchange = 'NASDAQ' AND volume > 10000;"""
    with engine.holding([fixed("market_data", rows, "source")], run.executor):
        answer = engine.answer(sql, run)
    flags = Counter(zip(answer["symbol"].to_pylist(), answer["volume"].to_pylist(), answer["status_flag"].to_pylist(), strict=True))
    assert flags == Counter(
        [("AAPL", 30000, "high_volume_alert"), ("AAPL", 15000, "near_high"), ("MSFT", 10001, "normal"), ("GOOGL", 20000, "normal")]
    )
    places = set(zip(answer["kafka_partition"].to_pylist(), answer["kafka_offset"].to_pylist(), strict=True))
    assert len(places) == answer.num_rows
    assert answer["processing_time"].null_count == 0


def test_window_clause_without_emit_gives_the_final_rows(engine: Engine, run: Run) -> None:
    """5,000 rows a second apart are 1,680 groups of a minute: 1,640 of three rows, and 40 of two at the ends."""
    rows = rows_from(
        "SELECT 'trader' || (i % 20) AS trader_id, 'symbol' || (i % 10) AS symbol, 10.0::DOUBLE AS price, 2 AS quantity, "
        "make_timestamp((1700000000 + i) * 1000000) AS event_time FROM range(5000) AS r(i)"
    )
    sql = """SELECT trader_id, symbol, COUNT(*) as trade_count, AVG(price) as avg_price, SUM(quantity) as total_quantity,
        SUM(price * quantity) as total_value FROM market_data GROUP BY trader_id, symbol WINDOW TUMBLING(event_time, 1m)"""
    with engine.holding([fixed("market_data", rows, "source")], run.executor):
        answer = engine.answer(sql, run)
    assert Counter(answer["trade_count"].to_pylist()) == {3: 1640, 2: 40}
    assert sum(answer["total_value"].to_pylist()) == 100_000.0


def test_missing_columns_are_named(engine: Engine) -> None:
    """A column that FROM does not have is a BindError with its name and place."""
    with (
        engine.holding([fixed("market_data", rows_from("SELECT 1 AS volume"), "source")], "thread"),
        pytest.raises(streamq.BindError, match="hourly_avg_volume") as raised,
    ):
        engine.answer("SELECT volume\nFROM market_data\nWHERE volume > hourly_avg_volume * 2.0", Run())
    assert raised.value.line == 3


def test_malformed_text_is_a_syntax_error_with_its_place(engine: Engine) -> None:
    """The error says line and column, and the database goes on."""
    with pytest.raises(streamq.SqlSyntaxError) as raised:
        engine.answer("SELECT malformed syntax here...", Run())
    assert (raised.value.line, raised.value.column) >= (1, 8)
    assert rows_of(engine.answer("SELECT 1 AS one", Run())) == [(1,)]


def test_ungrouped_column_is_explained(engine: Engine) -> None:
    """A bare column beside aggregates is a BindError that says how to write it, and so written it runs."""
    rows = rows_from(
        "SELECT 'd' AS device_id, 's' AS sensor_type, TIMESTAMP '2024-05-01 10:05:30' AS event_time, 5.0::DOUBLE AS value "
        "UNION ALL SELECT 'd', 's', TIMESTAMP '2024-05-01 10:05:00' + to_milliseconds(i), 1.0::DOUBLE FROM range(20) AS r(i)"
    )
    sql = """SELECT device_id, sensor_type, SLIDING(event_time, INTERVAL '10' MINUTE, INTERVAL '1' MINUTE) as window,
        AVG(value) as avg_value, STDDEV(value) as stddev_value, COUNT(*) as sample_count, ({value} - AVG(value)) / STDDEV(value) as z_score
    FROM sensor_readings GROUP BY device_id, sensor_type, SLIDING(event_time, INTERVAL '10' MINUTE, INTERVAL '1' MINUTE)
    HAVING ABS(({value} - AVG(value)) / STDDEV(value)) > 3.0  -- 3-sigma outliers"""
    with engine.holding([fixed("sensor_readings", rows, "source")], "thread"):
        with pytest.raises(streamq.BindError, match="value") as raised:
            engine.answer(sql.format(value="value"), Run())
        answer = engine.answer(sql.format(value="MAX(value)"), Run())
    assert raised.value.hint
    starts = sorted(window["start"] for window in answer["window"].to_pylist())
    assert starts == [dt.datetime(2024, 5, 1, 9, 56) + dt.timedelta(minutes=m) for m in range(10)]
    assert set(answer["sample_count"].to_pylist()) == {21}
