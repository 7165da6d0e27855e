"""Queries over time windows and time bounds with late rows, each beside what it means.

The oracle judges every row by the rule itself: the watermark before a row is the largest event time of the rows before it,
in order of insertion, less the delay. What is late is left out; the windows are then spelt out in plain SQL.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import strategies as st

from tests.law.law import Query

Shape = Callable[[st.DrawFn, "Times"], Query]


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds: the sources' delay, the query's lateness, a window's size, slide and session gap."""

    delay: int
    lateness: int
    size: int
    slide: int
    gap: int

    @property
    def options(self) -> str:
        """The lateness, as a query says it."""
        return f" WITH (lateness = INTERVAL '{self.lateness}' SECOND)" if self.lateness else ""

    def judged(self, source: str) -> str:
        """The rows of a source with `late_at`: what is over by then is too late."""
        watermark = "max(ts) OVER (ORDER BY n ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)"
        numbered = f"(SELECT *, row_number() OVER () AS n FROM {source})"
        return f"(SELECT *, {watermark} - to_seconds({self.delay + self.lateness}) AS late_at FROM {numbered})"

    def kept_rows(self, source: str) -> str:
        """The rows that are not late by their own time; those without a time are not."""
        return f"(SELECT * FROM {self.judged(source)} WHERE ts IS NULL OR late_at IS NULL OR ts >= late_at)"

    def hops(self, source: str, slide: int) -> str:
        """The rows, once for each of their windows that is not over."""
        start = f"time_bucket(INTERVAL '{slide} seconds', ts, TIMESTAMP '1970-01-01') - to_seconds(p.j * {slide})"
        rows = (
            f"(SELECT j.*, {start} AS window_start, {start} + to_seconds({self.size}) AS window_end "
            f"FROM {self.judged(source)} AS j, range({self.size // slide}) AS p(j) WHERE ts IS NOT NULL)"
        )
        return f"(SELECT * EXCLUDE (n, late_at) FROM {rows} WHERE late_at IS NULL OR window_end > late_at) AS w"

    def sessions(self, source: str) -> str:
        """The rows with the bounds of their session."""
        new = f"CASE WHEN ts - lag(ts) OVER (PARTITION BY k ORDER BY ts, n) <= to_seconds({self.gap}) THEN 0 ELSE 1 END"
        numbered = f"(SELECT *, {new} AS is_new FROM {self.kept_rows(source)} WHERE ts IS NOT NULL)"
        grouped = f"(SELECT *, sum(is_new) OVER (PARTITION BY k ORDER BY ts, n) AS session FROM {numbered})"
        bounds = (
            f"min(ts) OVER (PARTITION BY k, session) AS window_start, "
            f"max(ts) OVER (PARTITION BY k, session) + to_seconds({self.gap}) AS window_end"
        )
        return f"(SELECT *, {bounds} FROM {grouped}) AS w"


times = st.builds(
    lambda delay, lateness, slide, factor, gap: Times(delay, lateness, slide * factor, slide, gap),
    st.sampled_from([0, 10, 60]),
    st.sampled_from([0, 0, 20]),
    st.sampled_from([30, 60]),
    st.integers(1, 3),
    st.sampled_from([10, 30]),
)


def _window(draw: st.DrawFn, t: Times) -> tuple[str, str]:
    """A window table function over `t`, and what it means."""
    if draw(st.booleans()):
        return f"TUMBLE(t, ts, INTERVAL '{t.size}' SECOND)", t.hops("t", t.size)
    return f"HOP(t, ts, INTERVAL '{t.slide}' SECOND, INTERVAL '{t.size}' SECOND)", t.hops("t", t.slide)


def _both(sql: str, window: tuple[str, str], t: Times) -> Query:
    return Query(sql.format(window[0]) + t.options, oracle=sql.format(window[1]))


