"""Durations, numbers and times in words. Pure."""

from __future__ import annotations

import math
from datetime import datetime, timedelta

UNITS_MS = {
    "y": 365 * 86_400_000,
    "w": 7 * 86_400_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1_000,
    "ms": 1,
}


def format_duration(duration: timedelta, *, rounded: bool = False) -> str:
    """Write a duration as Prometheus does: `1h30m`, the fewest units that keep it exact.

    Args:
        duration: Not negative; fractions of a millisecond are dropped.
        rounded: For people: to the second, and nothing smaller than the unit after the largest.

    Returns:
        Text which `parse_duration` reads back; `0s` for nothing. As in Prometheus, years and
        weeks are used only where nothing smaller remains.

    Raises:
        ValueError: The duration is negative.
    """
    if duration < timedelta(0):
        raise ValueError("a duration cannot be negative")
    left = duration // timedelta(milliseconds=1)
    if rounded:
        left = round(left, -3)
    parts: list[str] = []
    passed = 0
    for unit, size in UNITS_MS.items():
        # 1y2d is harder to read than 367d, and is what Prometheus writes too.
        if unit in ("y", "w") and left % size:
            continue
        count, left = divmod(left, size)
        if count and not (rounded and passed > 1):
            parts.append(f"{count}{unit}")
        passed += bool(parts)
    return "".join(parts) or "0s"


def format_number(value: float) -> str:
    """Write a number with as many digits as it takes: `1,234`, `0.25`."""
    if abs(value - round(value)) < 0.005 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:,.2f}"


def format_time(time: datetime) -> str:
    """Write a time in UTC to the minute."""
    return f"{time:%Y-%m-%d %H:%M} UTC"


def format_value(value: float | None, unit: str) -> str:
    """Write a metric's value in its unit; `-` where it is unknown.

    Args:
        value: In the base unit; infinite seconds are `never`.
        unit: `seconds`, `ratio` or anything else, which is a count.
    """
    if value is None or math.isnan(value):
        return "-"
    if math.isinf(value):
        return "never"
    if unit == "ratio":
        return f"{value:.1%}"
    if unit == "seconds":
        sign = "-" if value <= -0.5 else ""
        return sign + format_duration(timedelta(seconds=abs(value)), rounded=True)
    return format_number(value)
