"""The success criteria of the watch, each with the PromQL that judges it. Data; pure.

In an expression `$series` is the check's metric with its matchers, `$match` the matchers of the
databases judged, `$window` the time from the watch's beginning to the moment judged, `$seconds` the
same as a number, `$begun` the beginning as Unix time, `$step` what one point of a plot
spans. An expression gives one series, or one for each value of a label that is worth naming; the
worst of them is judged. No data is never a pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from string import Template
from typing import Literal

Relation = Literal["at most", "at least"]

MIN_COVERAGE = 0.95
"""Share of the watch that has to be seen before a check can pass."""

BASELINE_S = 86400
"""What comes before a watch and is compared with it."""

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
        window_s: From there to the moment judged.
        step_s: Between two points of a plot.
    """

    match: str
    begun_s: float
    window_s: int
    step_s: int = 60

    @property
    def at_s(self) -> float:
        """The moment judged, Unix time."""
        return self.begun_s + self.window_s


@dataclass(frozen=True, slots=True)
class Check:
    """One question to Prometheus, and the answer that is good.

    Attributes:
        asks: What is measured, in words.
        metric: What it is measured by; its coverage of the watch is this check's.
        value: Its PromQL, evaluated at the moment judged.
        limit: PromQL of the limit, or the number itself.
        relation: How a good value stands to the limit.
        unit: `seconds`, `ratio`, or empty for a count.
        plot: PromQL of the figure over time.
        matchers: Of `metric`, beside the databases.
        is_per_database: Whether the metric has the label `database`.
        is_compared: Whether the limit comes from the day before, which has to be covered too.
        idle: What it means that the metric was there and the value was not, in words.
    """

    asks: str
    metric: str
    value: str
    plot: str
    limit: str = "0"
    relation: Relation = "at most"
    unit: str = ""
    matchers: str = ""
    is_per_database: bool = True
    is_compared: bool = False
    idle: str = "there was nothing to judge"

    def selector(self, match: str) -> str:
        """Return the metric with every matcher."""
        parts = [part for part in (self.matchers, match if self.is_per_database else "") if part]
        return f"{self.metric}{{{','.join(parts)}}}"

    def fill(self, expression: str, scope: Scope) -> str:
        """Return an expression of this check as Prometheus takes it."""
        return Template(expression).substitute(
            series=self.selector(scope.match),
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


def _never_above_zero(asks: str, metric: str, matchers: str = "", by: str = "") -> Check:
    over = f"by ({by}) " if by else ""
    return Check(
        asks,
        metric,
        value=f"max {over}(max_over_time($series[$window]))",
        plot="sum(max_over_time($series[$step]))",
        matchers=matchers,
    )


def _never_overdue(asks: str, state: str) -> Check:
    """No chat past its critical threshold; one that is off judges nothing."""
    matchers = f'state="{state}",severity="critical"'
    threshold = f"chatqueue_threshold_oldest_age_seconds{{{matchers},$match}}"
    is_set = f"max(last_over_time({threshold}[$window])) < Inf"
    return Check(
        asks,
        "chatqueue_state_overdue_chats",
        value=f"max(max_over_time($series[$window])) and on () ({is_set})",
        plot="sum(max_over_time($series[$step]))",
        matchers=matchers,
        idle="the threshold is off",
    )


def _not_above_before(
    asks: str, metric: str, matchers: str = "", *, is_per_database: bool = True
) -> Check:
    """Events of the watch against those to expect by the 24 h before it, chance allowed for."""
    expected = "(sum(increase($series[1d] @ $begun)) * $seconds / 86400)"
    return Check(
        asks,
        metric,
        value="sum(increase($series[$window]))",
        limit=f"{expected} + 2 * sqrt({expected})",
        plot="sum(increase($series[$step]))",
        matchers=matchers,
        is_per_database=is_per_database,
        is_compared=True,
    )


_WAITING = 'chatqueue_chats{state="waiting_assignment",$match}'
_AVAILABLE = 'chatqueue_operators{status="available",$match}'
_TAKEN = "chatqueue_assignments_total{$match}"
_NOT_DRAINING = (
    f"(min by (database) (min_over_time({_WAITING}[10m])) > bool 0)"
    f" * (min by (database) (min_over_time({_AVAILABLE}[10m])) > bool 0)"
    f" * (sum by (database) (increase({_TAKEN}[10m])) == bool 0)"
)
_BREACHED = "chatqueue_waits_breached_total{$match}"
_WAITS = "chatqueue_waits_total{$match}"
_OBJECTIVE = "chatqueue_threshold_slo_objective_ratio{$match}"
_IDLE_OVERDUE = "max(min_over_time(chatqueue_idle_overdue_chats{$match}[5m]))"

CRITERIA = (
    Criterion(
        "repeats",
        "No operator got the same chat again while another chat waited",
        (
            Check(
                "avoidable repeats since the watch began",
                "chatqueue_same_operator_assignments_total",
                value="sum(increase($series[$window]))",
                plot="sum(increase($series[$step]))",
                matchers='avoidable="true"',
            ),
            Check(
                "assignments, without which none could be seen",
                "chatqueue_assignments_total",
                value="sum(increase($series[$window])) > 0",
                plot="sum(increase($series[$step]))",
                limit="1",
                relation="at least",
                idle="no chat was assigned",
            ),
        ),
    ),
    Criterion(
        "states",
        "No chat was stuck or in an invalid state",
        (
            _never_above_zero(
                "chats in an impossible state, at the worst moment, by check",
                "chatqueue_invalid_chats",
                by="check",
            ),
            _never_above_zero(
                "chats without a known state, at the worst moment",
                "chatqueue_chats",
                'state="unknown"',
            ),
            _never_overdue(
                "chats assigned past the critical threshold, at the worst moment", "assigned"
            ),
        ),
    ),
    Criterion(
        "queue",
        "The queue flowed",
        (
            _never_overdue(
                "chats in the queue past the critical threshold, at the worst moment",
                "waiting_assignment",
            ),
            Check(
                "whether chats waited and operators were free for 10 minutes without an assignment",
                "chatqueue_assignments_total",
                value=f"max(max_over_time(({_NOT_DRAINING})[$window:1m]))",
                plot=f"max({_NOT_DRAINING})",
            ),
            Check(
                "share of waits longer than the service level promises",
                "chatqueue_waits_total",
                value=f"sum(increase({_BREACHED}[$window])) / sum(increase({_WAITS}[$window]))",
                plot=f"sum(increase({_BREACHED}[$step])) / sum(increase({_WAITS}[$step]))",
                limit=f"1 - min(last_over_time({_OBJECTIVE}[$window]))",
                unit="ratio",
                idle="nobody waited",
            ),
        ),
    ),
    Criterion(
        "idle",
        "The platform's idle detector worked",
        (
            Check(
                "chats it should have released and did not within 5 minutes, at the worst moment",
                "chatqueue_idle_overdue_chats",
                value=f"max_over_time(({_IDLE_OVERDUE})[$window:1m])",
                plot=_IDLE_OVERDUE,
            ),
            Check(
                "chats it released, without which it could not be seen to work",
                "chatqueue_idle_releases_total",
                value="sum(increase($series[$window])) > 0",
                plot="sum(increase($series[$step]))",
                limit="1",
                relation="at least",
                matchers='by="job"',
                idle="no operator was idle for long enough",
            ),
        ),
    ),
    Criterion(
        "errors",
        "No more errors than in the 24 hours before",
        (
            _not_above_before(
                "errors in the logs",
                "chatqueue_log_events_total",
                'level="error"',
                is_per_database=False,
            ),
            _not_above_before("transactions rolled back", "chatqueue_database_rollbacks_total"),
            _not_above_before("deadlocks", "chatqueue_database_deadlocks_total"),
            _not_above_before(
                "queries of this watch that failed", "chatqueue_exporter_query_errors_total"
            ),
        ),
    ),
)

JUDGED_BY_PEOPLE = (
    "Operators say that chats reach them as before.",
    "Users do not complain more than before.",
    "Every alert of the watch is explained.",
    "What was repaired by hand is written down.",
    "The rollback was possible until its deadline, and nobody needed it.",
)
"""What no metric can say."""

SIGNERS = ("On-call engineer", "Operations lead", "Product owner")