def grouped(draw: st.DrawFn, t: Times) -> Query:
    """Aggregates by key and window."""
    sql = draw(
        st.sampled_from(
            [
                "SELECT k, window_start, window_end, count(*) AS n, sum(v) AS s, min(v) AS lo, max(id) AS hi FROM {} GROUP BY ALL",
                "SELECT window_end, count(*) AS n FROM {} GROUP BY window_end",
                "SELECT k, window_start, max(window_end - ts) AS far, count(*) AS n FROM {} GROUP BY 1, 2",
                "SELECT window_start, count(*) AS n FROM {} WHERE epoch_us(window_start) % 60000000 = 0 GROUP BY 1",
                "SELECT k, b, count(v) AS n, sum(id) FILTER (WHERE v > 0) AS s FROM (SELECT window_start AS b, * FROM {}) GROUP BY 1, 2",
                "SELECT window_start, k, avg(v) AS a FROM {} WHERE v > 0 GROUP BY 1, 2 HAVING count(*) > 1",
                "SELECT k, count(DISTINCT v) AS d, window_start FROM {} GROUP BY k, window_start, window_end",
                "SELECT window_start, array_agg(id ORDER BY id) AS ids FROM {} GROUP BY window_start",
            ]
        )
    )
    return _both(sql, _window(draw, t), t)


def rows(draw: st.DrawFn, t: Times) -> Query:
    """Rows with their windows, and the windows alone."""
    sql = draw(
        st.sampled_from(
            ["SELECT id, window_start, window_end FROM {}", "SELECT DISTINCT window_start, k FROM {}", "SELECT DISTINCT window_end FROM {}"]
        )
    )
    return _both(sql, _window(draw, t), t)


def ranked(draw: st.DrawFn, t: Times) -> Query:
    """The first of each window, before or after an aggregation."""
    sql = draw(
        st.sampled_from(
            [
                "SELECT window_start, k, count(*) AS n, rank() OVER (PARTITION BY window_start ORDER BY count(*) DESC) AS r "
                "FROM {} GROUP BY window_start, k",
                "SELECT window_start, k, n FROM (SELECT window_start, k, count(*) AS n FROM {} GROUP BY 1, 2) "
                "QUALIFY row_number() OVER (PARTITION BY window_start ORDER BY n DESC, k) <= 2",
                "SELECT window_end, id, row_number() OVER (PARTITION BY window_end ORDER BY v, id) AS r FROM {}",
                "SELECT window_start, max(n) AS most, count(*) AS keys "
                "FROM (SELECT window_start, k, count(*) AS n FROM {} GROUP BY 1, 2) GROUP BY 1",
            ]
        )
    )
    return _both(sql, _window(draw, t), t)


def sessions(draw: st.DrawFn, t: Times) -> Query:
    """Sessions by key."""
    calls = draw(st.sampled_from(["count(*) AS n", "count(*) AS n, sum(v) AS s", "min(id) AS lo, max(v) AS hi, count(v) AS n"]))
    having = draw(st.sampled_from(["", " HAVING count(*) > 1"]))
    session = f"SESSION(ts, INTERVAL '{t.gap}' SECOND)"
    ours = f"SELECT k, {session}.start AS a, {session}.end AS b, {calls} FROM t GROUP BY k, {session}{having}"
    means = f"SELECT k, window_start AS a, window_end AS b, {calls} FROM {t.sessions('t')} GROUP BY k, window_start, window_end{having}"
    return Query(ours + t.options, oracle=means)


def interval_join(draw: st.DrawFn, t: Times) -> Query:
    """Two sources, rows of a key within a time of each other."""
    bound = f"u.ts BETWEEN t.ts - INTERVAL '{t.gap}' SECOND AND t.ts + INTERVAL '{t.slide}' SECOND"
    kind = draw(st.sampled_from(["JOIN", "JOIN", "LEFT JOIN", "FULL JOIN"]))
    sql = f"SELECT t.id AS a, u.id AS b, t.k AS k FROM {{}} {kind} {{}} ON t.k = u.k AND {bound}"
    kept = (f"{t.kept_rows(name)} AS {name}" for name in ("t", "u"))
    return Query(sql.format("t", "u") + t.options, oracle=sql.format(*kept))


SHAPES: tuple[Shape, ...] = (grouped, rows, ranked, sessions, interval_join)
