"""How each kind of panel is drawn."""

from __future__ import annotations

import datetime
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.dates import AutoDateLocator, DateFormatter
from matplotlib.ticker import FuncFormatter, MaxNLocator, MultipleLocator

from tools.preview.history import Series
from tools.preview.values import PALETTE, color_of, find_properties, judge, write

PANEL, TEXT, GRID, INK = "#181b1f", "#d5d6de", "#2c3038", "#111217"
_FAINT = "#9b9ba8"
# Room left, right and below inside a panel that has axes.
FRAMED = {"timeseries": (50, 34, 42), "heatmap": (50, 12, 20), "bargauge": (92, 46, 8)}
_TIME_TICKS_S = (
    *(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30),
    *(60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400),
)


class Answer(NamedTuple):
    """One series of a panel: whose answer it is, and its name."""

    letter: str
    name: str
    series: Series


class Note(NamedTuple):
    """An annotation."""

    since_s: float
    until_s: float
    color: str


class Span(NamedTuple):
    """The time that is shown, and how finely."""

    since_s: float
    until_s: float
    step_s: float

    def times(self) -> list[float]:
        """Every point."""
        return list(np.arange(self.since_s, self.until_s + 1, self.step_s))


def draw_panel(
    axes: Any,
    panel: Mapping[str, Any],
    answers: Sequence[Answer],
    span: Span,
    notes: Sequence[Note],
) -> None:
    """Draw a panel of any kind; stats and tables into their frame, the others onto axes."""
    kind = panel["type"]
    if kind in FRAMED:
        axes.set_facecolor(PANEL)
        axes.tick_params(colors=_FAINT, labelsize=8, length=0)
        axes.spines[:].set_visible(False)
        axes.grid(color=GRID, linewidth=0.6)
    if kind == "stat":
        _draw_stat(axes, panel, answers)
    elif kind == "table":
        _draw_table(axes, panel, answers)
    elif kind == "timeseries":
        _draw_lines(axes, panel, answers, span)
        for since_s, until_s, color in notes:
            if until_s > since_s:
                axes.axvspan(_stamp(since_s), _stamp(until_s), color=color, alpha=0.06, linewidth=0)
            axes.axvline(_stamp(since_s), color=color, alpha=0.6, linewidth=0.9, linestyle=":")
    elif kind == "heatmap":
        _draw_heatmap(axes, answers, span)
    elif kind == "bargauge":
        _draw_bars(axes, panel, answers)
    else:
        raise ValueError(f"no picture of a panel of type {kind}")
    if not answers and kind != "stat":
        _say(axes, panel["fieldConfig"]["defaults"]["noValue"])


def _draw_stat(frame: Any, panel: Mapping[str, Any], answers: Sequence[Answer]) -> None:
    """Boxes beside or above each other, the whole background colored."""
    defaults, mode = panel["fieldConfig"]["defaults"], panel["options"]["textMode"]
    w, h = frame.get_xlim()[1], frame.get_ylim()[0]
    shown: list[tuple[str, float | None]] = [(a.name, _last(a)) for a in answers]
    shown = shown or [("", None)]
    tall = (h - 28) / len(shown)
    for i, (name, value) in enumerate(shown):
        look = find_properties(panel, name)
        words, color = judge({**defaults, **look}, value)
        if "color" in look and words is None:
            color = color_of(look["color"]["fixedColor"])
        text = words or write(value or 0.0, defaults["unit"], defaults.get("decimals"))
        if mode == "name" and value is not None:
            text = name
        small = name if mode == "value_and_name" and value is not None else ""
        top = 26 + i * tall
        frame.add_patch(mpl.patches.Rectangle((3, top), w - 6, tall - 2, color=color))
        style = {"ha": "center", "va": "center", "color": INK}
        size = min(24.0, tall / (3.4 if small else 2.4), 1.2 * (w - 12) / max(len(text), 4))
        middle = top + tall * (0.4 if small else 0.5)
        frame.text(w / 2, middle, text, fontsize=size, weight="bold", **style)
        if small:
            size = min(11.0, 1.45 * (w - 8) / max(len(small), 8))
            frame.text(w / 2, top + tall * 0.8, small, fontsize=size, **style)


def _draw_lines(axes: Any, panel: Mapping[str, Any], answers: Sequence[Answer], span: Span) -> None:
    """Lines, areas and bars, stacked or not; a gap where there is no point."""
    custom, times = panel["fieldConfig"]["defaults"]["custom"], span.times()
    stamps = [_stamp(time_s) for time_s in times]
    base = np.zeros(len(times))
    legend, right, palette = [], None, iter(PALETTE * 9)
    for answer in answers:
        look = find_properties(panel, answer.name)
        color = color_of(look["color"]["fixedColor"]) if "color" in look else next(palette)
        legend.append((answer.name or panel["title"], color))
        values = np.array([answer.series.points.get(float(t), np.nan) for t in times])
        target = axes
        if look.get("custom.axisPlacement") == "right":
            target = right = right or axes.twinx()
        is_stacked = look.get("custom.stacking", custom.get("stacking", {})).get("mode") == "normal"
        low = base if is_stacked else np.zeros(len(times))
        high = low + np.nan_to_num(values)
        if look.get("custom.drawStyle", custom["drawStyle"]) == "bars":
            width = 0.95 * span.step_s / 86_400
            target.bar(stamps, high - low, width, low, color=color)
        else:
            line = np.where(np.isnan(values), np.nan, high)
            width = 0.75 * look.get("custom.lineWidth", custom["lineWidth"])
            style = (0, (5, 4)) if "custom.lineStyle" in look else "-"
            target.plot(stamps, line, color=color, linewidth=width, linestyle=style)
            alpha = look.get("custom.fillOpacity", custom["fillOpacity"]) / 100
            if is_stacked:
                target.fill_between(stamps, low, line, color=color, alpha=alpha, linewidth=0)
        base = high if is_stacked else base
    _finish(axes, panel, span)
    if right is not None:
        right.tick_params(colors=_FAINT, labelsize=8, length=0)
        right.set_ylim(bottom=0)
        right.spines[:].set_visible(False)
    _draw_legend(axes, legend)


