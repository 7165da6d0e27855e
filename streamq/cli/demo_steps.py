"""What the demonstration shows: queries over the flights, each with a title and a remark."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """A query to show. At most `rows` rows of its answer are drawn; all are read. `shares` draws what each worker read, too."""

    title: str
    remark: str
    sql: str
    rows: int = 8
    shares: bool = False


SCAN = Step(
    "A parallel scan",
    "Workers read row groups side by side; batches arrive while they still read.",
    """\
SELECT time_hour, carrier, origin, dest, dep_delay, distance
FROM flights""",
    rows=4,
    shares=True,
)

PRUNED = Step(
    "The same with a filter",
    "The statistics in the file rule out most row groups; those are never read.",
    """\
SELECT time_hour, carrier, flight, origin, dest, dep_delay
FROM flights
WHERE time_hour >= TIMESTAMP '2013-07-01'
  AND time_hour < TIMESTAMP '2013-07-15' AND dep_delay > 360
ORDER BY time_hour, flight""",
    rows=4,
)

AGGREGATE = Step(
    "An aggregate in two phases",
    "Every worker aggregates what it reads; the partial results are merged exactly.",
    """\
SELECT origin, count(*) AS flights, sum(distance) AS miles,
       max(dep_delay) AS worst, round(avg(dep_delay), 1) AS mean_delay,
       round(stddev(dep_delay), 1) AS spread
FROM flights
GROUP BY origin
ORDER BY flights DESC""",
)

JOIN = Step(
    "Joins: airlines and planes",
    "The small tables go to every worker.",
    """\
SELECT a.name AS airline, count(*) AS flights,
       round(avg(2013 - p.year), 1) AS plane_age,
       round(avg(f.arr_delay), 1) AS arrival_delay
FROM flights f
JOIN airlines a ON a.carrier = f.carrier
JOIN planes p ON p.tailnum = f.tailnum
GROUP BY a.name
ORDER BY flights DESC
LIMIT 5""",
)

WEATHER = Step(
    "A join by place and hour: the weather",
    "Does fog delay flights?",
    """\
SELECT CASE WHEN w.visib >= 10 THEN '10 miles'
            WHEN w.visib >= 3 THEN '3 to 10'
            ELSE 'under 3' END AS visibility,
       count(*) AS flights, round(avg(f.dep_delay), 1) AS mean_delay,
       round(100 * avg((f.dep_delay > 60)::INT), 1) AS percent_late
FROM flights f
JOIN weather w ON w.origin = f.origin AND w.time_hour = f.time_hour
GROUP BY visibility
ORDER BY mean_delay""",
)

TUMBLE = Step(
    "Time windows: the worst days",
    "TUMBLE puts every flight into the one window of its day.",
    """\
SELECT window_start::DATE AS day, count(*) AS flights,
       count(*) FILTER (WHERE dep_time IS NULL) AS cancelled,
       round(avg(dep_delay), 1) AS mean_delay
FROM TUMBLE(flights, time_hour, INTERVAL '1' DAY)
GROUP BY window_start
ORDER BY mean_delay DESC
LIMIT 5""",
)

HOP = Step(
    "Overlapping windows: the busiest six hours",
    "HOP puts every flight into the six windows that cover its hour.",
    """\
SELECT window_start, window_end, count(*) AS flights
FROM HOP(flights, time_hour, INTERVAL '1' HOUR, INTERVAL '6' HOUR)
GROUP BY window_start, window_end
ORDER BY flights DESC, window_start
LIMIT 5""",
)

SESSION = Step(
    "Sessions: planes without a rest",
    "A session lasts while the same plane leaves New York again within 12 hours.",
    """\
SELECT tailnum, SESSION(time_hour, INTERVAL '12' HOUR).start AS departed,
       count(*) AS departures, sum(distance) AS miles
FROM flights
WHERE tailnum IS NOT NULL
GROUP BY tailnum, SESSION(time_hour, INTERVAL '12' HOUR)
ORDER BY departures DESC, departed
LIMIT 5""",
)

TOP = Step(
    "A global top 5",
    "Every worker keeps its own top 5; the merge takes the best of them.",
    """\
SELECT f.time_hour::DATE AS day, a.name AS airline, f.dest,
       f.dep_delay, f.arr_delay
FROM flights f
JOIN airlines a ON a.carrier = f.carrier
WHERE f.arr_delay IS NOT NULL
ORDER BY f.arr_delay DESC
LIMIT 5""",
)

RANK = Step(
    "A global rank over windows",
    "RANK compares all weeks of the year, wherever they were aggregated.",
    """\
