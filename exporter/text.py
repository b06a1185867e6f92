"""Figures and times as people say them. Pure."""

from __future__ import annotations

from datetime import datetime

_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def say_duration(seconds: float) -> str:
    """Say seconds by their two largest units: `1h 30m`."""
    if seconds == float("inf"):
        return "never"
    whole = round(seconds)
    if whole < 0:
        return f"-{say_duration(-seconds)}"
    for index, (unit, size) in enumerate(_UNITS):
        if whole >= size:
            following = _UNITS[index + 1 : index + 2]
            tail = "".join(f" {whole % size // s}{u}" for u, s in following if whole % size // s)
            return f"{whole // size}{unit}{tail}"
    return "0s"


def say_number(value: float) -> str:
    """Say a number with as many digits as it takes: `1,234`, `0.25`."""
    if abs(value - round(value)) < 0.005 or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:,.2f}"


def say_moment(moment: datetime) -> str:
    """Say a moment in UTC to the minute."""
    return f"{moment:%Y-%m-%d %H:%M} UTC"
