"""The charts of a database: recorded values → lines, their words, and a table of the same. Pure."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from exporter.metrics.history import MINUTES, STEP_S, Recorded
from exporter.plots import Limit, Line, Plot, Points, draw_plot, round_up
from exporter.text import format_value

WIDTH, HEIGHT, LEFT, RIGHT = 340, 140, 46, 18
_MOST_POINTS = 300
_MOST_ROWS = 12
_SHORTEST = 60
# Minutes per point; each divides the spans that need it.
_STEPS = (1, 2, 3, 5)
_MOST_TICKS = 5
TONES = ("one", "two", "three")

Combine = Callable[[Sequence[float]], float]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _last(values: Sequence[float]) -> float:
    return values[-1]


@dataclass(frozen=True, slots=True)
class Spec:
    """One chart.

    Attributes:
        key: Its name in the page.
        title: For people.
        unit: As `format_value` takes it.
        figures: Figure's key to words, at most three.
        combine: Several minutes that fall on one point to one value.
        ratio: Whether the second figure's share of the first is drawn, over an hour, as its
            complement.
        limits: Key of the figure whose thresholds are drawn; empty for none.
    """

    key: str
    title: str
    unit: str
    figures: dict[str, str]
    combine: Combine = max
    ratio: bool = False
    limits: str = ""


SPECS = (
    Spec("waiting", "Chats waiting", "chats", {"waiting": "waiting"}),
    Spec(
        "oldest", "Oldest wait in the queue", "seconds", {"oldest_waiting": "oldest"},
        limits="oldest_waiting",
    ),
    Spec(
        "unanswered", "Longest unanswered user", "seconds", {"customer_wait": "longest"},
        limits="customer_wait",
    ),
    Spec(
        "operators", "Operators", "operators",
        {"available": "available", "on_chat": "busy", "stale": "stale"}, _last,
    ),
    Spec(
        "messages", "Messages per minute", "",
        {"user_messages": "from users", "operator_messages": "from operators"}, _mean,
    ),
    Spec(
        "service", "Service level, last hour", "ratio",
        {"waits": "answered in time", "waits_breached": ""}, ratio=True,
    ),
    Spec(
        "releases", "Chats handed back per minute", "",
        {"released_auto": "auto-release", "released_idle": "idle", "released_by_hand": "by hand"},
        _mean,
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart, in words.

    Attributes:
        words: Its name.
        tone: CSS class of its colour.
        now: Its latest value in words.
    """

    words: str
    tone: str
    now: str


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart as the page shows it.

    Attributes:
        key: Its name in the page.
        title: For people.
        series: Its lines.
        limits: Its thresholds in words, with the CSS class of each.
        svg: The drawing; empty where nothing is known.
        rows: A table of the same: a time and one value per line, in words.
        data: The points as JSON, for reading values off the drawing.
        is_computed: Whether some of it was computed from rows.
    """

    key: str
    title: str
    series: tuple[Series, ...]
    limits: tuple[tuple[str, str], ...]
    svg: str
    rows: tuple[tuple[str, ...], ...]
    data: str
    is_computed: bool


def choose_span(recorded: Recorded) -> int:
    """Return how many minutes the charts cover: hardly more than is recorded."""
    begins_s = recorded.begins_s
    age = 0.0 if begins_s is None else (recorded.end_s - begins_s) / STEP_S
    unit = 15 if age < _MOST_POINTS - 15 else 30
    span = (int(age) // unit + 1) * unit
    return min(max(span, _SHORTEST), MINUTES)


def build_chart(
    spec: Spec, recorded: Recorded, now: Callable[[str], float], limits: Sequence[Limit]
) -> Chart:
    """Return one chart.

    Args:
        spec: What it shows.
        recorded: The last 24 h.
        now: Figure's key to its value now; NaN where it is unknown.
        limits: Thresholds to draw; infinite ones are left out.
    """
    span = choose_span(recorded)
    step = next(step for step in _STEPS if span / step <= _MOST_POINTS)
    until_s = recorded.end_s + STEP_S
    since_s = until_s - span * STEP_S
    keys = list(spec.figures)[:1] if spec.ratio else list(spec.figures)
    values = [_thin(spec, _read(spec, recorded, key), span, step) for key in keys]
    times = [since_s + (index + 0.5) * step * STEP_S for index in range(span // step)]
    lines = tuple(
        Line(_pair(times, row), tone, is_filled=len(keys) == 1)
        for row, tone in zip(values, TONES, strict=False)
    )
    drawn = [limit for limit in limits if math.isfinite(limit.value)]
    series = tuple(
        Series(spec.figures[key], tone, format_value(_now(spec, recorded, key, now), spec.unit))
        for key, tone in zip(keys, TONES, strict=False)
    )
    is_known = any(line.points for line in lines)
    svg = ""
    if is_known:
        svg = draw_plot(
            Plot(
                _describe(spec, series, lines, drawn),
                spec.unit,
                lines,
                since_s,
                until_s,
                step * STEP_S,
                tuple(drawn),
                _choose_top(spec, lines, drawn),
                recorded.computed_until_s,
                WIDTH,
                HEIGHT,
                LEFT,
                RIGHT,
                _MOST_TICKS,
            )
        )
    return Chart(
        spec.key,
        spec.title,
        series,
        tuple((limit.tone, format_value(limit.value, spec.unit)) for limit in drawn),
        svg,
        _tabulate(spec, times, values),
        _as_data(spec, times, values),
        is_known and recorded.computed_until_s > since_s,
    )


def _read(spec: Spec, recorded: Recorded, key: str) -> list[float]:
    """A figure's minutes; the service level's are those of the hour before each."""
    if not spec.ratio:
        # What a counter grew by in a minute is known when that is over.
        is_counted = spec.combine is _mean
        minutes = list(recorded.values[key])
        return [*minutes[:-1], math.nan] if is_counted else minutes
    waits, late = (list(recorded.values[name]) for name in spec.figures)
    shares, waited, breached = [], 0.0, 0.0
    for minute in range(MINUTES):
        waited += _or_zero(waits[minute])
        breached += _or_zero(late[minute])
        if minute >= 60:
            waited -= _or_zero(waits[minute - 60])
            breached -= _or_zero(late[minute - 60])
        is_known = not math.isnan(waits[minute]) and waited > 0
        shares.append(max(0.0, 1 - breached / waited) if is_known else math.nan)
    return shares


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def _thin(spec: Spec, minutes: list[float], span: int, step: int) -> list[float]:
    """The last minutes, several on one point; one without any value is NaN."""
    combine: Combine = min if spec.ratio else spec.combine
    shown = minutes[-span:]
    parts = (shown[begin : begin + step] for begin in range(0, span, step))
    known = ([value for value in part if math.isfinite(value)] for part in parts)
    return [combine(part) if part else math.nan for part in known]


def _pair(times: Sequence[float], values: Sequence[float]) -> Points:
    pairs = zip(times, values, strict=True)
    return tuple((at, value) for at, value in pairs if not math.isnan(value))


def _now(spec: Spec, recorded: Recorded, key: str, now: Callable[[str], float]) -> float:
    """The latest value: of a counter that of the last whole minute."""
    if spec.ratio or spec.combine is _mean:
        minutes = _read(spec, recorded, key)
        return minutes[-2] if math.isnan(minutes[-1]) else minutes[-1]
    return now(key)


def _choose_top(spec: Spec, lines: Sequence[Line], limits: Sequence[Limit]) -> float:
    """The upper edge: above every value, and above the first threshold."""
    if spec.unit == "ratio":
        return 1.0
    values = [value for line in lines for _, value in line.points]
    least = min((limit.value for limit in limits), default=0.0)
    largest = max([*values, least * 1.2])
    if spec.unit != "seconds":
        return max(2.0, round_up(largest))
    steps = (30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 43200, 86400)
    return float(next((step for step in steps if step >= largest), round_up(largest)))


def _describe(
    spec: Spec, series: Sequence[Series], lines: Sequence[Line], limits: Sequence[Limit]
) -> str:
    """The chart in words."""
    parts = []
    for one, line in zip(series, lines, strict=True):
        if line.points:
            at, value = (min if spec.ratio else max)(line.points, key=lambda point: point[1])
            edge = "lowest" if spec.ratio else "highest"
            shown = format_value(value, spec.unit)
            parts.append(f"{one.words} now {one.now}, {edge} {shown} at {_clock(at)} UTC")
    named = ", ".join(f"{limit.tone} {format_value(limit.value, spec.unit)}" for limit in limits)
    return f"{spec.title}: {'; '.join(parts)}{f'; limits: {named}' if named else ''}"


def _tabulate(
    spec: Spec, times: Sequence[float], values: Sequence[Sequence[float]]
) -> tuple[tuple[str, ...], ...]:
    """A dozen times and the worst value before each; a gap is said."""
    width = max(1, len(times) // _MOST_ROWS)
    rows = []
    for begin in range(0, len(times), width):
        row = [_clock(times[begin])]
        for line in values:
            known = [value for value in line[begin : begin + width] if not math.isnan(value)]
            worst = (min if spec.ratio else max)(known) if known else None
            row.append(format_value(worst, spec.unit) if known else "no data")
        rows.append(tuple(row))
    return tuple(rows)


def _as_data(spec: Spec, times: Sequence[float], values: Sequence[Sequence[float]]) -> str:
    """Times, values and where they lie in the drawing, for the script."""
    rounded = [
        [None if math.isnan(value) else round(value, 3) for value in line] for line in values
    ]
    step_s = times[1] - times[0]
    edges = [round(LEFT / WIDTH, 4), round(1 - RIGHT / WIDTH, 4)]
    document = {
        "t": round(times[0]), "step": step_s, "unit": spec.unit, "x": edges, "v": rounded,
    }  # fmt: skip
    return json.dumps(document, separators=(",", ":"))


def _clock(at_s: float) -> str:
    return f"{datetime.fromtimestamp(at_s, UTC):%H:%M}"
