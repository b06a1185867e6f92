"""Durations, numbers, times and values as people read them."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import pytest

from exporter.text import format_duration, format_number, format_time, format_value


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0s"),
        (75.5, "1m16s"),
        (5400, "1h30m"),
        (7201, "2h"),
        (86_400 + 3600 + 60, "1d1h"),
        (9 * 86_400, "9d"),
    ],
)
def test_a_rounded_duration_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert format_duration(timedelta(seconds=seconds), rounded=True) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (3.0, "3"), (0.25, "0.25"), (1234.4, "1,234"), (-2, "-2")]
)
def test_a_number_has_as_many_digits_as_it_takes(value: float, text: str) -> None:
    assert format_number(value) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "chats", "-"),
        (math.nan, "", "-"),
        (math.inf, "seconds", "never"),
        (0.123, "ratio", "12.3%"),
        (90, "seconds", "1m30s"),
        (-90, "seconds", "-1m30s"),
        (-0.2, "seconds", "0s"),
        (1234.4, "chats", "1,234"),
    ],
)
def test_a_value_is_written_in_its_unit(value: float | None, unit: str, text: str) -> None:
    assert format_value(value, unit) == text


def test_a_time_is_written_to_the_minute() -> None:
    assert format_time(datetime(2026, 11, 23, 8, 5, 59, tzinfo=UTC)) == "2026-11-23 08:05 UTC"
