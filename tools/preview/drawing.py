"""Dashboards as pictures: every panel at its place on the grid, from its own questions.

A likeness of Grafana for the eye and for the documentation, not Grafana: layout, kinds of panels,
units, colors, thresholds, names and words for missing values are the dashboard's.
"""

from __future__ import annotations

import datetime
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.dates import DateFormatter
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

from tools.dashboards.questions import find_questions, interpolate
from tools.preview.history import Prometheus, Series
from tools.preview.values import (
    PALETTE,
    color_of,
    find_properties,
    judge,
    name_series,
    write,
)

mpl.use("Agg")
_PAGE, _PANEL, _TEXT, _FAINT, _GRID = "#111217", "#181b1f", "#d5d6de", "#8e8e9a", "#2c3038"
_COLUMN_PX, _ROW_PX, _GAP_PX, _DPI = 58.0, 36.0, 4.0, 80
_POINTS = 360
_FORMATS = {"h": 3600.0, "m": 60.0, "s": 1.0, "d": 86_400.0}


class Artist:
    """Draws a dashboard as it stands at a moment.

    Args:
        server: Who is asked.
        now_s: The moment, at the right edge.
        scrape_s: Interval of the scrapes; Grafana's windows of a rate follow from it.
    """

    def __init__(self, server: Prometheus, now_s: float, scrape_s: float) -> None:
        self._server, self._now_s, self._scrape_s = server, now_s, scrape_s
        self._range_s = 86_400.0

    def draw(self, dashboard: Mapping[str, Any], file: Path, rows: int | None = None) -> None:
        """Write the picture; of the topmost rows only where there is a number of them."""
        self._range_s = _seconds(dashboard["time"]["from"].removeprefix("now-"))
        panels = _above(dashboard["panels"], rows)
        height = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in panels)
        size = (24 * _COLUMN_PX, height * _ROW_PX + 40)
        figure = plt.figure(figsize=(size[0] / _DPI, size[1] / _DPI), dpi=_DPI, facecolor=_PAGE)
        moment = datetime.datetime.fromtimestamp(self._now_s, datetime.UTC)
        figure.text(
            8 / size[0],
            1 - 26 / size[1],
            f"{dashboard['title']}   ·   last {dashboard['time']['from'].removeprefix('now-')} "
            f"to {moment:%d %B %H:%M} UTC",
            color=_TEXT,
            fontsize=13,
        )
        notes = self._annotations(dashboard)
        for panel in panels:
            self._place(figure, panel, size, notes)
        figure.savefig(file, facecolor=_PAGE)
        plt.close(figure)
        # A picture of few colors is a fifth of the size, and looks the same.
        Image.open(file).convert("RGB").quantize(160).save(file, optimize=True)

    def _place(self, figure: Any, panel: dict[str, Any], size: Any, notes: Any) -> None:
        at = panel["gridPos"]
        x, y = at["x"] * _COLUMN_PX + _GAP_PX, at["y"] * _ROW_PX + 40
        w, h = at["w"] * _COLUMN_PX - 2 * _GAP_PX, at["h"] * _ROW_PX - _GAP_PX
        if panel["type"] == "row":
            figure.text(
                x / size[0], 1 - (y + 24) / size[1], panel["title"], color=_TEXT, fontsize=11
            )
            return
        frame = figure.add_axes((x / size[0], 1 - (y + h) / size[1], w / size[0], h / size[1]))
        frame.set(xticks=[], yticks=[], facecolor=_PANEL, xlim=(0, w), ylim=(h, 0))
        for spine in frame.spines.values():
            spine.set_color(_GRID)
        frame.text(8, 17, panel["title"], color=_TEXT, fontsize=9.5, weight="bold")
        draw = getattr(self, f"_draw_{panel['type']}")
        inside = (x, y + 24, w, h - 28)
        if panel["type"] in ("timeseries", "heatmap", "bargauge"):
            margins = {"timeseries": (46, 46, 40), "heatmap": (46, 10, 18), "bargauge": (90, 40, 6)}
            left, right, bottom = margins[panel["type"]]
            box = (x + left, 1, w - left - right, h - 30 - bottom)
            axes = figure.add_axes(
                (
                    box[0] / size[0],
                    1 - (y + h - bottom) / size[1],
                    box[2] / size[0],
                    box[3] / size[1],
                )
            )
            axes.set_facecolor(_PANEL)
            axes.tick_params(colors=_FAINT, labelsize=7, length=0)
            for spine in axes.spines.values():
                spine.set_visible(False)
            axes.grid(color=_GRID, linewidth=0.6)
            draw(axes, panel, notes)
        else:
            draw(frame, panel, inside)

    def _ask(self, panel: Mapping[str, Any]) -> list[tuple[str, str, Series]]:
        """Every series of a panel with its refId and name."""
        asked = []
        for target in panel["targets"]:
            step_s = self._step_s(panel)
            expr = interpolate(
                target["expr"],
                rate_interval=f"{max(step_s + self._scrape_s, 4 * self._scrape_s):.0f}s",
                time_range=f"{self._range_s:.0f}s",
            )
            if target.get("instant"):
                found = self._server.ask(expr, self._now_s)
            else:
                since_s = self._now_s - self._range_s
                found = self._server.ask_range(expr, since_s, self._now_s, step_s)
            legend = target.get("legendFormat", "")
            asked += [(target["refId"], name_series(legend, s.labels), s) for s in found]
        return asked

    def _step_s(self, panel: Mapping[str, Any]) -> float:
        shortest_s = _seconds(panel.get("interval") or "0s")
        return max(round(self._range_s / _POINTS / 60) * 60, shortest_s, 60)

    def _annotations(self, dashboard: Mapping[str, Any]) -> list[tuple[float, str, float]]:
        """When something was noted, in which color, and how dark."""
        colors = {a["name"]: a["iconColor"] for a in dashboard["annotations"]["list"]}
        by_value = {a["name"] for a in dashboard["annotations"]["list"] if a.get("useValueForTime")}
        notes = []
        for question in find_questions(dashboard):
            if "/annotation/" not in question.key:
                continue
            expr = interpolate(question.expr, rate_interval="16m", time_range="1d")
            since_s = self._now_s - self._range_s
            for series in self._server.ask_range(expr, since_s, self._now_s, self._scrape_s):
                if question.title in by_value:
                    moments = {value / 1000 for value in series.points.values()}
                    notes += [(m, color_of(colors[question.title]), 0.8) for m in moments]
                else:
                    notes += [(m, color_of(colors[question.title]), 0.05) for m in series.points]
        return [note for note in notes if self._now_s - self._range_s < note[0] <= self._now_s]

    def _draw_stat(self, frame: Any, panel: Mapping[str, Any], _: Any) -> None:
        defaults = panel["fieldConfig"]["defaults"]
        (w, h) = frame.get_xlim()[1], frame.get_ylim()[0]
        shown = [(name, next(iter(s.points.values()))) for _, name, s in self._ask(panel)] or [
            ("", None)
        ]
        named = panel["options"]["textMode"] == "value_and_name"
        for i, (name, value) in enumerate(shown):
            words, color = judge(defaults, value)
            fixed = find_properties(panel, name).get("color")
            if fixed and words is None:
                color = color_of(fixed["fixedColor"])
            text = words
            if text is None and value is not None:
                text = write(value, defaults["unit"], defaults.get("decimals"))
            top, tall = 26 + i * (h - 28) / len(shown), (h - 28) / len(shown) - 2
            frame.add_patch(mpl.patches.Rectangle((3, top), w - 6, tall, color=color))
            big = named and bool(name)
            size = min(22.0, tall / (3.2 if big else 2.2), 1.5 * (w - 12) / max(len(text or ""), 4))
            middle = top + tall * (0.42 if big else 0.52)
            style = {"ha": "center", "va": "center", "color": "#111217"}
            frame.text(w / 2, middle, text, fontsize=size, weight="bold", **style)
            if big:
                small = min(10.0, 1.45 * (w - 8) / max(len(name), 8))
                frame.text(w / 2, top + tall * 0.82, name, fontsize=small, **style)

    def _draw_timeseries(self, axes: Any, panel: Mapping[str, Any], notes: Any) -> None:
        defaults = panel["fieldConfig"]["defaults"]
        custom = defaults["custom"]
        step_s = self._step_s(panel)
        times = np.arange(self._now_s - self._range_s, self._now_s + 1, step_s)
        stamps = [datetime.datetime.fromtimestamp(t, datetime.UTC) for t in times]
        base = np.zeros(len(times))
        right = None
        legend = []
        free = iter(PALETTE * 5)
        asked = self._ask(panel)
        for _, name, series in asked:
            look = find_properties(panel, name)
            fixed = look.get("color")
            color = color_of(fixed["fixedColor"]) if fixed else next(free)
            values = np.array([series.points.get(float(t), np.nan) for t in times])
            target = axes
            if look.get("custom.axisPlacement") == "right":
                right = right or axes.twinx()
                target = right
            bars = look.get("custom.drawStyle", custom["drawStyle"]) == "bars"
            stacking = look.get("custom.stacking", custom.get("stacking", {})).get("mode")
            low = base if stacking == "normal" else np.zeros(len(times))
            high = low + np.nan_to_num(values) if stacking == "normal" else values
            opacity = look.get("custom.fillOpacity", custom["fillOpacity"]) / 100
            if bars:
                target.bar(stamps, high - low, step_s / 86_400 * 0.95, low, color=color)
            else:
                dash = (0, (5, 4)) if "custom.lineStyle" in look else "-"
                width = 1.0 if "custom.lineStyle" in look else 1.4
                shown = np.where(np.isnan(values), np.nan, high)
                target.plot(stamps, shown, color=color, linewidth=width, linestyle=dash)
                if opacity and stacking == "normal":
                    target.fill_between(stamps, low, shown, color=color, alpha=opacity, linewidth=0)
            if stacking == "normal":
                base = high
            legend.append((name, color))
        self._finish(axes, panel, legend)
        if right is not None:
            right.tick_params(colors=_FAINT, labelsize=7, length=0)
            right.set_ylim(bottom=0)
            for spine in right.spines.values():
                spine.set_visible(False)
        for at_s, color, alpha in notes:
            stamp = datetime.datetime.fromtimestamp(at_s, datetime.UTC)
            axes.axvline(stamp, color=color, alpha=alpha, linewidth=1.2, linestyle="--")

    def _finish(self, axes: Any, panel: Mapping[str, Any], legend: Any) -> None:
        """Axes, units and the legend."""
        defaults = panel["fieldConfig"]["defaults"]
        since_s = self._now_s - self._range_s
        edges = [datetime.datetime.fromtimestamp(t, datetime.UTC) for t in (since_s, self._now_s)]
        axes.set_xlim(*edges)
        axes.xaxis.set_major_formatter(DateFormatter("%H:%M"))
        axes.xaxis.set_major_locator(mpl.dates.AutoDateLocator(maxticks=7))
        if "min" in defaults:
            axes.set_ylim(bottom=0, top=max(axes.get_ylim()[1], 1e-3))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: write(v, defaults["unit"])))
        if not legend:
            style = {"ha": "center", "va": "center", "transform": axes.transAxes}
            axes.text(0.5, 0.5, defaults["noValue"], color=_TEXT, fontsize=11, **style)
        handles = [mpl.lines.Line2D([], [], color=color, linewidth=3) for _, color in legend[:12]]
        if handles:
            axes.legend(
                handles,
                [textwrap.shorten(name or panel["title"], 34) for name, _ in legend[:12]],
                loc="upper center",
                bbox_to_anchor=(0.5, -0.09),
                ncols=6 if len(legend) > 4 else 4,
                frameon=False,
                fontsize=6.5,
                labelcolor=_TEXT,
                handlelength=1,
                columnspacing=1,
            )

    def _draw_heatmap(self, axes: Any, panel: Mapping[str, Any], _: Any) -> None:
        step_s = self._step_s(panel)
        times = np.arange(self._now_s - self._range_s, self._now_s + 1, step_s)
        rows = sorted((float(name), s) for _, name, s in self._ask(panel))
        stamps = [datetime.datetime.fromtimestamp(t, datetime.UTC) for t in times]
        if rows:
            counts = np.array([[s.points.get(float(t), np.nan) for t in times] for _, s in rows])
            cells = np.diff(counts, axis=0, prepend=0)
            cells[~(cells > 0)] = np.nan
            norm = mpl.colors.PowerNorm(0.5)
            axes.pcolormesh(stamps, np.arange(len(rows)), cells, cmap="Oranges", norm=norm)
            axes.set_yticks(np.arange(len(rows)), [f"≤ {write(le, 's', 0)}" for le, _ in rows])
        self._finish_heatmap(axes)

    def _finish_heatmap(self, axes: Any) -> None:
        since_s = self._now_s - self._range_s
        edges = [datetime.datetime.fromtimestamp(t, datetime.UTC) for t in (since_s, self._now_s)]
        axes.set_xlim(*edges)
        axes.xaxis.set_major_formatter(DateFormatter("%H:%M"))
        axes.xaxis.set_major_locator(mpl.dates.AutoDateLocator(maxticks=7))

    def _draw_bargauge(self, axes: Any, panel: Mapping[str, Any], _: Any) -> None:
        defaults = panel["fieldConfig"]["defaults"]
        shown = [(name, next(iter(s.points.values()))) for _, name, s in self._ask(panel)]
        shown.sort(key=lambda pair: pair[1])
        axes.grid(visible=False)
        axes.set_xticks([])
        if not shown:
            style = {"ha": "center", "va": "center", "transform": axes.transAxes}
            axes.text(0.5, 0.5, defaults["noValue"], color=_TEXT, fontsize=11, **style)
            axes.set_yticks([])
            return
        names, values = zip(*shown, strict=True)
        colors = [judge(defaults, value)[1] for value in values]
        axes.barh(range(len(shown)), values, color=colors, height=0.7)
        axes.set_yticks(range(len(shown)), names, color=_TEXT, fontsize=8)
        for i, value in enumerate(values):
            axes.text(
                value, i, f" {write(value, defaults['unit'])}", color=_TEXT, va="center", fontsize=8
            )

    def _draw_table(self, frame: Any, panel: Mapping[str, Any], _: Any) -> None:
        defaults = panel["fieldConfig"]["defaults"]
        renamed = panel["transformations"][1]["options"]["renameByName"]
        columns = list(renamed.values())
        cells: dict[str, dict[str, float]] = {}
        for letter, _name, series in self._ask(panel):
            key = " ".join(series.labels.values())
            cells.setdefault(key, {})[renamed[f"Value #{letter}"]] = next(
                iter(series.points.values())
            )
        (w, h) = frame.get_xlim()[1], frame.get_ylim()[0]
        wide = w * 0.45
        each = (w - wide - 8) / len(columns)
        for i, column in enumerate(columns):
            frame.text(wide + i * each + 6, 38, column, color=_FAINT, fontsize=8)
        sort_by = panel["options"]["sortBy"][0]["displayName"]
        ordered = sorted(cells.items(), key=lambda item: (-item[1].get(sort_by, -1), item[0]))
        if not ordered:
            style = {"ha": "center", "va": "center"}
            frame.text(w / 2, h / 2, defaults["noValue"], color=_TEXT, fontsize=11, **style)
        tall = min(22.0, (h - 46) / max(len(ordered), 1))
        for row, (key, values) in enumerate(ordered):
            y = 46 + row * tall
            frame.text(8, y + tall * 0.72, key, color=_TEXT, fontsize=8)
            for i, column in enumerate(columns):
                if column not in values:
                    continue
                look = find_properties(panel, column)
                color = _TEXT
                if "thresholds" in look:
                    back = judge({"thresholds": look["thresholds"]}, values[column])[1]
                    x = wide + i * each
                    frame.add_patch(mpl.patches.Rectangle((x, y), each - 3, tall - 2, color=back))
                    color = "#111217"
                text = write(values[column], look.get("unit", defaults["unit"]))
                if look.get("unit") == "bool_yes_no":
                    text = "yes" if values[column] else "no"
                frame.text(wide + i * each + 6, y + tall * 0.72, text, color=color, fontsize=8)


def _above(panels: Sequence[dict[str, Any]], rows: int | None) -> list[dict[str, Any]]:
    """The panels of the first so many rows; those before the first title are row 0."""
    seen, kept = 0, []
    for panel in panels:
        seen += panel["type"] == "row"
        if rows is None or seen <= rows:
            kept.append(panel)
    return kept


def _seconds(duration: str) -> float:
    return float(duration[:-1]) * _FORMATS[duration[-1]]
