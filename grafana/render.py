"""Dashboards as the JSON that Grafana reads."""

from __future__ import annotations

from itertools import count
from typing import assert_never

from grafana_foundation_sdk.builders import common, stat, timeseries
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import BigValueGraphMode, LegendDisplayMode, StackingMode, TooltipDisplayMode
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    VariableOption,
    VariableRefresh,
    VariableSort,
)

from grafana.panels import Dashboard, Line, Panel
from streamq.metrics.definitions import QUERIES_RUNNING

SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
TAG = "streamq"
HEIGHT = 8


def dashboard_json(dashboard: Dashboard) -> str:
    """Give the text of a dashboard's file."""
    built = (
        build.Dashboard(dashboard.title)
        .uid(dashboard.name)
        .description(dashboard.text)
        .tags([TAG])
        .refresh("10s")
        .time("now-1h", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(
            build.DashboardLink("streamq")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(True)
            .keep_time(True)
            .include_vars(True)
        )
        .with_variable(build.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(_instances())
    )
    numbers = count(1)
    for row in dashboard.rows:
        built.with_row(build.Row(row.title).id(next(numbers)))
        for panel in row.panels:
            built.with_panel(_panel(panel).id(next(numbers)))
    return JSONEncoder(sort_keys=True, indent=2, ensure_ascii=False).encode(built.build()) + "\n"


def _instances() -> build.QueryVariable:
    query: dict[str, object] = {"query": f"label_values({QUERIES_RUNNING}, instance)", "refId": "instances"}
    return (
        build.QueryVariable("instance")
        .label("Service")
        .datasource(SOURCE)
        .query(query)
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def _panel(panel: Panel) -> timeseries.Panel | stat.Panel:
    built: timeseries.Panel | stat.Panel
    match panel.form:
        case "number":
            last = common.ReduceDataOptions().calcs(["lastNotNull"])
            built = stat.Panel().graph_mode(BigValueGraphMode.AREA).reduce_options(last).height(HEIGHT // 2)
        case "lines" | "areas":
            built = _over_time(panel.form == "areas").height(HEIGHT)
        case _:
            assert_never(panel.form)
    built.title(panel.title).description(panel.text).datasource(SOURCE).span(panel.width).unit(panel.unit)
    for letter, line in zip("ABCDEFGH", panel.lines, strict=False):
        built.with_target(_target(letter, line))
    return built


def _over_time(stacked: bool) -> timeseries.Panel:
    built = timeseries.Panel().min(0).fill_opacity(30 if stacked else 0)
    if stacked:
        built.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    tooltip = common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI)
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).show_legend(True)
    return built.tooltip(tooltip).legend(legend)


def _target(letter: str, line: Line) -> Dataquery:
    return Dataquery().ref_id(letter).expr(line.expression.text).legend_format(line.legend).range()
