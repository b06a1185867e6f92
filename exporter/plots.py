"""Values over time as inline SVG: no script, no network, no style but the page's. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

from exporter.text import format_value

Points = tuple[tuple[float, float], ...]
"""Unix time and value."""

_STEPS_S = (300, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 7 * 86400, 14 * 86400)
_TOP, _BOTTOM = 10, 24
# Of the values' axis, in pixels: a label's place above its line, and between two lines.
_LABEL_BELOW = 4


@dataclass(frozen=True, slots=True)
class Line:
    """One value over time.

    Attributes:
        points: In order of time.
        tone: CSS class that sets its colour; may be empty.
        is_filled: Whether the area below it is shaded.
    """

    points: Points
    tone: str = ""
    is_filled: bool = True


@dataclass(frozen=True, slots=True)
class Limit:
    """A horizontal line to compare with.

    Attributes:
        value: In the plot's unit.
        tone: CSS class beside `limit`; may be empty.
    """

    value: float
    tone: str = ""


@dataclass(frozen=True, slots=True)
class Plot:
    """What is drawn.

    Attributes:
        words: The plot in words, for who cannot see it.
        unit: Of the values, as `format_value` takes it.
        lines: The first is drawn first.
        since_s: Left edge, Unix time.
        until_s: Right edge.
        step_s: Between two points; a longer pause is a gap, and drawn as one.
        limits: Those above the top are left out.
        top: Upper edge; by default a round number above every value.
        computed_until_s: Points up to here were computed from rows; hatched. 0 for none.
        width: In pixels, labels included.
        height: Likewise.
        left: Room for the labels of the values.
        right: Room for half a label of a time.
        most_ticks: How many times may be labelled.
    """

    words: str
    unit: str
    lines: tuple[Line, ...]
    since_s: float
    until_s: float
    step_s: float
    limits: tuple[Limit, ...] = ()
    top: float | None = None
    computed_until_s: float = 0.0
    width: int = 720
    height: int = 150
    left: int = 56
    right: int = 24
    most_ticks: int = 9


@dataclass(frozen=True, slots=True)
class _Scales:
    """Where a time and a value lie, in pixels."""

    x: Callable[[float], float]
    y: Callable[[float], float]
    top: float
    right: int


def draw_plot(plot: Plot) -> str:
    """Return the plot as one `<svg>`."""
    scales = _scale(plot)
    size, words = f"0 0 {plot.width} {plot.height}", escape(plot.words)
    parts = [
        f'<svg viewBox="{size}" role="img" aria-label="{words}">',
        *_draw_computed(plot, scales),
        *_draw_grid(plot, scales),
        *_draw_times(plot, scales),
        *(
            _draw_run(run, line, scales)
            for line in plot.lines
            for run in _find_runs(line.points, plot.step_s)
        ),
        "</svg>",
    ]
    return "".join(parts)


def round_up(value: float) -> float:
    """Return a round number not below a value, 1 for what is not above 0."""
    if value <= 0:
        return 1.0
    size = 10.0 ** math.floor(math.log10(value))
    return float(next(step * size for step in (1, 2, 5, 10) if value <= step * size * 1.0000001))


def _scale(plot: Plot) -> _Scales:
    largest = max((value for line in plot.lines for _, value in line.points), default=0.0)
    top = plot.top or round_up(largest)
    right = plot.width - plot.right
    width, height = right - plot.left, plot.height - _TOP - _BOTTOM

    def x(at: float) -> float:
        share = (at - plot.since_s) / (plot.until_s - plot.since_s)
        return round(plot.left + share * width, 1)

    def y(value: float) -> float:
        return round(_TOP + (1 - value / top) * height, 1)

    return _Scales(x, y, top, right)


def _draw_grid(plot: Plot, scales: _Scales) -> Iterator[str]:
    """The values' axis and the limits."""
    top, ends = scales.top, f'x1="{plot.left}" x2="{scales.right}"'
    middle = [top / 2] if plot.unit == "ratio" or top % 2 == 0 else []
    for value in (0.0, *middle, top):
        at = scales.y(value)
        yield f'<line class="grid" {ends} y1="{at}" y2="{at}"/>'
        shown = escape(format_value(value, plot.unit))
        yield f'<text x="{plot.left - 6}" y="{at + _LABEL_BELOW}" text-anchor="end">{shown}</text>'
    for limit in plot.limits:
        if 0 < limit.value <= top:
            at, name = scales.y(limit.value), f"limit {limit.tone}".rstrip()
            yield f'<line class="{name}" {ends} y1="{at}" y2="{at}"/>'


def _draw_times(plot: Plot, scales: _Scales) -> Iterator[str]:
    """The axis of time, in UTC, at round times."""
    length = plot.until_s - plot.since_s
    step_s = next((step for step in _STEPS_S if length / step <= plot.most_ticks), _STEPS_S[-1])
    for index in range(math.ceil(plot.since_s / step_s), int(plot.until_s // step_s) + 1):
        time = datetime.fromtimestamp(index * step_s, UTC)
        is_day = time.hour == time.minute == 0
        shown = f"{time:%d %b}" if is_day else f"{time:%H:%M}"
        at, low = scales.x(index * step_s), plot.height - _BOTTOM
        yield f'<line class="grid" x1="{at}" x2="{at}" y1="{_TOP}" y2="{low}"/>'
        yield f'<text x="{at}" y="{plot.height - 8}" text-anchor="middle">{shown}</text>'


def _draw_computed(plot: Plot, scales: _Scales) -> Iterator[str]:
    """The hatched time; its pattern `hatch` is defined by the page."""
    firsts = [line.points[0][0] for line in plot.lines if line.points]
    since_s, until_s = min(firsts, default=math.inf), min(plot.computed_until_s, plot.until_s)
    if until_s > since_s:
        left, right = scales.x(since_s), scales.x(until_s)
        place = f'x="{left}" y="{_TOP}" width="{right - left:.1f}"'
        height = plot.height - _TOP - _BOTTOM
        yield f'<rect class="computed" {place} height="{height}" fill="url(#hatch)"/>'


def _find_runs(points: Points, step_s: float) -> Iterator[Points]:
    """The points without their gaps."""
    begin = 0
    for index in range(1, len(points) + 1):
        if index == len(points) or points[index][0] - points[index - 1][0] > 1.5 * step_s:
            yield points[begin:index]
            begin = index


def _draw_run(run: Points, line: Line, scales: _Scales) -> str:
    """One run of points: a line, and the area below it."""
    path = " ".join(f"{scales.x(at)},{scales.y(value)}" for at, value in run)
    floor, tone = scales.y(0), f" {line.tone}" if line.tone else ""
    area = ""
    if line.is_filled:
        ends = f"{scales.x(run[0][0])},{floor} {path} {scales.x(run[-1][0])},{floor}"
        area = f'<polygon class="area{tone}" points="{ends}"/>'
    return f'{area}<polyline class="line{tone}" points="{path}"/>'
