"""The configured thresholds as metric families, for rules and panels to compare with. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import timedelta

from exporter.config import Config, Threshold, burn_rates, limit_seconds
from exporter.metrics.snapshot import Family, Labels, make_family

OLDEST_AGE_STATES = ("waiting_assignment", "assigned", "waiting_real_user_reply")
SEVERITIES = ("warning", "critical")


def build_thresholds(config: Config) -> tuple[Family, ...]:
    """Return the thresholds as families; one that is off is +Inf."""
    return (*_age_thresholds(config), *_watch_thresholds(config), *_service_level(config))


def limits_of(threshold: Threshold) -> Iterator[tuple[str, float]]:
    """Yield severity and limit in seconds, infinite where off."""
    for severity in SEVERITIES:
        yield severity, limit_seconds(getattr(threshold, severity))


def _age_thresholds(config: Config) -> tuple[Family, ...]:
    """How long chats and users may wait, and how work may be spread."""
    thresholds = config.thresholds
    return (
        _threshold(
            "oldest_age_seconds",
            "Configured limit of the true time in a state; +Inf when off.",
            *(
                ((("state", state), ("severity", severity)), limit_s)
                for state in OLDEST_AGE_STATES
                for severity, limit_s in limits_of(getattr(thresholds.oldest_age, state))
            ),
        ),
        _threshold(
            "customer_wait_seconds",
            "Configured limit of the longest unanswered wait of a user; +Inf when off.",
            *(((("severity", s),), limit_s) for s, limit_s in limits_of(thresholds.customer_wait)),
        ),
        _threshold(
            "idle_grace_seconds",
            "Configured time the platform's idle detector may take beyond its timeout.",
            ((), thresholds.idle_grace.total_seconds()),
        ),
        _threshold(
            "checks_grace_seconds",
            "Configured time a chat may contradict itself before it counts as invalid.",
            ((), config.checks.grace.total_seconds()),
        ),
        _threshold(
            "stuck_seconds",
            "Configured argument of the platform's detect_stuck_chats, in seconds.",
            ((), timedelta(hours=thresholds.stuck_hours).total_seconds()),
        ),
        _threshold(
            "stale_operators_ratio",
            "Configured share of operators on duty that may show no sign of life; +Inf when off.",
            ((), _or_infinite(thresholds.stale_operators)),
        ),
        _threshold(
            "operator_gini_ratio",
            "Configured Gini coefficient from which the distribution is unfair; +Inf when off.",
            ((), _or_infinite(thresholds.fairness.gini)),
        ),
        _threshold(
            "operator_window_assignments",
            "Configured number of assignments a day below which fairness is not judged.",
            ((), float(thresholds.fairness.min_assignments)),
        ),
    )


def _watch_thresholds(config: Config) -> tuple[Family, ...]:
    """When the watch itself, its database or the releaser is in trouble."""
    thresholds = config.thresholds
    return (
        _threshold(
            "data_age_seconds",
            "Configured age from which the figures count as stale.",
            ((), thresholds.data_age.total_seconds()),
        ),
        _threshold(
            "database_drops",
            "Configured losses of the database in 15 minutes that are too many; +Inf when off.",
            ((), _or_infinite(thresholds.database_drops)),
        ),
        _threshold(
            "clock_skew_seconds",
            "Configured limit of the difference between the two clocks; +Inf when off.",
            ((), limit_seconds(thresholds.clock_skew)),
        ),
        _threshold(
            "release_paused_seconds",
            "Configured limit of a day's pauses of auto-release; +Inf when off.",
            ((), limit_seconds(thresholds.release_paused)),
        ),
    )


def _service_level(config: Config) -> tuple[Family, ...]:
    """The promise to users, and from when on it is broken too fast."""
    slo = config.slo
    return (
        _threshold(
            "slo_answer_within_seconds",
            "Configured time within which a user is to be answered.",
            ((), slo.answer_within.total_seconds()),
        ),
        _threshold(
            "slo_objective_ratio",
            "Configured share of waits that are to be answered within that time.",
            ((), slo.objective),
        ),
        _threshold(
            "slo_burn_rate",
            "Burn rate of the error budget from which to alert, worked out from the objective.",
            *(((("severity", s),), rate) for s, rate in burn_rates(slo.objective).items()),
        ),
        _threshold(
            "slo_breaches",
            "Configured number of breached waits below which no burn rate alerts.",
            ((), float(slo.min_breaches)),
        ),
    )


def _or_infinite(limit: float | None) -> float:
    """A limit's value; infinite where it is off."""
    return math.inf if limit is None else limit


def _threshold(name: str, help_text: str, *samples: tuple[Labels, float]) -> Family:
    return make_family(f"chatqueue_threshold_{name}", help_text, samples)
