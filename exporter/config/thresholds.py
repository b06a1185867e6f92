"""The sections `thresholds` and `slo`: from which value on a metric warns or pages.

Each is exported as a metric, which alert rules and panels compare with.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any

from pydantic import Field, ValidationInfo, field_validator

from exporter.config.exported import Exported, QueryParameter
from exporter.config.section import Section
from exporter.config.values import (
    Duration,
    Limit,
    LimitCount,
    LimitShare,
    Objective,
    OrOff,
    WholeNumber,
    between,
    fault,
    from_to,
)
from exporter.text import format_duration


def _warning(default: timedelta | str) -> Any:
    return Field(
        default=default, description="From this value on it needs attention; off disables it."
    )


def _critical(default: timedelta | str) -> Any:
    return Field(
        default=default,
        description="From this value on it pages; off disables it. Not below warning.",
    )


class Threshold(Section):
    """Two limits of one metric, which alert rules and panels compare against."""

    warning: Limit = _warning("off")
    critical: Limit = _critical("off")

    @field_validator("critical")
    @classmethod
    def _not_below_warning(
        cls, critical: timedelta | None, info: ValidationInfo
    ) -> timedelta | None:
        warning: timedelta | None = info.data.get("warning")
        if critical is not None and warning is not None and critical < warning:
            text = format_duration(warning)
            raise fault(f"is below warning ({text})", f"{text} or more")
        return critical


class WaitingAssignmentAge(Threshold):
    """How long the oldest chat may wait for an operator."""

    warning: Limit = _warning(timedelta(minutes=2))
    critical: Limit = _critical(timedelta(minutes=5))


class AssignedAge(Threshold):
    """How long the oldest chat may stay with its operator without a reply."""

    warning: Limit = _warning(timedelta(minutes=10))
    critical: Limit = _critical(timedelta(minutes=20))


class CustomerWait(Threshold):
    """How long a customer may wait for an answer, whatever the chat's state says."""

    warning: Limit = _warning(timedelta(minutes=5))
    critical: Limit = _critical(timedelta(minutes=10))


class OldestAge(Section):
    """The true time of the oldest chat in its state, by state."""

    waiting_assignment: WaitingAssignmentAge = Field(
        default=WaitingAssignmentAge(), description="Chats waiting for an operator."
    )
    assigned: AssignedAge = Field(
        default=AssignedAge(), description="Chats with an operator who has not replied yet."
    )
    waiting_real_user_reply: Threshold = Field(
        default=Threshold(),
        description="Chats that wait for the customer to reply; usually no fault, so off.",
    )


def burn_rates(objective: float) -> dict[str, float]:
    """Return the burn rate of the error budget from which each severity alerts.

    A burn rate is the share of breached waits over the share that the objective allows, and so at
    most `1 / (1 - objective)`. The rates are the usual 14.4 (2 % of a month's budget in an hour)
    and 6 (5 % in six hours), or, where these are out of reach, a half and a quarter of the way from
    1, which is a promise just kept, to the most there can be.
    """
    most = 1 / (1 - objective)
    return {
        "warning": min(6.0, 1 + (most - 1) / 4),
        "critical": min(14.4, 1 + (most - 1) / 2),
    }


class Fairness(Section):
    """When the work counts as unevenly spread over the operators."""

    gini: Annotated[LimitShare, Exported("operator_gini_ratio")] = Field(
        default=0.4,
        description="Gini coefficient of a day's assignments above which their distribution counts "
        "as uneven: 0 is even, near 1 is everything to one operator. off disables it.",
    )
    min_assignments: Annotated[
        WholeNumber,
        from_to(1, 1_000_000),
        Exported("operator_window_assignments"),
    ] = Field(
        default=100,
        description="Assignments per day below which fairness is not judged: too few to compare.",
    )


