"""A value over time as inline SVG: no script, no network, no style but the page's. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from html import escape

from exporter.ops.report.evaluation import Finding, Points
from exporter.text import format_value

WIDTH, HEIGHT = 720, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 24, 10, 24
_STEPS_S = (300, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 7 * 86400, 14 * 86400)
_MAX_TICKS = 9


def draw(finding: Finding, since_s: float, until_s: float, step_s: int) -> str:
    """Return a value's plot; empty where there is nothing to see: no point, or a calm 0.

    Args:
        finding: With its points.
        since_s: Left edge, Unix time.
        until_s: Right edge.
        step_s: Between two points; a longer pause is a gap, and drawn as one.
    """
    points = finding.points
    is_flat = finding.verdict == "pass" and not any(value for _, value in points)
    if not points or is_flat or until_s <= since_s:
        return ""
    top = _round_up(max(value for _, value in points))
    width, height = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM

    def x(at: float) -> float:
        return round(_LEFT + (at - since_s) / (until_s - since_s) * width, 1)

    def y(value: float) -> float:
        return round(_TOP + (1 - value / top) * height, 1)

    words = escape(f"{finding.check.asks}, from 0 to {format_value(top, finding.check.unit)}")
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{words}">',
        *_grid(finding, top, y),
        *_times(since_s, until_s, x),
        *(_line(run, x, y) for run in _runs(points, step_s)),
        "</svg>",
    ]
    return "".join(parts)


def _grid(finding: Finding, top: float, y: Callable[[float], float]) -> Iterator[str]:
    """The value's axis, and the limit where the value is drawn in the limit's unit."""
    middle = [top / 2] if finding.check.unit == "ratio" or top % 2 == 0 else []
    for value in (0.0, *middle, top):
        at = y(value)
        yield f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at}" y2="{at}"/>'
        shown = escape(format_value(value, finding.check.unit))
        yield f'<text x="{_LEFT - 6}" y="{at + 4}" text-anchor="end">{shown}</text>'
    limit = finding.limit
    if finding.check.unit == "ratio" and limit is not None and 0 < limit <= top:
        at = y(limit)
        yield f'<line class="limit" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{at}" y2="{at}"/>'


def _times(since_s: float, until_s: float, x: Callable[[float], float]) -> Iterator[str]:
    """The axis of time, in UTC, at round times."""
    length = until_s - since_s
    step_s = next((step for step in _STEPS_S if length / step <= _MAX_TICKS), _STEPS_S[-1])
    first = math.ceil(since_s / step_s)
    for index in range(first, int(until_s // step_s) + 1):
        time = datetime.fromtimestamp(index * step_s, UTC)
        is_day = time.hour == time.minute == 0
        shown = f"{time:%d %b}" if is_day else f"{time:%H:%M}"
        at = x(index * step_s)
        yield f'<line class="grid" x1="{at}" x2="{at}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}"/>'
        yield f'<text x="{at}" y="{HEIGHT - 8}" text-anchor="middle">{shown}</text>'


def _runs(points: Points, step_s: int) -> Iterator[Points]:
    """The points without their gaps."""
    begin = 0
    for index in range(1, len(points) + 1):
        if index == len(points) or points[index][0] - points[index - 1][0] > 1.5 * step_s:
            yield points[begin:index]
            begin = index


def _line(run: Points, x: Callable[[float], float], y: Callable[[float], float]) -> str:
    """One run of points: a line, and the area below it."""
    path = " ".join(f"{x(at)},{y(value)}" for at, value in run)
    floor = y(0)
    area = f"{x(run[0][0])},{floor} {path} {x(run[-1][0])},{floor}"
    return f'<polygon class="area" points="{area}"/><polyline class="line" points="{path}"/>'


def _round_up(value: float) -> float:
    """A round number not below a value, 1 for what is not above 0."""
    if value <= 0:
        return 1.0
    size = 10.0 ** math.floor(math.log10(value))
    return float(next(step * size for step in (1, 2, 5, 10) if value <= step * size * 1.0000001))
