"""The kinds of panels: what each looks like, on top of grafana-foundation-sdk's builders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    table,
    timeseries,
)
from grafana_foundation_sdk.models import common as common_model
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heatmap_model
from grafana_foundation_sdk.models import prometheus as prometheus_model

DATASOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")
GREEN, YELLOW, RED, BLUE, GREY, PURPLE = (
    "green",
    "orange",
    "red",
    "blue",
    "#8e8e8e",
    "purple",
)
NO_DATA = "no data"

# A series of these names is a limit or a comparison: a dashed line without an area.
_DASHED = {
    "warning": YELLOW,
    "critical": RED,
    "limit": RED,
    "target": GREEN,
    "needed": PURPLE,
    "yesterday": GREY,
}


@dataclass(frozen=True, slots=True)
class Ask:
    """One question of a panel.

    Attributes:
        expr: PromQL, with Grafana's variables.
        legend: Name of its series, with `{{label}}`.
        color: Fixed for its series; by Grafana's palette where None.
        right: Whether its axis is the right one, not stacked with the others.
        apart: Whether it is not stacked with the others, on the same axis.
    """

    expr: str
    legend: str = ""
    color: str | None = None
    right: bool = False
    apart: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """What every panel must say.

    Attributes:
        title: What it shows.
        text: What it means and what to do first.
        asks: Its questions.
        unit: A unit of Grafana.
        alerts: Alerts whose runbook it links to; at least one.
        width, height: In cells of the 24 columns.
        colors: Series name, or /regular expression/, to color.
        zero: Whether the axis starts at 0.
        decimals: Of the values; Grafana's choice where None.
        minimum_step: Shortest step between two points, for events that are rare.
    """

    title: str
    text: str
    asks: tuple[Ask, ...]
    unit: str
    alerts: tuple[str, ...]
    width: int = 8
    height: int = 8
    colors: Mapping[str, str] = field(default_factory=dict)
    zero: bool = True
    decimals: int | None = None
    minimum_step: str | None = None


def make_stat(
    panel: Panel,
    *,
    steps: Sequence[tuple[float | None, str]] = ((None, GREEN),),
    mappings: Sequence[Any] = (),
    names: bool = True,
    values: bool = True,
    warnings: Sequence[str] = (),
    empty: str = NO_DATA,
    empty_color: str = RED,
) -> Any:
    """A value, or a few beside each other, judged by color; red where there is none.

    Args:
        panel: What it shows; each series' last value.
        steps: From which value which color; the first value is None.
        mappings: From values to words.
        names: Whether the series are named; False where the value explains itself.
        values: Whether they have values; False where the names say it all.
        warnings: Names of series for which a bad value is orange, not red.
        empty, empty_color: What is shown where there is no series.
    """
    builder = _begin(stat.Panel(), panel, instant=True)
    mode = common_model.BigValueTextMode
    text_mode = mode.NAME if not values else mode.VALUE_AND_NAME if names else mode.VALUE
    for name in warnings:
        orange = [(value, YELLOW if color == RED else color) for value, color in steps]
        builder = builder.override_by_name(name, [_override_steps(orange)])
    return (
        builder.thresholds(_steps(steps))
        .mappings([*mappings, _no_value(empty, empty_color)])
        .no_value(empty)
        .color_mode(common_model.BigValueColorMode.BACKGROUND)
        .graph_mode(common_model.BigValueGraphMode.NONE)
        .justify_mode(common_model.BigValueJustifyMode.CENTER)
        .text_mode(text_mode)
        .orientation(common_model.VizOrientation.AUTO)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    )


def make_lines(panel: Panel, *, stacked: bool = False, bars: bool = False) -> Any:
    """Figures over time; a gap where there are none."""
    builder = _begin(timeseries.Panel(), panel)
    legend = (
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(common_model.LegendDisplayMode.LIST)
        .placement(common_model.LegendPlacement.BOTTOM)
    )
    tooltip = (
        common.VizTooltipOptions()
        .mode(common_model.TooltipDisplayMode.MULTI)
        .sort(common_model.SortOrder.DESCENDING)
    )
    styles = common_model.GraphDrawStyle
    builder = (
        builder.no_value(NO_DATA)
        .legend(legend)
        .tooltip(tooltip)
        .draw_style(styles.BARS if bars else styles.LINE)
        # A line on top of a stack would show a layer that is 0.
        .line_width(0 if bars or stacked else 2)
        .fill_opacity(80 if bars or stacked else 8)
        .show_points(common_model.VisibilityMode.NEVER)
        .span_nulls(False)
    )
    if stacked or bars:
        mode = common_model.StackingMode.NORMAL
        builder = builder.stacking(common.StackingConfig().mode(mode).group("A"))
    for name, color in _DASHED.items():
        if any(ask.legend == name for ask in panel.asks):
            builder = builder.override_by_name(name, [*_color(color), *_dashes(), *_unstacked()])
    for ask in panel.asks:
        if ask.right:
            right = model.DynamicConfigValue("custom.axisPlacement", "right")
            builder = builder.override_by_name(ask.legend, [right])
        if ask.right or ask.apart:
            line = [
                model.DynamicConfigValue("custom.lineWidth", 1),
                model.DynamicConfigValue("custom.fillOpacity", 0),
            ]
            builder = builder.override_by_name(ask.legend, [*line, *_unstacked()])
    return builder


def make_heatmap(panel: Panel) -> Any:
    """How a distribution moves; its question gives cumulative buckets by `le`."""
    builder = _begin(heatmap.Panel(), panel, format_val=prometheus_model.PromQueryFormat.HEATMAP)
    colors = (
        heatmap.HeatmapColorOptions()
        .mode(heatmap_model.HeatmapColorMode.SCHEME)
        .scheme("Oranges")
        .scale(heatmap_model.HeatmapColorScale.EXPONENTIAL)
        .exponent(0.5)
        .steps(64)
    )
    return (
        builder.no_value(NO_DATA)
        .calculate(False)
        .color(colors)
        .cell_values(heatmap.CellValues().unit("short").decimals(0))
        .y_axis(
            heatmap.YAxisConfig().unit(panel.unit).axis_placement(common_model.AxisPlacement.LEFT)
        )
        .filter_values(heatmap.FilterValueRange().le(1e-9))
        .show_legend()
    )


def make_bars(panel: Panel) -> Any:
    """One horizontal bar a series, as it is now."""
    builder = _begin(bargauge.Panel(), panel, instant=True)
    return (
        builder.no_value(NO_DATA)
        .orientation(common_model.VizOrientation.HORIZONTAL)
        .display_mode(common_model.BarGaugeDisplayMode.BASIC)
        .show_unfilled(True)
        .min_viz_height(14)
        .thresholds(_steps([(None, BLUE)]))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
    )


def make_table(
    panel: Panel,
    *,
    key: Sequence[str],
    columns: Sequence[str],
    judged: Mapping[str, Sequence[tuple[float | None, str]]],
    units: Mapping[str, str] | None = None,
    sort_by: str,
) -> Any:
    """One row a set of labels, one column a question.

    Args:
        panel: What it shows; its questions become the columns.
        key: Labels that make a row.
        columns: Names of the columns, in the order of the questions.
        judged: Column to its steps of color.
        units: Column to its unit where it is not the panel's.
        sort_by: Column whose highest value comes first.
    """
    table_format = prometheus_model.PromQueryFormat.TABLE
    builder = _begin(table.Panel(), panel, instant=True, format_val=table_format)
    names = {f"Value #{chr(65 + i)}": name for i, name in enumerate(columns)}
    organize = {
        "excludeByName": {"Time": True},
        "indexByName": {name: i for i, name in enumerate((*key, *names))},
        "renameByName": names,
    }
    builder = (
        builder.no_value(NO_DATA)
        .with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
        .with_transformation(model.DataTransformerConfig(id_val="organize", options=organize))
        .cell_height(common_model.TableCellHeight.SM)
        .sort_by([common.TableSortByFieldState().display_name(sort_by).desc(True)])
    )
    for column, steps in judged.items():
        properties = [
            _override_steps(steps),
            model.DynamicConfigValue("custom.cellOptions", {"type": "color-background"}),
        ]
        builder = builder.override_by_name(column, properties)
    for column, unit in (units or {}).items():
        builder = builder.override_by_name(column, [model.DynamicConfigValue("unit", unit)])
    return builder


def words(values: Mapping[str, tuple[str, str]]) -> Any:
    """Map values to a word and its color."""
    return model.ValueMap(
        options={
            value: model.ValueMappingResult(text=text, color=color, index=i)
            for i, (value, (text, color)) in enumerate(values.items())
        }
    )


def never() -> model.RangeMap:
    """Map what takes longer than a year, infinity too, to a word."""
    options = model.DashboardRangeMapOptions(
        from_val=365 * 86_400.0,
        to=None,
        result=model.ValueMappingResult(text="never", color=RED, index=0),
    )
    return model.RangeMap(options=options)


def _begin(
    builder: Any,
    panel: Panel,
    *,
    instant: bool = False,
    format_val: prometheus_model.PromQueryFormat = prometheus_model.PromQueryFormat.TIME_SERIES,
) -> Any:
    """Title, text, questions, unit and links, alike in every kind."""
    builder = (
        builder.title(panel.title)
        .description(panel.text)
        .datasource(DATASOURCE)
        .unit(panel.unit)
        .span(panel.width)
        .height(panel.height)
        .links([link_to_runbook(alert) for alert in panel.alerts])
    )
    if panel.decimals is not None:
        builder = builder.decimals(panel.decimals)
    if panel.minimum_step is not None:
        builder = builder.interval(panel.minimum_step)
    if panel.zero and not instant and hasattr(builder, "min"):
        builder = builder.min(0)
    for letter, ask in zip("ABCDEFGH", panel.asks, strict=False):
        query = (
            prometheus.Dataquery()
            .ref_id(letter)
            .datasource(DATASOURCE)
            .editor_mode(prometheus_model.QueryEditorMode.CODE)
            .expr(ask.expr)
            .legend_format(ask.legend)
            .format(format_val)
        )
        builder = builder.with_target(query.instant() if instant else query.range())
        if ask.color is not None:
            builder = builder.override_by_name(ask.legend, _color(ask.color))
    for name, color in panel.colors.items():
        override = builder.override_by_regexp if name.startswith("/") else builder.override_by_name
        builder = override(name, _color(color))
    return builder


def link_to_runbook(alert: str) -> dashboard.DashboardLink:
    """A link to an alert's section of the runbooks, wherever the variable says they are."""
    return (
        dashboard.DashboardLink(f"What to do: {alert}")
        .type(model.DashboardLinkType.LINK)
        .url(f"${{runbooks}}#{alert.lower()}")
        .target_blank(True)
    )


