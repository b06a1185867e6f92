"""Which of the shipped alerts hold now, and since when: on values and their history. Pure.

Prometheus decides who is paged; the page shows the same conditions as soon as they hold. A
condition for which a rule waits longer than a minute is pending until it has lasted as long.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from exporter.metrics.figures import FIGURES, Samples
from exporter.metrics.history import MINUTES, STEP_S, Recorded
from exporter.text import format_number, format_value

Severity = Literal["warning", "critical"]
Values = Callable[[str], float]
"""Figure's key to value; NaN, of which nothing is true, where it is unknown."""

PENDING_AFTER_S = 60.0
_ABOVE = {
    "ChatQueueOldestWait": "oldest_waiting",
    "ChatQueueCustomerWait": "customer_wait",
    "ChatQueueStuckAssigned": "oldest_assigned",
    "ChatQueueUserSilent": "oldest_silent",
}
_LOST = {"lost_reply": "ChatQueueLostReply", "closed_but_written_to": "ChatQueueClosedChatWritten"}
# What the service level's two windows are, in minutes, and how soon each ends.
_BURNS: tuple[tuple[Severity, int, int], ...] = (("critical", 60, 5), ("warning", 360, 30))
NOT_SHOWN = {
    "ChatQueueExporterDown": "there is no page then; an open one says so",
    "ChatQueueExporterAbsent": "only Prometheus knows",
    "ChatQueueWatchdog": "only Prometheus and Alertmanager are asked by it",
    "ChatQueueRuleInputsMissing": "values that are missing are shown as unknown",
    "ChatQueueDatabaseUnstable": "minutes are too coarse to count losses",
    "ChatQueueNotDraining": "the oldest wait climbs, which is shown",
    "ChatQueueUnfairDistribution": "about a day, not about now",
    "ChatQueueReleaseDefect": "among the latest decisions",
    "ChatQueueReleasePausedTooLong": "a pause is shown with its end",
    "ChatQueueReleaseWithoutControl": "the mode in force is shown beside the configured one",
    "ChatQueueReleaseStalled": "the threads that are stalled are named",
    "ChatQueueReloadFailed": "said at the head of the page",
    "ChatQueueLogNotFollowed": "about the platform's logs, which are no database",
    "ChatQueueNoticeLost": "about webhooks",
}
"""Alerts whose condition the page does not judge, and why."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """One alert whose condition holds.

    Attributes:
        alert: Its name in the rules, and of its runbook.
        severity: As in the rules.
        detail: The values, in words.
        since_s: Unix time since when it holds, as far as that is known; None where it is not.
    """

    alert: str
    severity: Severity
    detail: str
    since_s: float | None = None


@dataclass(frozen=True, slots=True)
class Scene:
    """All that the rules look at of one database, now.

    Attributes:
        samples: The latest metrics, thresholds and releaser included.
        recorded: The last 24 h.
        wall_s: Unix time.
        answered_s: Unix time of the latest success of any query; 0 before the first.
        failing: Queries whose result is missing.
        hidden: Relations of which row-level security hides rows.
    """

    samples: Samples
    recorded: Recorded
    wall_s: float
    answered_s: float
    failing: tuple[str, ...]
    hidden: tuple[str, ...]

    def value(self, key: str) -> float:
        """Return a figure's value; NaN where it is unknown."""
        value = FIGURES[key].read(self.samples)
        return math.nan if value is None else value

    def limit(self, name: str, **labels: str) -> float:
        """Return a threshold; infinite where it is off or missing."""
        for found, value in self.samples.get(f"chatqueue_threshold_{name}", ()):
            if labels.items() <= found.items():
                return value
        return math.inf

    def sample(self, name: str) -> float:
        """Return the only sample of a metric; NaN where there is none."""
        for _, value in self.samples.get(name, ()):
            return value
        return math.nan


@dataclass(frozen=True, slots=True)
class _Rule:
    """A condition on the values of one minute; it holds only where `key` is above `above`."""

    alert: str
    severity: Severity
    key: str
    above: float
    holds: Callable[[Values], bool]
    detail: Callable[[Values], str]


def find_alarms(scene: Scene) -> tuple[Alarm, ...]:
    """Return every alert whose condition holds, critical ones first, each by its worst severity."""
    alarms: dict[str, Alarm] = {}
    for alarm in (*_find_own(scene), *_find_by_rules(scene), *_find_counted(scene)):
        alarms.setdefault(alarm.alert, alarm)
    return tuple(sorted(alarms.values(), key=lambda alarm: alarm.severity != "critical"))


