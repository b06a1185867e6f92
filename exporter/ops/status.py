"""One look at a database, judged against the thresholds: what the team would type by hand. Pure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from exporter.config import Thresholds, limit_seconds
from exporter.database import Poll
from exporter.errors import DatabaseError
from exporter.metrics.events import families_of
from exporter.metrics.snapshot import Family

Verdict = Literal["ok", "warning", "critical", "unknown"]
STATES = ("waiting_assignment", "assigned", "waiting_real_user_reply", "completed", "unknown")
_ORDER: tuple[Verdict, ...] = ("ok", "unknown", "warning", "critical")


@dataclass(frozen=True, slots=True)
class StateLine:
    """One state. None means the figure is not known.

    Attributes:
        state: Its name.
        chats: Active chats, as the platform's view counts them.
        platform_stuck: Chats the platform's detect_stuck_chats finds in it.
        oldest_age_s: Longest true time in the state.
        overdue: Chats past the warning threshold.
        verdict: Of the oldest age against its thresholds.
    """

    state: str
    chats: float | None
    platform_stuck: float | None
    oldest_age_s: float | None
    overdue: float | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure of the queue as a whole.

    Attributes:
        name: What it is, for people.
        value: None when it is not known, or its query is disabled.
        unit: `seconds`, `chats`, `operators` or `ratio`.
        verdict: `ok` where no threshold applies.
    """

    name: str
    value: float | None
    unit: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Status:
    """Everything `chatqueue status` shows of one database.

    Attributes:
        database: Name in the configuration.
        states: One line a state.
        figures: The queue as a whole.
        problems: Why something is not known, one text each.
        verdict: The worst of all; a crossed threshold outweighs what is not known.
    """

    database: str
    states: tuple[StateLine, ...]
    figures: tuple[Figure, ...]
    problems: tuple[str, ...]
    verdict: Verdict


def unknown_status(database: str, problem: str) -> Status:
    """Return the status of a database that cannot be asked."""
    return Status(database, (), (), (problem,), "unknown")


def build_status(database: str, poll: Poll, thresholds: Thresholds) -> Status:
    """Judge one poll.

    Args:
        database: Name in the configuration.
        poll: Of the whole catalogue.
        thresholds: Of the configuration.
    """
    values, problems = _values(poll)
    states = tuple(_state_line(state, values, thresholds) for state in STATES)
    figures = tuple(_figures(values, thresholds))
    verdicts = [line.verdict for line in states] + [figure.verdict for figure in figures]
    if problems:
        verdicts.append("unknown")
    return Status(database, states, figures, tuple(problems), max(verdicts, key=_ORDER.index))


@dataclass(frozen=True, slots=True)
class _Values:
    """What a poll found, and what it looked for.

    Attributes:
        samples: By metric name and label values, joined with commas.
        asked: The samples that the queries run may give. What the operator has disabled is no
            cause for alarm, nor for doubt.
    """

    samples: Mapping[tuple[str, str], float]
    asked: frozenset[tuple[str, str]]

    def get(self, metric: str, key: str = "") -> float | None:
        """The value of a sample; None where there is none."""
        return self.samples.get((metric, key))

    def judge(self, metric: str, key: str, warning: float, critical: float) -> Verdict:
        """A sample against two limits."""
        value = self.get(metric, key)
        if value is None:
            return "unknown" if (metric, key) in self.asked else "ok"
        if value > critical:
            return "critical"
        return "warning" if value > warning else "ok"


def _values(poll: Poll) -> tuple[_Values, list[str]]:
    """Every sample, and what failed."""
    values: dict[tuple[str, str], float] = {}
    problems = []
    for outcome in poll.outcomes:
        families: Iterable[Family] = ()
        error = outcome.error
        if error is None:
            try:
                families = families_of(outcome.query, outcome.columns, outcome.rows, poll.began_at)
            except DatabaseError as mismatch:
                error = mismatch
        if error is not None:
            problems.append(f"{outcome.query.name}: {error.reason}: {error}")
        for family in families:
            for sample in family.samples:
                key = ",".join(value for _, value in sample.labels)
                values[family.name, key] = sample.value
    asked = frozenset(
        (metric.name, ",".join((*combination, *(value for _, value in series.labels))))
        for outcome in poll.outcomes
        for metric in outcome.query.metrics
        for series in metric.series
        for combination in itertools.product(*(label.values for label in metric.labels))
    )
    return _Values(values, asked), problems


