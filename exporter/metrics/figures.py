"""The figures a digest tells, and how they are read off metric families. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from exporter.metrics.snapshot import Family

Alarm = Literal["never", "above_zero", "growth"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure and where it comes from.

    Attributes:
        key: Its name in the state file.
        group: The line of a digest it stands in; empty where it stands in none.
        name: What it is called there.
        metric: Family; of several samples the sum is taken, of ages the largest.
        labels: Label to the values that count; all where a label is not named.
        unit: `seconds`, or empty for a count.
        is_counter: Whether it only grows, and is told since the watch began.
        alarm: From when on somebody should look.
        detail: The label whose values say more, where the figure is not 0.
    """

    key: str
    group: str
    name: str
    metric: str
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unit: str = ""
    is_counter: bool = False
    alarm: Alarm = "never"
    detail: str = ""


def _state(key: str, name: str, state: str) -> Figure:
    return Figure(key, "Chats", name, "chatqueue_chats", {"state": (state,)})


def _oldest(key: str, name: str, state: str) -> Figure:
    metric = "chatqueue_state_oldest_age_seconds"
    return Figure(key, "Waits", name, metric, {"state": (state,)}, "seconds")


def _overdue(key: str, name: str, state: str) -> Figure:
    labels = {"state": (state,), "severity": ("critical",)}
    return Figure(key, "Stuck", name, "chatqueue_state_overdue_chats", labels, alarm="above_zero")


def _counter(
    key: str, group: str, name: str, metric: str, alarm: Alarm = "never", **labels: tuple[str, ...]
) -> Figure:
    return Figure(key, group, name, metric, labels, is_counter=True, alarm=alarm)


def _released(key: str, name: str, *outcomes: str) -> Figure:
    return _counter(key, "Releases", name, "chatqueue_releases_total", outcome=outcomes)


FIGURES = (
    _state("waiting", "waiting", "waiting_assignment"),
    _state("assigned", "assigned", "assigned"),
    _state("replied", "waiting for the customer", "waiting_real_user_reply"),
    Figure(
        "available",
        "Chats",
        "operators available",
        "chatqueue_operators",
        {"status": ("available",)},
    ),
    _oldest("oldest_waiting", "oldest in the queue", "waiting_assignment"),
    _oldest("oldest_assigned", "oldest assigned", "assigned"),
    Figure(
        "customer_wait",
        "Waits",
        "a customer's longest",
        "chatqueue_customer_oldest_wait_seconds",
        unit="seconds",
    ),
    _overdue("overdue_waiting", "waiting too long", "waiting_assignment"),
    _overdue("overdue_assigned", "assigned too long", "assigned"),
    Figure(
        "idle_overdue",
        "Stuck",
        "missed by the idle detector",
        "chatqueue_idle_overdue_chats",
        alarm="above_zero",
    ),
    Figure(
        "unknown_state",
        "Invalid",
        "chats without a state",
        "chatqueue_chats",
        {"state": ("unknown",)},
        alarm="above_zero",
    ),
    Figure(
        "invalid",
        "Invalid",
        "chats in an impossible state",
        "chatqueue_invalid_chats",
        alarm="above_zero",
        detail="check",
    ),
    _counter(
        "repeats",
        "Invalid",
        "avoidable repeats",
        "chatqueue_same_operator_assignments_total",
        "growth",
        avoidable=("true",),
    ),
    # Some errors are any platform's everyday; whether there are more than before, the report says.
    _counter("log_errors", "Errors", "log errors", "chatqueue_log_events_total", level=("error",)),
    _counter(
        "query_errors",
        "Errors",
        "failed queries",
        "chatqueue_exporter_query_errors_total",
        "growth",
    ),
    _counter("deadlocks", "Errors", "deadlocks", "chatqueue_database_deadlocks_total"),
    _counter("rollbacks", "Errors", "rollbacks", "chatqueue_database_rollbacks_total"),
    Figure("database_up", "", "database answers", "chatqueue_database_up"),
    _counter("assignments", "Releases", "assignments", "chatqueue_assignments_total"),
    _released("released_replied", "replied", "replied", "customer_replied"),
    _released("released_idle", "idle", "idle_timeout"),
    _released("released_auto", "by auto-release", "auto_release"),
    _released("released_by_hand", "by hand", "admin", "manual"),
    _released("released_closed", "closed", "closed", "other"),
)
"""Every figure of a digest, in its order. A metric that is not there has no line."""

GROUPS = tuple(dict.fromkeys(figure.group for figure in FIGURES if figure.group))


@dataclass(frozen=True, slots=True)
class Reading:
    """One database's figures at one moment.

    Attributes:
        values: Figure's key to its value; one that is not known is missing. A counter's value is
            what its metric shows.
        details: Figure's key to label value and value, those that are not 0, largest first.
    """

    values: Mapping[str, float]
    details: Mapping[str, tuple[tuple[str, float], ...]] = field(default_factory=dict)


def read_figures(families: Iterable[Family]) -> Reading:
    """Read every figure off one database's families.

    Args:
        families: Without the label `database`; a name may come several times.
    """
    by_name: dict[str, list[Family]] = {}
    for family in families:
        by_name.setdefault(family.name, []).append(family)
    values: dict[str, float] = {}
    details: dict[str, tuple[tuple[str, float], ...]] = {}
    for figure in FIGURES:
        found = [
            (dict(sample.labels), sample.value)
            for family in by_name.get(figure.metric, ())
            for sample in family.samples
        ]
        found = [
            (labels, value)
            for labels, value in found
            if all(labels.get(name) in allowed for name, allowed in figure.labels.items())
        ]
        if not found:
            continue
        numbers = [value for _, value in found]
        values[figure.key] = max(numbers) if figure.unit else sum(numbers)
        if figure.detail:
            parts = [(labels.get(figure.detail, ""), value) for labels, value in found if value]
            details[figure.key] = tuple(sorted(parts, key=lambda part: (-part[1], part[0])))
    return Reading(values, details)
