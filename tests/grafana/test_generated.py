"""The generated files are those of the code, and show every metric."""

from __future__ import annotations

import json
from collections import Counter

import pytest

pytest.importorskip("grafana_foundation_sdk")

from grafana.alerts import ALERTS
from grafana.build import DASHBOARDS, GENERATED, files
from grafana.panels import Panel
from streamq.metrics.definitions import METRICS

LEFT_OUT: dict[str, str] = {}
"""Metrics that no panel shows, with the reason."""
PANELS = [pytest.param(panel, id=f"{board.name}: {panel.title}") for board in DASHBOARDS for panel in board.panels()]


def test_the_files_are_up_to_date() -> None:
    """`python -m grafana` would change nothing."""
    there = {path.relative_to(GENERATED).as_posix(): path.read_text(encoding="utf-8") for path in GENERATED.rglob("*") if path.is_file()}
    assert there == files()


def test_every_metric_is_on_a_panel() -> None:
    """Or it is said why not; and no panel reads anything else."""
    shown = {metric for board in DASHBOARDS for panel in board.panels() for line in panel.lines for metric in line.expression.metrics}
    assert {metric.name for metric in METRICS} - {metric.name for metric in shown} == LEFT_OUT.keys()
    assert shown <= set(METRICS)


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_says_what_it_shows(panel: Panel) -> None:
    """It has a text; its lines have one unit; a legend has only labels that the expression keeps."""
    assert panel.text.endswith(".")
    assert panel.unit
    for line in panel.lines:
        for label in line.legend.split("{{")[1:]:
            assert label.split("}}")[0] in line.expression.text


def test_names_of_dashboards_and_panels_are_unique() -> None:
    """Links and people tell them apart."""
    assert len({board.name for board in DASHBOARDS}) == len(DASHBOARDS)
    for board in DASHBOARDS:
        titles = Counter(panel.title for row in board.rows for panel in row.panels)
        assert titles.most_common(1)[0][1] == 1


@pytest.mark.parametrize("name", sorted(name for name in files() if name.endswith(".json")))
def test_a_dashboard_can_be_shown_anywhere(name: str) -> None:
    """It has no data source of its own, panels of its own number, and none upon another."""
    board = json.loads(files()[name])
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    taken: Counter[tuple[int, int]] = Counter()
    for panel in board["panels"]:
        assert panel["type"] == "row" or panel["datasource"]["uid"] == "${datasource}"
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        taken.update((x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"]))
    assert set(taken.values()) == {1}


def test_alerts_say_what_to_do() -> None:
    """Each has a name of its own and an advice."""
    assert len({alert.name for alert in ALERTS}) == len(ALERTS)
    for alert in ALERTS:
        assert alert.name.startswith("Streamq")
        assert alert.advice.endswith(".")
        assert alert.expression.metrics <= set(METRICS)