SELECT rank() OVER (ORDER BY avg(arr_delay) DESC) AS rank,
       window_start::DATE AS week, count(*) AS flights,
       round(avg(arr_delay), 1) AS mean_delay
FROM TUMBLE(flights, time_hour, INTERVAL '7' DAY)
GROUP BY window_start
ORDER BY rank
LIMIT 5""",
)

STEPS = (SCAN, PRUNED, AGGREGATE, JOIN, WEATHER, TUMBLE, HOP, SESSION, TOP, RANK)

EXPLAINED = Step(
    "EXPLAIN ANALYZE",
    "How a query runs and why, what every worker executes, and what that took.",
    """\
SELECT origin, count(*) AS flights, round(avg(dep_delay), 1) AS mean_delay
FROM flights
WHERE month = 7
GROUP BY origin""",
)

ENDLESS = Step(
    "A query that is let go",
    "All pairs of flights to the same airport: three billion rows. We read a few.",
    """\
SELECT a.carrier, a.flight, b.carrier AS carrier_2, b.flight AS flight_2
FROM flights a
JOIN flights b ON a.dest = b.dest""",
)

# The live part: rows are pushed in the order in which flights really left, while these queries follow.

DEPARTURES = "departures"
OBSERVATIONS = "observations"

LIVE_SOURCES = (
    f"""\
CREATE SOURCE {DEPARTURES} (time_hour TIMESTAMP, origin VARCHAR, carrier VARCHAR, dep_delay BIGINT,
                          WATERMARK FOR time_hour AS time_hour - INTERVAL '2' HOUR)""",
    f"""\
CREATE SOURCE {OBSERVATIONS} (time_hour TIMESTAMP, origin VARCHAR, visib DOUBLE, precip DOUBLE,
                            WATERMARK FOR time_hour AS time_hour)""",
)

MONTH = "2013-07-01", "2013-08-01"
"""From its start to its end."""

FLIGHTS_AS_THEY_LEFT = """\
SELECT time_hour, origin, carrier, dep_delay,
       date_trunc('hour', time_hour
         + to_minutes(greatest(coalesce(dep_delay, 0), 0)::BIGINT + minute::BIGINT)) AS at
FROM flights
WHERE time_hour >= $start AND time_hour < $stop
ORDER BY at, time_hour, flight, carrier"""

WEATHER_AS_IT_WAS = """\
SELECT time_hour, origin, visib, precip, time_hour AS at
FROM weather
WHERE time_hour >= $start AND time_hour < $stop
ORDER BY time_hour, origin"""

REPLAYED = ((OBSERVATIONS, WEATHER_AS_IT_WAS), (DEPARTURES, FLIGHTS_AS_THEY_LEFT))
"""What is pushed into each source; `at` is the hour in which it happened."""

LIVE_TITLE = "Live: July 2013, replayed"
LIVE_REMARK = "Flights are pushed in the order in which they left, with the weather. Continuous queries follow."

WORST = Step(
    "The worst airlines so far, by minutes of delay",
    "EMIT CHANGES: rows come and go as the top 5 changes.",
    """\
SELECT a.name AS airline, count(*) AS flights, round(avg(f.dep_delay), 1) AS delay
FROM departures f
JOIN airlines a ON a.carrier = f.carrier
GROUP BY a.name HAVING count(*) >= 20
ORDER BY delay DESC LIMIT 5
EMIT CHANGES""",
    rows=5,
)

BY_WEATHER = Step(
    "By the weather of the hour",
    "EMIT CHANGES: a join of two streams, grouped.",
    """\
SELECT CASE WHEN w.visib < 3 THEN 'fog' WHEN w.precip > 0 THEN 'rain'
            WHEN w.visib < 10 THEN 'haze' ELSE 'clear' END AS weather,
       count(*) AS flights, round(avg(f.dep_delay), 1) AS delay
FROM departures f
JOIN observations w ON w.origin = f.origin AND w.time_hour = f.time_hour
GROUP BY weather
EMIT CHANGES""",
    rows=5,
)

DAYS = Step(
    "Days that are over",
    "EMIT FINAL: each day once, when the watermark has passed its end.",
    """\
SELECT window_start::DATE AS day, origin, count(*) AS flights,
       count(*) FILTER (WHERE dep_delay IS NULL) AS cancelled,
       round(avg(dep_delay), 1) AS delay
FROM TUMBLE(departures, time_hour, INTERVAL '1' DAY)
GROUP BY window_start, origin
EMIT FINAL""",
    rows=6,
)

LIVE = (WORST, BY_WEATHER, DAYS)
