"""Dashboards as pictures: every panel at its place on the grid, from its own questions.

A likeness of Grafana for the eye and for the documentation, not Grafana: layout, kinds of panels,
units, colors, thresholds, names and words for missing values are the dashboard's.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from PIL import Image

from tools.dashboards.questions import find_questions, interpolate
from tools.preview.history import Prometheus
from tools.preview.kinds import FRAMED, GRID, PANEL, TEXT, Answer, Note, Span, draw_panel
from tools.preview.values import color_of, name_series

mpl.use("Agg")
_PAGE = "#111217"
_COLUMN_PX, _ROW_PX, _GAP_PX, _TOP_PX, _DPI = 58.0, 36.0, 4.0, 40.0, 80
_POINTS = 360
_UNITS = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0}


class Artist:
    """Draws dashboards as they stand at a moment.

    Args:
        server: Who is asked.
        now_s: The moment, at the right edge.
        scrape_s: Interval of the scrapes; Grafana's windows of a rate follow from it.
    """

    def __init__(self, server: Prometheus, now_s: float, scrape_s: float) -> None:
        self._server, self._now_s, self._scrape_s = server, now_s, scrape_s

    def draw(self, dashboard: Mapping[str, Any], file: Path, rows: int | None = None) -> None:
        """Write the picture; of the topmost rows only where there is a number of them."""
        panels = _first_rows(dashboard["panels"], rows)
        height_px = _TOP_PX + _ROW_PX * max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in panels)
        width_px = 24 * _COLUMN_PX
        size = (width_px / _DPI, height_px / _DPI)
        figure = plt.figure(figsize=size, dpi=_DPI, facecolor=_PAGE)
        since = dashboard["time"]["from"].removeprefix("now-")
        range_s = _seconds(since)
        moment = datetime.datetime.fromtimestamp(self._now_s, datetime.UTC)
        title = f"{dashboard['title']}   ·   last {since} to {moment:%d %B %H:%M} UTC"
        figure.text(8 / width_px, 1 - 26 / height_px, title, color=TEXT, fontsize=13)
        notes = self._find_notes(dashboard, range_s)
        for panel in panels:
            at = panel["gridPos"]
            x, y = at["x"] * _COLUMN_PX + _GAP_PX, at["y"] * _ROW_PX + _TOP_PX
            w, h = at["w"] * _COLUMN_PX - 2 * _GAP_PX, at["h"] * _ROW_PX - _GAP_PX
            if panel["type"] == "row":
                place = (x / width_px, 1 - (y + 24) / height_px)
                figure.text(*place, panel["title"], color=TEXT, fontsize=11)
                continue
            frame = figure.add_axes(
                (x / width_px, 1 - (y + h) / height_px, w / width_px, h / height_px)
            )
            frame.set(xticks=[], yticks=[], facecolor=PANEL, xlim=(0, w), ylim=(h, 0))
            frame.spines[:].set_color(GRID)
            frame.text(8, 17, panel["title"], color=TEXT, fontsize=9.5, weight="bold")
            axes = frame
            if panel["type"] in FRAMED:
                left, right, bottom = FRAMED[panel["type"]]
                inside = (x + left, y + h - bottom, w - left - right, h - 28 - bottom)
                axes = figure.add_axes(
                    (
                        inside[0] / width_px,
                        1 - inside[1] / height_px,
                        inside[2] / width_px,
                        inside[3] / height_px,
                    )
                )
            step_s = self._step_s(panel, range_s)
            span = Span(self._now_s - range_s, self._now_s, step_s)
            draw_panel(axes, panel, self._ask(panel, span), span, notes)
        figure.savefig(file, facecolor=_PAGE)
        plt.close(figure)
        # A picture of few colors is a fifth of the size, and looks the same.
        Image.open(file).convert("RGB").quantize(128).save(file, optimize=True)

    def _ask(self, panel: Mapping[str, Any], span: Span) -> list[Answer]:
        """Every series of a panel."""
        answers = []
        for target in panel["targets"]:
            window_s = max(span.step_s + self._scrape_s, 4 * self._scrape_s)
            expr = interpolate(
                target["expr"],
                rate_interval=f"{window_s:.0f}s",
                time_range=f"{span.until_s - span.since_s:.0f}s",
            )
            if target.get("instant"):
                found = self._server.ask(expr, span.until_s)
            else:
                found = self._server.ask_range(expr, span.since_s, span.until_s, span.step_s)
            legend = target.get("legendFormat", "")
            answers += [Answer(target["refId"], name_series(legend, s.labels), s) for s in found]
        return answers

    def _step_s(self, panel: Mapping[str, Any], range_s: float) -> float:
        """Time between two points, as wide as the panel and its own minimum ask for."""
        shortest_s = _seconds(panel.get("interval") or "0s")
        return max(round(range_s / _POINTS / 60) * 60.0, shortest_s, 60.0)

    def _find_notes(self, dashboard: Mapping[str, Any], range_s: float) -> list[Note]:
        """The annotations: moments, and spans where neighbouring points make one."""
        kinds = {kind["name"]: kind for kind in dashboard["annotations"]["list"]}
        since_s, notes = self._now_s - range_s, []
        for question in find_questions(dashboard):
            kind = kinds.get(question.title, {})
            if "/annotation/" not in question.key or not kind["enable"]:
                continue
            color = color_of(kind["iconColor"])
            expr = interpolate(question.expr, rate_interval="1m", time_range="1d")
            for series in self._server.ask_range(expr, since_s, self._now_s, self._scrape_s):
                if kind.get("useValueForTime"):
                    moments = {value / 1000 for value in series.points.values()}
                    notes += [Note(m, m, color) for m in moments if m > since_s]
                else:
                    notes += [
                        Note(*span, color) for span in _join(series.points, 1.5 * self._scrape_s)
                    ]
        return notes


def _join(moments: Mapping[float, float], gap_s: float) -> list[tuple[float, float]]:
    """Moments less than a gap apart become one span."""
    spans: list[tuple[float, float]] = []
    for moment in sorted(moments):
        if spans and moment - spans[-1][1] < gap_s:
            spans[-1] = (spans[-1][0], moment)
        else:
            spans.append((moment, moment))
    return spans


def _first_rows(panels: Sequence[dict[str, Any]], rows: int | None) -> list[dict[str, Any]]:
    """The panels of the first so many titled rows, and those above them."""
    seen, kept = 0, []
    for panel in panels:
        seen += panel["type"] == "row"
        if rows is None or seen <= rows:
            kept.append(panel)
    return kept


def _seconds(duration: str) -> float:
    return float(duration[:-1]) * _UNITS[duration[-1]]