def _finish(axes: Any, panel: Mapping[str, Any], span: Span) -> None:
    """Axes with the panel's unit."""
    defaults = panel["fieldConfig"]["defaults"]
    if "min" in defaults:
        axes.set_ylim(bottom=0, top=max(axes.get_ylim()[1], 1e-3))
    low, high = axes.get_ylim()
    if defaults["unit"] == "s":
        step_s = next((t for t in _TIME_TICKS_S if (high - low) / t <= 6), 7 * 86_400)
        axes.yaxis.set_major_locator(MultipleLocator(step_s))
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=defaults.get("decimals") == 0))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: write(v, defaults["unit"])))
    _set_times(axes, span)


def _set_times(axes: Any, span: Span) -> None:
    axes.set_xlim(_stamp(span.since_s), _stamp(span.until_s))
    axes.xaxis.set_major_formatter(DateFormatter("%H:%M"))
    axes.xaxis.set_major_locator(AutoDateLocator(maxticks=7))


def _draw_legend(axes: Any, legend: Sequence[tuple[str, str]]) -> None:
    if legend:
        lines = [mpl.lines.Line2D([], [], color=color, linewidth=3) for _, color in legend]
        axes.legend(
            lines[:10],
            [textwrap.shorten(name, 34, placeholder="…") for name, _ in legend[:10]],
            loc="upper center",
            bbox_to_anchor=(0.5, -0.1),
            ncols=5 if len(legend) > 4 else 4,
            frameon=False,
            fontsize=7.5,
            labelcolor=TEXT,
            handlelength=1,
            columnspacing=1,
            labelspacing=0.2,
        )


def _draw_heatmap(axes: Any, answers: Sequence[Answer], span: Span) -> None:
    """Cumulative buckets as counts between their bounds."""
    times = span.times()
    rows = sorted((float(answer.name), answer.series.points) for answer in answers)
    if rows:
        counts = np.array([[points.get(float(t), np.nan) for t in times] for _, points in rows])
        cells = np.diff(counts, axis=0, prepend=0)
        cells[~(cells > 0)] = np.nan
        stamps = [_stamp(time_s) for time_s in times]
        norm = mpl.colors.PowerNorm(0.5, vmin=0)
        axes.pcolormesh(stamps, np.arange(len(rows)), cells, cmap="YlOrRd", norm=norm)
        names = ["longer" if math.isinf(le) else f"≤ {write(le, 's', 0)}" for le, _ in rows]
        axes.set_yticks(np.arange(len(rows)), names)
    _set_times(axes, span)


def _draw_bars(axes: Any, panel: Mapping[str, Any], answers: Sequence[Answer]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    shown = sorted(((_last(answer), answer.name) for answer in answers), reverse=False)
    axes.grid(visible=False)
    axes.set_xticks([])
    values = [value for value, _ in shown]
    colors = [judge(defaults, value)[1] for value in values]
    axes.barh(range(len(shown)), values, color=colors, height=0.7)
    axes.set_yticks(range(len(shown)), [name for _, name in shown], color=TEXT)
    for i, value in enumerate(values):
        text = f" {write(value, defaults['unit'])}"
        axes.text(value, i, text, color=TEXT, va="center", fontsize=8)


def _draw_table(frame: Any, panel: Mapping[str, Any], answers: Sequence[Answer]) -> None:
    """A row a set of labels, a column a question, the highest of the sorting column first."""
    defaults = panel["fieldConfig"]["defaults"]
    renamed = panel["transformations"][1]["options"]["renameByName"]
    cells: dict[str, dict[str, float]] = {}
    for answer in answers:
        row = cells.setdefault(" ".join(answer.series.labels.values()), {})
        row[renamed[f"Value #{answer.letter}"]] = _last(answer)
    w, h = frame.get_xlim()[1], frame.get_ylim()[0]
    left = 0.42 * w
    wide, tall = (w - left - 6) / len(renamed), min(23.0, (h - 50) / max(len(cells), 1))
    for i, column in enumerate(renamed.values()):
        frame.text(left + i * wide + 6, 42, column, color=_FAINT, fontsize=8.5)
    sort_by = panel["options"]["sortBy"][0]["displayName"]
    for row_number, (key, row) in enumerate(
        sorted(cells.items(), key=lambda item: (-item[1].get(sort_by, -1), item[0]))
    ):
        y = 50 + row_number * tall
        frame.text(8, y + tall * 0.7, key, color=TEXT, fontsize=8.5)
        for i, column in enumerate(renamed.values()):
            if column not in row:
                continue
            look, color = find_properties(panel, column), TEXT
            x = left + i * wide
            if "thresholds" in look:
                back = judge({"thresholds": look["thresholds"]}, row[column])[1]
                frame.add_patch(mpl.patches.Rectangle((x, y), wide - 3, tall - 2, color=back))
                color = INK
            text = write(row[column], look.get("unit", defaults["unit"]), defaults.get("decimals"))
            frame.text(x + 6, y + tall * 0.7, text, color=color, fontsize=8.5)


def _say(axes: Any, text: str) -> None:
    style = {"ha": "center", "va": "center", "transform": axes.transAxes}
    axes.text(0.5, 0.5, text, color=TEXT, fontsize=12, **style)


def _last(answer: Answer) -> float:
    return list(answer.series.points.values())[-1]


def _stamp(time_s: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(time_s, datetime.UTC)
