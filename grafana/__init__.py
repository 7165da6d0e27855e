"""Dashboards and alerts for streamq, as code.

``python -m grafana`` writes what is in ``grafana/generated``: dashboards for Grafana, the files that provision them, and rules for
Prometheus. Everything is made from the definitions in `streamq.metrics.definitions`, so no panel can name a metric that does not exist.

- `promql`: expressions that know which metrics they read;
- `panels`: what a dashboard consists of, as data; `overview`, `slow_queries`, `continuous_queries`, `workers` are the dashboards;
- `alerts`: the rules;
- `build`: all files with their text.
"""