def _steps(steps: Iterable[tuple[float | None, str]]) -> dashboard.ThresholdsConfig:
    listed = [model.Threshold(value=value, color=color) for value, color in steps]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(listed)


def _override_steps(steps: Iterable[tuple[float | None, str]]) -> model.DynamicConfigValue:
    listed = [{"value": value, "color": color} for value, color in steps]
    return model.DynamicConfigValue("thresholds", {"mode": "absolute", "steps": listed})


def _no_value(text: str, color: str) -> model.SpecialValueMap:
    """Words instead of a value that is none: stale values must not look calm."""
    options = model.DashboardSpecialValueMapOptions(
        match=model.SpecialValueMatch.NULL_AND_NAN,
        result=model.ValueMappingResult(text=text, color=color, index=99),
    )
    return model.SpecialValueMap(options=options)


def _color(color: str) -> list[model.DynamicConfigValue]:
    return [model.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": color})]


def _dashes() -> list[model.DynamicConfigValue]:
    return [
        model.DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [8, 6]}),
        model.DynamicConfigValue("custom.drawStyle", "line"),
        model.DynamicConfigValue("custom.lineWidth", 1),
        model.DynamicConfigValue("custom.fillOpacity", 0),
    ]


def _unstacked() -> list[model.DynamicConfigValue]:
    return [model.DynamicConfigValue("custom.stacking", {"group": "B", "mode": "none"})]
