"""All generated files, with their text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from grafana.alerts import ALERTS, JOB, Alert
from grafana.continuous_queries import CONTINUOUS_QUERIES
from grafana.overview import OVERVIEW
from grafana.panels import Dashboard
from grafana.render import TAG, dashboard_json
from grafana.slow_queries import SLOW_QUERIES
from grafana.workers import WORKERS

GENERATED = Path(__file__).with_name("generated")
DASHBOARDS: tuple[Dashboard, ...] = (OVERVIEW, SLOW_QUERIES, CONTINUOUS_QUERIES, WORKERS)
NOTE = "# Written by `python -m grafana`: change what is there, not this file.\n"

SCRAPING = f"""{NOTE}
global:
  scrape_interval: 15s
rule_files:
  - alerts.yaml
scrape_configs:
  - job_name: {JOB}
    static_configs:
      - targets: ["127.0.0.1:8471"]
    # Where the service wants tokens, one with the right to read:
    # authorization:
    #   credentials_file: /etc/prometheus/streamq.token
"""
DATA_SOURCE = f"""{NOTE}
apiVersion: 1
datasources:
  - name: Prometheus
    type: prometheus
    access: proxy
    url: http://127.0.0.1:9090
    isDefault: true
    jsonData:
      timeInterval: 15s
"""
PROVIDER = f"""{NOTE}
apiVersion: 1
providers:
  - name: {TAG}
    folder: {TAG}
    type: file
    options:
      path: /var/lib/grafana/dashboards/{TAG}
"""


def files() -> Mapping[str, str]:
    """Give the text of every file, by its path in the directory of generated files."""
    return {
        **{f"dashboards/{dashboard.name}.json": dashboard_json(dashboard) for dashboard in DASHBOARDS},
        "provisioning/dashboards/streamq.yaml": PROVIDER,
        "provisioning/datasources/prometheus.yaml": DATA_SOURCE,
        "prometheus/alerts.yaml": rules(),
        "prometheus/prometheus.yaml": SCRAPING,
    }


def rules() -> str:
    """Give the rules as Prometheus reads them."""
    return NOTE + "\ngroups:\n  - name: streamq\n    rules:\n" + "".join(map(_rule, ALERTS))


def _rule(alert: Alert) -> str:
    return (
        f"      - alert: {alert.name}\n"
        f"        expr: {_text(alert.expression.text)}\n"
        f"        for: {alert.after}\n"
        f"        labels: {{severity: {alert.severity}}}\n"
        f"        annotations:\n"
        f"          summary: {_text(alert.summary)}\n"
        f"          description: {_text(alert.advice)}\n"
    )


def _text(text: str) -> str:
    """Quote a text: what JSON has is YAML too."""
    return json.dumps(text, ensure_ascii=False)
