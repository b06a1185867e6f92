"""Durations as Prometheus writes them: `15s`, `2m`, `1h30m`, `500ms`.

Owns the text form alone; which durations a key accepts is decided in `values`.
"""

from __future__ import annotations

import re
from datetime import timedelta

DURATION_FORM = "a duration such as 15s, 2m or 1h30m"

_UNITS_MS = {
    "y": 365 * 86_400_000,
    "w": 7 * 86_400_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1_000,
    "ms": 1,
}
# [0-9] rather than \d, which would let ٣s through.
DURATION_PATTERN = "^(0|(?=[0-9])" + "".join(f"([0-9]+{unit})?" for unit in _UNITS_MS) + ")$"
_DURATION = re.compile("0|(?=[0-9])" + "".join(f"(?:([0-9]{{1,15}}){unit})?" for unit in _UNITS_MS))
_LONGEST = timedelta(days=365 * 290)
"""Prometheus counts nanoseconds in 64 bits, which end after about 292 years."""


def parse_duration(text: str) -> timedelta:
    """Read a duration written as Prometheus writes them.

    Args:
        text: Whole numbers with the units y, w, d, h, m, s, ms, largest first, each once; or `0`.

    Returns:
        The duration, never negative, exact to the millisecond.

    Raises:
        ValueError: The text is not a duration, or one beyond 290 years.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a duration, expected {DURATION_FORM}")
    counts = (int(group or 0) for group in match.groups())
    milliseconds = sum(n * unit for n, unit in zip(counts, _UNITS_MS.values(), strict=True))
    if milliseconds > _LONGEST / timedelta(milliseconds=1):
        raise ValueError(f"{text!r} is too long, expected at most 290y")
    return timedelta(milliseconds=milliseconds)


def format_duration(duration: timedelta) -> str:
    """Write a duration as Prometheus does: the fewest units that keep it exact.

    Args:
        duration: Not negative; fractions of a millisecond are dropped.

    Returns:
        Text which `parse_duration` reads back; `0s` for nothing. As in Prometheus, years and
        weeks are used only where nothing smaller remains.

    Raises:
        ValueError: The duration is negative.
    """
    if duration < timedelta(0):
        raise ValueError("a duration cannot be negative")
    left = duration // timedelta(milliseconds=1)
    if left == 0:
        return "0s"
    parts = []
    for unit, size in _UNITS_MS.items():
        # 1y2d is harder to read than 367d, and is what Prometheus writes too.
        if unit in ("y", "w") and left % size:
            continue
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)
