"""A finding's value over time, as a plot. Pure."""

from __future__ import annotations

from exporter.ops.report.evaluation import Finding
from exporter.plots import Limit, Line, Plot, draw_plot, round_up
from exporter.text import format_value


def draw(finding: Finding, since_s: float, until_s: float, step_s: int) -> str:
    """Return a value's plot; empty where there is nothing to see: no point, or a calm 0.

    Args:
        finding: With its points.
        since_s: Left edge, Unix time.
        until_s: Right edge.
        step_s: Between two points; a longer pause is a gap, and drawn as one.
    """
    points, unit = finding.points, finding.check.unit
    is_flat = finding.verdict == "pass" and not any(value for _, value in points)
    if not points or is_flat or until_s <= since_s:
        return ""
    top = round_up(max(value for _, value in points))
    words = f"{finding.check.asks}, from 0 to {format_value(top, unit)}"
    # Only a ratio is drawn in the limit's unit.
    is_comparable = unit == "ratio" and finding.limit is not None
    limits = (Limit(finding.limit or 0.0),) if is_comparable else ()
    lines = (Line(points),)
    return draw_plot(Plot(words, unit, lines, since_s, until_s, step_s, limits, top))
