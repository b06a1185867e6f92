"""Durations read and write as Prometheus does."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config import parse_duration
from exporter.text import format_duration


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("0", timedelta(0)),
        ("0s", timedelta(0)),
        ("15s", timedelta(seconds=15)),
        ("500ms", timedelta(milliseconds=500)),
        ("1h30m", timedelta(hours=1, minutes=30)),
        ("90m", timedelta(minutes=90)),
        ("1d", timedelta(days=1)),
        ("1w", timedelta(weeks=1)),
        ("1y", timedelta(days=365)),
        ("1y2w3d4h5m6s7ms", timedelta(weeks=2, days=368, hours=4, minutes=5, seconds=6.007)),
        ("290y", timedelta(days=290 * 365)),
    ],
)
def test_reads_what_prometheus_reads(text: str, duration: timedelta) -> None:
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    "text",
    ["", " ", "15", "s", "-15s", "+15s", "1.5s", "15 s", " 15s", "15s ", "15s\n", "30m1h", "1h1h",
     "15S", "15sec", "15 parsecs", "٣s", "1h 30m", "off", "00", "s15", "1_0s", "9" * 5000 + "s"],
)  # fmt: skip
def test_refuses_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration, expected a duration such as 15s"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["291y", "999999999999999y", "290y1ms"])
def test_refuses_what_no_clock_can_count(text: str) -> None:
    with pytest.raises(ValueError, match="is too long, expected at most 290y"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(0), "0s"),
        (timedelta(microseconds=999), "0s"),
        (timedelta(milliseconds=1), "1ms"),
        (timedelta(seconds=1.5), "1s500ms"),
        (timedelta(minutes=90), "1h30m"),
        (timedelta(hours=36), "1d12h"),
        (timedelta(days=14), "2w"),
        (timedelta(days=15), "15d"),
        (timedelta(days=730), "2y"),
        (timedelta(days=367), "367d"),
    ],
)
def test_writes_what_prometheus_writes(duration: timedelta, text: str) -> None:
    assert format_duration(duration) == text


def test_refuses_to_write_a_negative_duration() -> None:
    with pytest.raises(ValueError, match="a duration cannot be negative"):
        format_duration(timedelta(seconds=-1))


@given(milliseconds=st.integers(0, 290 * 365 * 86_400_000))
def test_reads_back_what_it_writes(milliseconds: int) -> None:
    duration = timedelta(milliseconds=milliseconds)

    assert parse_duration(format_duration(duration)) == duration