class Thresholds(Section):
    """What counts as late. Exported as metrics, so a reload re-tunes the alerts."""

    oldest_age: Annotated[
        OldestAge,
        QueryParameter("oldest_age"),
        Exported("oldest_age_seconds", labels=("state", "severity")),
    ] = Field(default=OldestAge(), description="Time of the oldest chat in each state.")
    customer_wait: Annotated[
        CustomerWait,
        QueryParameter("customer_wait"),
        Exported("customer_wait_seconds", labels=("severity",)),
    ] = Field(
        default=CustomerWait(),
        description="The longest time a customer has waited for an answer.",
    )
    data_age: Annotated[Duration, between("1s", "1d"), Exported("data_age_seconds")] = Field(
        default=timedelta(minutes=2),
        description="How old metrics may become before they count as stale and an alert pages. "
        "Keep it above the interval.",
    )
    idle_grace: Annotated[
        Duration, between("0s", "1d"), QueryParameter("idle_grace"), Exported("idle_grace_seconds")
    ] = Field(
        default=timedelta(minutes=2),
        description="How long past its idle timeout the platform may take to release a chat before "
        "its idle detector counts as late.",
    )
    operator_idle: Annotated[Limit, Exported("operator_idle_seconds")] = Field(
        default=timedelta(minutes=5),
        description="How long an available operator may be without a chat while users wait; off "
        "disables it.",
    )
    stuck_hours: Annotated[
        WholeNumber,
        from_to(1, 8760),
        QueryParameter("stuck_hours"),
        Exported(
            "stuck_seconds",
            convert=lambda hours: timedelta(hours=hours),
            help="thresholds.stuck_hours, in seconds.",
        ),
    ] = Field(
        default=1,
        description="Whole hours without any change after which the platform's own "
        "detect_stuck_chats calls a chat stuck.",
    )
    stale_operators: Annotated[LimitShare, Exported("stale_operators_ratio")] = Field(
        default=0.5,
        description="Share of the operators on duty without a sign of life, above which the "
        "heartbeats themselves are doubtful; off disables it.",
    )
    fairness: Fairness = Field(
        default=Fairness(), description="Distribution of the work over the operators."
    )
    database_drops: Annotated[LimitCount, Exported("database_drops")] = Field(
        default=3,
        description="How often within 15 minutes the database must be lost, however briefly, to "
        "count as unstable; off disables it.",
    )
    clock_skew: Annotated[Limit, Exported("clock_skew_seconds")] = Field(
        default=timedelta(seconds=5),
        description="How far the clocks of the database and of this host may be apart; off "
        "disables it.",
    )
    release_paused: Annotated[
        OrOff[Annotated[Duration, between("1h", "23h")]], Exported("release_paused_seconds")
    ] = Field(
        default=timedelta(hours=4),
        description="How long auto-release may be paused within a day; off disables it. At "
        "least 1h, at most 23h.",
    )


class ServiceLevel(Section):
    """What the team promises its users."""

    answer_within: Annotated[
        Duration,
        between("1s", "1d"),
        QueryParameter("slo_answer_within"),
        Exported("slo_answer_within_seconds"),
    ] = Field(
        default=timedelta(minutes=2),
        description="A user's wait, from the first unanswered message to the operator's reply, "
        "counts as breached when it is longer.",
    )
    objective: Annotated[
        Objective,
        QueryParameter("slo_objective"),
        Exported("slo_objective_ratio"),
        Exported(
            "slo_burn_rate",
            labels=("severity",),
            convert=burn_rates,
            help="Burn rate of the error budget from which to alert, computed from slo.objective.",
        ),
    ] = Field(
        default=0.9,
        description="Share of waits that must not be breached; at least 0.5 and below 1. The burn "
        "rates that alert are 6 and 14.4, or less where it leaves no room for these.",
    )
    min_breaches: Annotated[
        WholeNumber,
        from_to(1, 1_000_000),
        Exported("slo_breaches"),
    ] = Field(
        default=5,
        description="Breached waits below which no burn rate alerts, however high it is: where "
        "few users write, two late answers are not a trend.",
    )