def _state_line(state: str, values: _Values, thresholds: Thresholds) -> StateLine:
    """One state's figures and verdict."""
    oldest_age = "chatqueue_state_oldest_age_seconds"
    limits = getattr(thresholds.oldest_age, state, None)
    verdict: Verdict = "ok"
    if limits is not None:
        verdict = values.judge(
            oldest_age, state, limit_seconds(limits.warning), limit_seconds(limits.critical)
        )
    return StateLine(
        state=state,
        chats=values.get("chatqueue_chats", state),
        platform_stuck=values.get("chatqueue_platform_stuck_chats", state),
        oldest_age_s=values.get(oldest_age, state),
        overdue=values.get("chatqueue_state_overdue_chats", f"{state},warning"),
        verdict=verdict,
    )


def _figures(values: _Values, thresholds: Thresholds) -> Iterable[Figure]:
    """The queue as a whole."""

    def figure(name: str, metric: str, unit: str, key: str = "", **limits: float) -> Figure:
        infinity = float("inf")
        verdict = values.judge(
            metric, key, limits.get("warning", infinity), limits.get("critical", infinity)
        )
        return Figure(name, values.get(metric, key), unit, verdict)

    wait = thresholds.customer_wait
    yield figure(
        "longest unanswered wait of a user",
        "chatqueue_customer_oldest_wait_seconds",
        "seconds",
        warning=limit_seconds(wait.warning),
        critical=limit_seconds(wait.critical),
    )
    yield figure("chats that are owed an answer", "chatqueue_unanswered_chats", "chats")
    yield figure(
        "chats the idle detector should have released",
        "chatqueue_idle_overdue_chats",
        "chats",
        warning=0,
    )
    yield from _invalid(values)
    for status in ("available", "on_chat", "stale"):
        yield figure(f"operators {status}", "chatqueue_operators", "operators", status)
    # These may rightly be missing, as where nobody was answered in the last hour.
    for name, metric, unit, key in (
        ("operators the service level needs", "chatqueue_operators_required", "operators", ""),
        ("time to empty the queue", "chatqueue_queue_drain_seconds", "seconds", ""),
        (
            "busiest operator's share of the last hour",
            "chatqueue_operator_share_max_ratio",
            "ratio",
            "1h",
        ),
    ):
        yield Figure(name, values.get(metric, key), unit, "ok")
    yield figure(
        "platform's own oldest wait (since creation)",
        "chatqueue_platform_queue_oldest_age_seconds",
        "seconds",
    )
    yield figure(
        "platform's own mean wait (since creation)",
        "chatqueue_platform_queue_mean_age_seconds",
        "seconds",
    )


def _invalid(values: _Values) -> Iterable[Figure]:
    """Chats in an impossible state: all of them, and each check that found some."""
    metric = "chatqueue_invalid_chats"
    # A query that failed is among the problems, and casts its doubt there.
    found = {key: value for (name, key), value in values.samples.items() if name == metric}
    total = sum(found.values()) if found else None
    yield Figure("chats in an invalid state", total, "chats", "warning" if total else "ok")
    for check, value in sorted(found.items()):
        if value:
            yield Figure(f"invalid: {check}", value, "chats", "warning")


def as_json(status: Status) -> dict[str, Any]:
    """Return the status as plain data for scripts."""
    return {
        "database": status.database,
        "verdict": status.verdict,
        "problems": list(status.problems),
        "states": [
            {
                "state": line.state,
                "chats": line.chats,
                "platform_stuck_chats": line.platform_stuck,
                "oldest_age_seconds": line.oldest_age_s,
                "overdue_chats": line.overdue,
                "verdict": line.verdict,
            }
            for line in status.states
        ],
        "figures": [
            {
                "name": figure.name,
                # JSON has no infinity; Prometheus's own way to write it.
                "value": "+Inf" if figure.value == math.inf else figure.value,
                "unit": figure.unit,
                "verdict": figure.verdict,
            }
            for figure in status.figures
        ],
    }
