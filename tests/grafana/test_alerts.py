"""When each alert fires, and what it then says: numbers of an hour, as Prometheus's own tester reads them."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("grafana_foundation_sdk")

from grafana.alerts import ALERTS
from grafana.build import GENERATED
from tests.grafana.prometheus import PATIENCE_S, Programs

AT = "45m"
"""Later than any alert waits."""


@dataclass(frozen=True, slots=True)
class Case:
    """Series that make an alert fire, as ``a+bxn``: a, then b more each minute. Then it says `summary`. `well` are series that do not."""

    alert: str
    series: dict[str, str]
    well: dict[str, str]
    summary: str
    labels: tuple[tuple[str, str], ...] = ()


BUCKETS = ("1.0", "5.0", "10.0", "+Inf")
CASES = (
    Case(
        "StreamqDown", {"up{job='streamq'}": "0x60"}, {"up{job='streamq'}": "1x60"}, "streamq on a does not answer", (("job", "streamq"),)
    ),
    Case(
        "StreamqRequestsFail",
        {"streamq_http_requests_total{code='503'}": "0+60x60", "streamq_http_requests_total{code='200'}": "0+60x60"},
        {"streamq_http_requests_total{code='503'}": "0+1x60", "streamq_http_requests_total{code='200'}": "0+60x60"},
        "50% of the requests to a are not served",
    ),
    Case(
        "StreamqQueriesFail",
        {"streamq_queries_total{outcome='failed'}": "0+60x60", "streamq_queries_total{outcome='completed'}": "0+540x60"},
        {"streamq_queries_total{outcome='failed'}": "0+1x60", "streamq_queries_total{outcome='completed'}": "0+540x60"},
        "10% of the queries on a fail or time out",
    ),
    Case(
        "StreamqClientsAreSlow",
        {"streamq_channel_bytes": "950x60", "streamq_channel_limit_bytes": "1000x60"},
        {"streamq_channel_bytes": "500x60", "streamq_channel_limit_bytes": "1000x60"},
        "Clients of a do not take their rows",
    ),
    Case(
        "StreamqResourceIsTaken",
        {"streamq_resource_used{resource='epoch_threads'}": "32x60", "streamq_resource_limit{resource='epoch_threads'}": "32x60"},
        {"streamq_resource_used{resource='epoch_threads'}": "31x60", "streamq_resource_limit{resource='epoch_threads'}": "32x60"},
        "All epoch_threads of a are taken, and queries wait for each other",
        (("resource", "epoch_threads"),),
    ),
    Case(
        "StreamqWorkersDie",
        {"streamq_worker_restarts_total{executor='process'}": "0x40 1x20"},
        {"streamq_worker_restarts_total{executor='process'}": "3x60"},
        "Workers of a died",
    ),
    Case(
        "StreamqWatermarkLags",
        {"streamq_watermark_lag_seconds": "720x60"},
        {"streamq_watermark_lag_seconds": "30x60"},
        "A watermark on a is 12m 0s behind the clock, and windows stay open",
    ),
    Case(
        "StreamqRowsAreLate",
        {"streamq_late_rows_total": "0+6x60", "streamq_rows_in_total{kind='continuous'}": "0+120x60"},
        {"streamq_late_rows_total": "0x60", "streamq_rows_in_total{kind='continuous'}": "0+120x60"},
        "5% of the rows on a come too late for their window",
    ),
    Case(
        "StreamqEpochsAreSlow",
        {f"streamq_epoch_duration_seconds_bucket{{le='{le}'}}": f"0+{0 if float(le) < 10 else 100}x60" for le in BUCKETS},
        {f"streamq_epoch_duration_seconds_bucket{{le='{le}'}}": "0+100x60" for le in BUCKETS},
        "An epoch takes 9.95s on a: changes are seen so much later",
    ),
    Case(
        "StreamqFollowersAreBehind",
        {"streamq_relation_behind_bytes{kind='source'}": f"{1 << 30}x60"},
        {"streamq_relation_behind_bytes{kind='source'}": "1024x60"},
        "A query on a is 1GiB behind its source",
        (("kind", "source"),),
    ),
    Case(
        "StreamqInsertsWait",
        {"streamq_insert_wait_seconds_total": "0+120x60"},
        {"streamq_insert_wait_seconds_total": "0+6x60"},
        "Inserts on a wait for queries that have not read what a retention would drop",
    ),
    Case(
        "StreamqStreamsAreDropped",
        {"streamq_dropped_streams_total": "0x30 2x30"},
        {"streamq_dropped_streams_total": "2x60"},
        "A program of a leaves streams open",
    ),
)


def test_each_alert_has_a_case() -> None:
    """In the same order."""
    assert [case.alert for case in CASES] == [alert.name for alert in ALERTS]


def test_alerts_fire_when_they_should(programs: Programs, tmp_path: Path) -> None:
    """And say what they should; they do not where all is well."""
    alerts = {alert.name: alert for alert in ALERTS}
    tests = []
    for case in CASES:
        alert = alerts[case.alert]
        labels = {"instance": "a", "severity": alert.severity, **dict(case.labels)}
        fired = {"exp_labels": labels, "exp_annotations": {"summary": case.summary, "description": alert.advice}}
        tests += [_test(case.alert, case.series, [fired]), _test(case.alert, case.well, [])]
    path = tmp_path / "tests.json"
    path.write_text(json.dumps({"rule_files": [str(GENERATED / "prometheus" / "alerts.yaml")], "tests": tests}))
    done = subprocess.run([programs.promtool, "test", "rules", str(path)], capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stdout + done.stderr


def _test(alert: str, series: dict[str, str], fired: list[dict[str, object]]) -> dict[str, object]:
    return {
        "interval": "1m",
        "input_series": [{"series": _of_instance(name), "values": values} for name, values in series.items()],
        "alert_rule_test": [{"eval_time": AT, "alertname": alert, "exp_alerts": fired}],
    }


def _of_instance(series: str) -> str:
    name, _, labels = series.partition("{")
    return f"{name}{{instance='a',{labels or '}'}"
