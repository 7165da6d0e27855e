"""Metrics and logs for other programs to read.

- `collector` gives the numbers of a database to ``prometheus_client``: those of `streamq.metrics.definitions`;
- `JsonFormatter` writes log records as JSON lines.
"""

from streamq.metrics.logs import JsonFormatter
from streamq.metrics.prometheus import SupportsStatistics, collector

__all__ = ["JsonFormatter", "SupportsStatistics", "collector"]