def find_calm(scene: Scene) -> float | None:
    """Return since when the database answers and no condition held, as far back as is recorded."""
    recorded = scene.recorded
    up = recorded.values["database_up"]
    # The minute under way may not have been read yet.
    is_unread = math.isnan(up[-1])
    lost = (minute for minute in range(MINUTES - 1 - is_unread, -1, -1) if up[minute] != 1)
    last = next(lost, -1)
    for rule in _build_rules(scene):
        last = _find_last(rule, recorded, last)
    return None if last == MINUTES - 1 - is_unread else recorded.time_of(last + 1)


def _find_last(rule: _Rule, recorded: Recorded, after: int) -> int:
    """The last minute after another one in which a rule held, or that other one."""
    # A comparison first, for there are many minutes.
    ring, above = recorded.values[rule.key], rule.above
    for minute in range(MINUTES - 1, after, -1):
        if ring[minute] > above and rule.holds(_at(recorded, minute)):
            return minute
    return after


def _at(recorded: Recorded, minute: int) -> Values:
    return lambda key: recorded.values[key][minute]


def _find_by_rules(scene: Scene) -> Iterator[Alarm]:
    for rule in _build_rules(scene):
        if rule.holds(scene.value):
            detail = rule.detail(scene.value)
            yield Alarm(rule.alert, rule.severity, detail, _find_since(rule, scene))


def _find_since(rule: _Rule, scene: Scene) -> float:
    """The first of the minutes up to now in which it held."""
    since = scene.wall_s
    for minute in range(MINUTES - 1, -1, -1):
        if not rule.holds(_at(scene.recorded, minute)):
            if minute == MINUTES - 1:  # not read yet, or it began within this minute
                continue
            break
        since = min(since, scene.recorded.time_of(minute))
    return since


def _build_rules(scene: Scene) -> Iterator[_Rule]:
    """The rules whose condition is about values that are recorded."""
    for alert, key in _ABOVE.items():
        for severity in ("critical", "warning"):
            yield _build_above(scene, alert, severity, key)
    idle_s, stale_share = scene.limit("operator_idle_seconds"), scene.limit("stale_operators_ratio")
    yield _Rule(
        "ChatQueueNoOperator",
        "critical",
        "oldest_waiting",
        0.0,
        lambda v: v("available") + v("on_chat") == 0 and v("oldest_waiting") > 0,
        lambda v: f"{_count(v('waiting'))} chats wait, no operator is available or on a chat",
    )
    yield _Rule(
        "ChatQueueOperatorsIdleWhileUsersWait",
        "warning",
        "operator_idle",
        idle_s,
        lambda v: v("operator_idle") > idle_s and v("oldest_waiting") > 0,
        lambda v: f"without a chat for {format_value(v('operator_idle'), 'seconds')}",
    )
    yield _Rule(
        "ChatQueueHeartbeatsStale",
        "warning",
        "stale",
        0.0,
        lambda v: (
            v("stale") > stale_share * (v("available") + v("on_chat") + v("stale"))
            and v("oldest_assigned") > 0
        ),
        lambda v: f"{_count(v('stale'))} operators without a sign of life",
    )
    yield _Rule(
        "ChatQueueIdleDetectorDown",
        "warning",
        "idle_overdue",
        0.0,
        lambda v: v("idle_overdue") > 0,
        lambda v: f"{_count(v('idle_overdue'))} chats beyond the idle timeout and its grace",
    )
    yield _Rule(
        "ChatQueueCountsDisagree",
        "critical",
        "counts_disagree",
        -math.inf,
        lambda v: v("counts_disagree") != 0 and not math.isnan(v("counts_disagree")),
        lambda v: f"{_count(abs(v('counts_disagree')))} chats of difference",
    )


def _build_above(scene: Scene, alert: str, severity: Severity, key: str) -> _Rule:
    """One of the two limits of an age."""
    name = FIGURES[key].limit.removeprefix("chatqueue_threshold_")
    limit = scene.limit(name, severity=severity, **FIGURES[key].labels)
    words = f"limit {format_value(limit, 'seconds')}"
    return _Rule(
        alert,
        severity,
        key,
        limit,
        lambda v: v(key) > limit,
        lambda v: f"{format_value(v(key), 'seconds')}, {words}",
    )


