"""Durations as Prometheus writes them: `15s`, `2m`, `1h30m`, `500ms`.

Reads them, `exporter.text` writes them; which durations a key accepts is decided in `values`.
"""

from __future__ import annotations

import re
from datetime import timedelta

from exporter.text import UNITS_MS

DURATION_FORM = "a duration such as 15s, 2m or 1h30m"

# [0-9] rather than \d, which would let ٣s through.
DURATION_PATTERN = "^(0|(?=[0-9])" + "".join(f"([0-9]+{unit})?" for unit in UNITS_MS) + ")$"
_DURATION = re.compile("0|(?=[0-9])" + "".join(f"(?:([0-9]{{1,15}}){unit})?" for unit in UNITS_MS))
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
    milliseconds = sum(n * unit for n, unit in zip(counts, UNITS_MS.values(), strict=True))
    if milliseconds > _LONGEST / timedelta(milliseconds=1):
        raise ValueError(f"{text!r} is too long, expected at most 290y")
    return timedelta(milliseconds=milliseconds)
