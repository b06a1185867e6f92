"""The success criteria of the watch, each with the PromQL that judges it. Data; pure.

In an expression `$series` is the check's metric with its matchers, `$match` the matchers of the
databases judged, `$window` the time from the watch's beginning to the time judged, `$seconds` the
same as a number, `$begun` the beginning as Unix time, `$step` what one point of a plot spans. An
expression gives one series, or one for each value of a label that is worth naming; the worst of
them is judged. No data is never a pass.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from string import Template
from typing import Literal

from exporter.metrics.figures import FIGURES, Figure

Relation = Literal["at most", "at least"]

MIN_COVERAGE = 0.95
"""Share of the watch that has to be seen before a check can pass."""

BASELINE_S = 86400
"""What comes before a watch and is compared with it."""

_NOTHING = "there was nothing to judge"
_MIN_SPAN_S = 300  # an increase needs two scrapes

COVERAGE = (
    "count_over_time((max(present_over_time($series[2m])))[$window:1m])"
    " / count_over_time(vector(1)[$window:1m])"
)
"""PromQL of the share of the minutes in which a check's metric was there."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What is judged.

    Attributes:
        match: Matchers of the databases.
        begun_s: Beginning of the watch, Unix time.
        window_s: From there to the time judged.
        step_s: Between two points of a plot.
    """

    match: str
    begun_s: float
    window_s: int
    step_s: int = 60

    @property
    def at_s(self) -> float:
        """The time judged, Unix time."""
        return self.begun_s + self.window_s


@dataclass(frozen=True, slots=True)
class Check:
    """One question to Prometheus, and the answer that is good.

    Attributes:
        asks: What is measured, in words.
        figure: What it is measured by; its coverage of the watch is this check's.
        value: Its PromQL, evaluated at the time judged.
        plot: PromQL of the value over time.
        limit: PromQL of the limit, or the number itself.
        relation: How a good value stands to the limit.
        unit: `ratio`, or empty for a count.
        is_per_database: Whether the metric has the label `database`.
        is_compared: Whether the limit comes from the day before, which has to be covered too.
        idle: What it means that the metric was there and the value was not, in words.
    """

    asks: str
    figure: Figure
    value: str = "sum(increase($series[$window]))"
    plot: str = "sum(increase($series[$step]))"
    limit: str = "0"
    relation: Relation = "at most"
    unit: str = ""
    is_per_database: bool = True
    is_compared: bool = False
    idle: str = _NOTHING

    def fill(self, expression: str, scope: Scope) -> str:
        """Return an expression of this check as Prometheus takes it."""
        return Template(expression).substitute(
            series=_select(self.figure, scope.match if self.is_per_database else ""),
            match=scope.match,
            window=f"{scope.window_s}s",
            seconds=scope.window_s,
            begun=f"{scope.begun_s:.3f}",
            step=f"{max(scope.step_s, _MIN_SPAN_S)}s",
        )


@dataclass(frozen=True, slots=True)
class Criterion:
    """What has to hold for the deployment to be a success.

    Attributes:
        key: Its name for programs.
        title: What holds, in one line.
        checks: All of them have to pass.
    """

    key: str
    title: str
    checks: tuple[Check, ...]


def _select(figure: Figure, match: str = "$match") -> str:
    """The selector of a figure."""
    return f"{figure.metric}{{{','.join(filter(None, (*figure.matchers, match)))}}}"


def _never_above_zero(key: str, only_if: str = "", idle: str = _NOTHING) -> Check:
    figure = FIGURES[key]
    over = f"by ({figure.detail}) " if figure.detail else ""
    return Check(
        f"{figure.words}, peak{f' by {figure.detail}' if figure.detail else ''}",
        figure,
        value=f"max {over}(max_over_time($series[$window])){only_if}",
        plot="sum(max_over_time($series[$step]))",
        idle=idle,
    )


def _never_overdue(key: str) -> Check:
    """No chat past its critical threshold; one that is off judges nothing."""
    threshold = replace(FIGURES[key], metric=FIGURES["oldest_assigned"].limit)
    is_set = f"max(last_over_time({_select(threshold)}[$window])) < Inf"
    return _never_above_zero(key, f" and on () ({is_set})", "the threshold is off")


def _at_least_one(key: str, purpose: str, idle: str) -> Check:
    """Something happened, without which nothing follows from the other checks."""
    value = "sum(increase($series[$window])) > 0"
    words = f"{FIGURES[key].words}, without which {purpose}"
    return Check(words, FIGURES[key], value, limit="1", relation="at least", idle=idle)


def _not_above_before(key: str, *, is_per_database: bool = True) -> Check:
    """Events of the watch against those to expect by the 24 h before it, chance allowed for."""
    expected = "(sum(increase($series[1d] @ $begun)) * $seconds / 86400)"
    limit = f"{expected} + 2 * sqrt({expected})"
    figure = FIGURES[key]
    return Check(
        figure.words, figure, limit=limit, is_per_database=is_per_database, is_compared=True
    )


_WAITING, _AVAILABLE, _TAKEN, _WAITS, _OVERDUE = (
    _select(FIGURES[key])
    for key in ("waiting", "available", "assignments", "waits", "idle_overdue")
)
_NOT_DRAINING = (
    f"(min by (database) (min_over_time({_WAITING}[10m])) > bool 0)"
    f" * (min by (database) (min_over_time({_AVAILABLE}[10m])) > bool 0)"
    f" * (sum by (database) (increase({_TAKEN}[10m])) == bool 0)"
)
_BREACHED = "chatqueue_waits_breached_total{$match}"
_OBJECTIVE = "chatqueue_threshold_slo_objective_ratio{$match}"
_IDLE_OVERDUE = f"max(min_over_time({_OVERDUE}[5m]))"

CRITERIA = (
    Criterion(
        "repeats",
        "No operator got the same chat again while another chat waited",
        (
            Check("avoidable repeats since the watch began", FIGURES["repeats"]),
            _at_least_one("assignments", "none could be seen", "no chat was assigned"),
        ),
    ),
    Criterion(
        "states",
        "No chat was stuck or in an invalid state",
        (
            _never_above_zero("invalid"),
            _never_above_zero("unknown_state"),
            _never_overdue("overdue_assigned"),
        ),
    ),
    Criterion(
        "queue",
        "The queue flowed",
        (
            _never_overdue("overdue_waiting"),
            Check(
                "whether chats waited and operators were free for 10 minutes without an assignment",
                FIGURES["assignments"],
                value=f"max(max_over_time(({_NOT_DRAINING})[$window:1m]))",
                plot=f"max({_NOT_DRAINING})",
            ),
            Check(
                "share of waits longer than the service level promises",
                FIGURES["waits"],
                value=f"sum(increase({_BREACHED}[$window])) / sum(increase({_WAITS}[$window]))",
                plot=f"sum(increase({_BREACHED}[$step])) / sum(increase({_WAITS}[$step]))",
                limit=f"1 - min(last_over_time({_OBJECTIVE}[$window]))",
                unit="ratio",
                idle="no user waited",
            ),
        ),
    ),
    Criterion(
        "idle",
        "The platform's idle detector worked",
        (
            Check(
                f"{FIGURES['idle_overdue'].words} and did not within 5 minutes, peak",
                FIGURES["idle_overdue"],
                value=f"max_over_time(({_IDLE_OVERDUE})[$window:1m])",
                plot=_IDLE_OVERDUE,
            ),
            _at_least_one(
                "idle_releases",
                "it could not be seen to work",
                "no operator was idle for long enough",
            ),
        ),
    ),
    Criterion(
        "errors",
        "No more errors than in the 24 hours before",
        (
            _not_above_before("log_errors", is_per_database=False),
            _not_above_before("rollbacks"),
            _not_above_before("deadlocks"),
            _not_above_before("query_errors"),
        ),
    ),
)
