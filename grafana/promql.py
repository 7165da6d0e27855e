"""PromQL expressions over streamq's metrics. An expression knows which metrics it reads, and what its unit is in Grafana."""

from __future__ import annotations

from dataclasses import dataclass, replace

from streamq.metrics.definitions import Metric, Unit

UNITS: dict[Unit, str] = {"seconds": "s", "bytes": "bytes", "rows": "short", "count": "short"}
RATES: dict[Unit, str] = {"seconds": "short", "bytes": "Bps", "rows": "rowsps", "count": "cps"}


@dataclass(frozen=True, slots=True)
class Expression:
    """A text in PromQL, the metrics in it, and the unit of its values by Grafana's names. `whole` ones need no parentheses."""

    text: str
    metrics: frozenset[Metric]
    unit: str
    whole: bool = True

    def __truediv__(self, other: Expression) -> Expression:
        """Divide by another expression with the same labels."""
        return self._with("/", other, "percentunit" if self.unit == other.unit else "short")

    def __add__(self, other: Expression) -> Expression:
        """Add another expression with the same labels."""
        return self._with("+", other, self.unit)

    def above(self, bound: float) -> Expression:
        """Keep what is above a bound."""
        return replace(self, text=f"{self._operand()} > {bound:g}", whole=False)

    def of_unit(self, unit: str) -> Expression:
        """Say what the values are, where that does not follow from the metrics."""
        return replace(self, unit=unit)

    def _with(self, operator: str, other: Expression, unit: str) -> Expression:
        return Expression(f"{self._operand()} {operator} {other._operand()}", self.metrics | other.metrics, unit, whole=False)

    def _operand(self) -> str:
        return self.text if self.whole else f"({self.text})"


@dataclass(frozen=True, slots=True)
class Scope:
    """Which series are read (a label matcher, or none), over what time rates are, and which labels always stay."""

    matcher: str
    window: str
    keep: tuple[str, ...] = ()

    def value(self, metric: Metric, *by: str, **labels: str) -> Expression:
        """Add up what a gauge is now."""
        return self._of(metric, f"sum{self._by(by)} ({self._series(metric.name, labels)})", UNITS[metric.unit])

    def largest(self, metric: Metric, *by: str, **labels: str) -> Expression:
        """Take the largest of what a gauge is now."""
        return self._of(metric, f"max{self._by(by)} ({self._series(metric.name, labels)})", UNITS[metric.unit])

    def rate(self, metric: Metric, *by: str, **labels: str) -> Expression:
        """Tell by how much a counter grows in a second."""
        return self._of(metric, f"sum{self._by(by)} (rate({self._series(metric.name, labels)}[{self.window}]))", RATES[metric.unit])

    def grown(self, metric: Metric, window: str, *by: str, **labels: str) -> Expression:
        """Tell by how much a counter has grown in a time."""
        return self._of(metric, f"sum{self._by(by)} (increase({self._series(metric.name, labels)}[{window}]))", UNITS[metric.unit])

    def quantile(self, share: float, metric: Metric, *by: str, **labels: str) -> Expression:
        """Tell below what a share of the values of a histogram is."""
        series = self._series(f"{metric.name}_bucket", labels)
        rates = f"sum{self._by(('le', *by))} (rate({series}[{self.window}]))"
        return self._of(metric, f"histogram_quantile({share:g}, {rates})", UNITS[metric.unit])

    def frequency(self, metric: Metric, *by: str, **labels: str) -> Expression:
        """Tell how many values a histogram gets in a second."""
        series = self._series(f"{metric.name}_count", labels)
        return self._of(metric, f"sum{self._by(by)} (rate({series}[{self.window}]))", RATES["count"])

    def _of(self, metric: Metric, text: str, unit: str) -> Expression:
        return Expression(text, frozenset({metric}), unit)

    def _series(self, name: str, labels: dict[str, str]) -> str:
        matchers = [*([self.matcher] if self.matcher else []), *(_matcher(label, value) for label, value in labels.items())]
        return f"{name}{{{','.join(matchers)}}}" if matchers else name

    def _by(self, labels: tuple[str, ...]) -> str:
        kept = (*labels, *self.keep)
        return f" by ({', '.join(kept)})" if kept else ""


def _matcher(label: str, value: str) -> str:
    return f'{label}=~"{value}"' if "|" in value else f'{label}="{value}"'


DASHBOARD = Scope('instance=~"$instance"', "$__rate_interval")
"""What panels read: the services that are chosen, over as much time as a point stands for."""
ALERT = Scope("", "5m", keep=("instance",))
"""What rules read: each service by itself."""