def _find_own(scene: Scene) -> Iterator[Alarm]:
    """What is about the database and the watch itself."""
    answered_s = scene.answered_s or None
    is_down = scene.value("database_up") == 0
    if is_down:
        yield Alarm("ChatQueueDatabaseDown", "critical", "no poll succeeds", answered_s)
    age_s = scene.wall_s - scene.answered_s
    if answered_s is not None and age_s > scene.limit("data_age_seconds"):
        shown = f"the newest values are {format_value(age_s, 'seconds')} old"
        yield Alarm("ChatQueueDataStale", "critical", shown, answered_s)
    if scene.failing and not is_down:
        yield Alarm("ChatQueueQueryFailing", "warning", ", ".join(scene.failing))
    if scene.hidden:
        yield Alarm("ChatQueueRowsHidden", "critical", ", ".join(scene.hidden))
    broken = [labels["name"] for labels, ok in _all(scene, "contract_object_ok") if ok == 0]
    if broken:
        yield Alarm("ChatQueueFixBroken", "critical", ", ".join(broken))
    skew_s = abs(scene.sample("chatqueue_database_clock_skew_seconds"))
    if skew_s > scene.limit("clock_skew_seconds"):
        shown = f"{format_value(skew_s, 'seconds')} apart"
        yield Alarm("ChatQueueClockSkew", "warning", shown)
    if scene.sample("chatqueue_release_breaker_tripped") == 1:
        yield Alarm("ChatQueueReleaseBreakerTripped", "warning", "nothing is released")
    chats = scene.sample("chatqueue_release_would_close_chats")
    if chats > 0:
        yield Alarm("ChatQueueReleaseWouldClose", "warning", f"{_count(chats)} chats")


def _find_counted(scene: Scene) -> Iterator[Alarm]:
    """Invalid chats by check, what happened lately, and the service level."""
    others = []
    for check, chats in FIGURES["invalid"].read_details(scene.samples):
        if check in _LOST:
            yield Alarm(_LOST[check], "critical", f"{_count(chats)} chats")
        else:
            others.append(f"{check} {_count(chats)}")
    if others:
        yield Alarm("ChatQueueInvalidChats", "warning", ", ".join(others))
    for alert, key in (
        ("ChatQueueChatClosed", "closed_chats"),
        ("ChatQueueAvoidableRepeat", "repeats"),
    ):
        count = scene.recorded.total(key, 10) or 0.0
        if count > 0:
            yield Alarm(alert, "warning", f"{_count(count)} in the last 10 minutes")
    budget = 1 - scene.limit("slo_objective_ratio")
    for severity, long, short in _BURNS:
        rates = [_breached_share(scene.recorded, minutes) / budget for minutes in (long, short)]
        limit = scene.limit("slo_burn_rate", severity=severity)
        breaches = scene.recorded.total("waits_breached", long) or 0.0
        if min(rates) > limit and breaches >= scene.limit("slo_breaches"):
            shown = f"{format_number(rates[0])} times as many late answers as the objective allows"
            yield Alarm("ChatQueueServiceLevelBurn", severity, shown)
            return


def _breached_share(recorded: Recorded, minutes: int) -> float:
    waits, late = (recorded.total(key, minutes) for key in ("waits", "waits_breached"))
    return (late or 0.0) / waits if waits else 0.0


def find_service_level(recorded: Recorded) -> float | None:
    """Return the share of the last hour's waits that were in time; None without any wait."""
    return 1 - _breached_share(recorded, 60) if recorded.total("waits", 60) else None


def is_pending(alarm: Alarm, wait_s: float, wall_s: float) -> bool:
    """Return whether an alarm has not lasted as long as its rule waits.

    Args:
        alarm: One that holds.
        wait_s: The rule's `for`, in seconds.
        wall_s: Unix time.
    """
    if wait_s <= PENDING_AFTER_S or alarm.since_s is None:
        return False
    return wall_s - alarm.since_s < wait_s - STEP_S


def _all(scene: Scene, name: str) -> list[tuple[Mapping[str, str], float]]:
    return list(scene.samples.get(f"chatqueue_{name}", ()))


def _count(value: float) -> str:
    return format_number(value)
