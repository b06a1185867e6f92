"""The curves of the report as SVG files beside it, readable on light and on dark pages."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from itertools import groupby
from pathlib import Path

from bench.growth import GrowthCost, RushCost

_WIDTH, _HEIGHT = 560, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 24, 34, 44
_STYLE = (
    "<style>text{font:12px sans-serif;fill:#111}line,polyline{stroke:#888;fill:none}"
    ".curve{stroke:#2a6fdb;stroke-width:2}.linear{stroke-dasharray:5 4}circle{fill:#2a6fdb}"
    "rect{fill:#fff}</style>"
)

Points = Sequence[tuple[float, float]]


def write_curves(folder: Path, growth: Sequence[GrowthCost], rush: RushCost | None) -> list[str]:
    """Write one file per curve and return their names.

    Args:
        folder: Where the report lies.
        growth: In order; those of one kind make a curve.
        rush: None where it was not measured.
    """
    curves = {}
    for what, costs in groupby(growth, key=lambda cost: cost.what):
        points = [(float(cost.size), cost.poll_s * 1000) for cost in costs]
        curves["growth-" + what.replace(" ", "-")] = draw_growth(what, points)
    if rush is not None:
        points = [(15.0 * n, seconds * 1000) for n, seconds in enumerate(rush.polls_s)]
        curves["growth-rush"] = draw_over_time("seconds of much happening", points)
    for name, svg in curves.items():
        (folder / f"{name}.svg").write_text(svg + "\n")
    return [f"{name}.svg" for name in curves]


def draw_growth(what: str, points: Points) -> str:
    """Return milliseconds over sizes, both in powers of ten, with what linear growth would be.

    Args:
        what: Of which there are so many.
        points: Size above 0 and milliseconds, ascending.
    """
    sizes, times = zip(*points, strict=True)
    least, most = _powers(times)
    x = _place(math.log10(sizes[0]), math.log10(sizes[-1]), _LEFT, _WIDTH - _RIGHT)
    y = _place(least, most, _HEIGHT - _BOTTOM, _TOP)
    linear = [(size, times[0] * size / sizes[0]) for size in sizes]
    inside = [p for p in linear if math.log10(p[1]) <= most]
    if len(inside) < len(linear):
        inside.append((sizes[0] * 10**most / times[0], 10.0**most))

    def place(point: tuple[float, float]) -> tuple[float, float]:
        return x(math.log10(point[0])), y(math.log10(point[1]))

    ticks_x = [(x(math.log10(size)), f"{size:,.0f}") for size in sizes]
    ticks_y = [(y(power), f"{10.0**power:,.0f} ms") for power in range(least, most + 1)]
    dashed = _polyline([place(point) for point in inside], "linear")
    return _frame(what, "dashed: linear", ticks_x, ticks_y, [dashed, *_curve(map(place, points))])


def draw_over_time(what: str, points: Points) -> str:
    """Return milliseconds over seconds, both from 0."""
    longest, highest = points[-1][0] or 1.0, max(value for _, value in points) * 1.1
    x = _place(0, longest, _LEFT, _WIDTH - _RIGHT)
    y = _place(0, highest, _HEIGHT - _BOTTOM, _TOP)
    ticks_x = [(x(longest * n / 4), f"{longest * n / 4:,.0f}") for n in range(5)]
    ticks_y = [(y(highest * n / 4), f"{highest * n / 4:,.0f} ms") for n in range(5)]
    return _frame(what, "", ticks_x, ticks_y, _curve((x(s), y(ms)) for s, ms in points))


def _powers(values: Sequence[float]) -> tuple[int, int]:
    """Powers of ten below and above all values."""
    return math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))


def _place(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """Where a value between `low` and `high` lies, in pixels."""
    return lambda value: start + (value - low) / ((high - low) or 1.0) * (end - start)


def _curve(places: Iterable[tuple[float, float]]) -> list[str]:
    """The measured points and the line through them."""
    points = list(places)
    dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in points]
    return [_polyline(points, "curve"), *dots]


def _polyline(points: Points, tone: str) -> str:
    text = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline class="{tone}" points="{text}"/>'


def _frame(
    what: str,
    note: str,
    ticks_x: Sequence[tuple[float, str]],
    ticks_y: Sequence[tuple[float, str]],
    drawn: Sequence[str],
) -> str:
    title = f"Duration of a 15 s poll over {what}"
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    grid = [f'<line x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>' for y, _ in ticks_y]
    labels = [
        f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
        for y, text in ticks_y
    ]
    labels += [
        f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{text}</text>'
        for x, text in ticks_x
    ]
    labels += [
        f'<text x="{_LEFT}" y="18">{escape(title)}</text>',
        f'<text x="{right}" y="{_HEIGHT - 6}" text-anchor="end">{escape(note)}</text>',
    ]
    return "\n".join(
        [
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
                f'role="img" aria-label="{escape(title)}">'
            ),
            _STYLE,
            f'<rect width="{_WIDTH}" height="{_HEIGHT}"/>',
            *grid,
            *drawn,
            *labels,
            "</svg>",
        ]
    )
