"""One poll of a database, judged by the thresholds. Pure."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from exporter.database import Poll
from exporter.errors import DatabaseError
from exporter.metrics.events import families_of
from exporter.metrics.figures import (
    ANY,
    FIGURES,
    STATE_FIGURES,
    Figure,
    Samples,
    index_samples,
)
from exporter.metrics.snapshot import Family

Verdict = Literal["ok", "warning", "critical", "unknown"]
STATES = ("waiting_assignment", "assigned", "waiting_real_user_reply", "completed", "unknown")
_SHOWN = (
    "customer_wait", "unanswered", "idle_overdue", "invalid", "available", "on_chat", "stale",
    "operators_required", "queue_drain", "operator_share", "platform_oldest", "platform_mean",
)  # fmt: skip
_ORDER: tuple[Verdict, ...] = ("ok", "unknown", "warning", "critical")


@dataclass(frozen=True, slots=True)
class Value:
    """One value, judged.

    Attributes:
        figure: Where it comes from.
        value: None when it is unknown, or its query is disabled.
        verdict: `ok` where no threshold applies.
    """

    figure: Figure
    value: float | None
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Status:
    """Everything `chatqueue status` shows of one database.

    Attributes:
        database: Name in the configuration.
        states: Each state's values, in the order of `STATE_FIGURES`.
        values: Those of the queue as a whole.
        problems: Why something is unknown, one text each.
        verdict: The worst of all; a crossed threshold outweighs what is unknown.
    """

    database: str
    states: Mapping[str, tuple[Value, ...]]
    values: tuple[Value, ...]
    problems: tuple[str, ...]
    verdict: Verdict


def unknown_status(database: str, problem: str) -> Status:
    """Return the status of a database that cannot be polled."""
    return Status(database, {}, (), (problem,), "unknown")


def worst(values: Iterable[Value]) -> Verdict:
    """Return the worst verdict."""
    return max((value.verdict for value in values), key=_ORDER.index)


def build_status(database: str, poll: Poll, thresholds: Iterable[Family]) -> Status:
    """Judge one poll.

    Args:
        database: Name in the configuration.
        poll: Of the whole catalogue.
        thresholds: Of the configuration.
    """
    families, problems = _read(poll)
    samples, limits = index_samples(families), index_samples(thresholds)
    judge = functools.partial(_judge, samples=samples, expected=_expected(poll), limits=limits)
    states = {
        state: tuple(
            judge(replace(figure, labels={"state": state, **figure.labels}))
            for figure in STATE_FIGURES
        )
        for state in STATES
    }
    values = tuple(
        judge(one) for key in _SHOWN for one in (FIGURES[key], *_details(FIGURES[key], samples))
    )
    verdict = worst([*itertools.chain(*states.values()), *values])
    if problems and verdict == "ok":
        verdict = "unknown"
    return Status(database, states, values, tuple(problems), verdict)


def _judge(figure: Figure, samples: Samples, expected: Samples, limits: Samples) -> Value:
    """A value against its limits; where its query is disabled there is neither alarm nor doubt."""
    value = figure.read(samples)
    found = figure.find(limits, figure.limit) if figure.limit else []
    by_severity = {labels["severity"]: limit for labels, limit in found}
    if figure.limit == ANY:
        by_severity = {"warning": 0.0}
    if value is None:
        return Value(figure, None, "unknown" if by_severity and figure.find(expected) else "ok")
    crossed = (name for name in _ORDER if value > by_severity.get(name, math.inf))
    return Value(figure, value, max(crossed, key=_ORDER.index, default="ok"))


def _details(figure: Figure, samples: Samples) -> Iterator[Figure]:
    """Each check that found an invalid chat."""
    for name, _ in figure.read_details(samples) if figure.detail else ():
        words, labels = f"{figure.key}: {name}", {figure.detail: name}
        yield replace(figure, key=f"{figure.key}_{name}", words=words, labels=labels)


def _read(poll: Poll) -> tuple[list[Family], list[str]]:
    """Every family, and what failed."""
    families: list[Family] = []
    problems = []
    for outcome in poll.outcomes:
        error = outcome.error
        if error is None:
            try:
                families += families_of(outcome.query, outcome.columns, outcome.rows, poll.began_at)
            except DatabaseError as mismatch:
                error = mismatch
        if error is not None:
            problems.append(f"{outcome.query.name}: {error.reason}: {error}")
    return families, problems


def _expected(poll: Poll) -> Samples:
    """The samples that the poll's queries may give."""
    samples: dict[str, list[tuple[Mapping[str, str], float]]] = {}
    for metric in (metric for outcome in poll.outcomes for metric in outcome.query.metrics):
        names = [label.name for label in metric.labels]
        for series in metric.series:
            for values in itertools.product(*(label.values for label in metric.labels)):
                labels = dict(series.labels) | dict(zip(names, values, strict=True))
                samples.setdefault(metric.name, []).append((labels, math.nan))
    return samples


def as_json(status: Status) -> dict[str, Any]:
    """Return the status as plain data for scripts."""
    return {
        "database": status.database,
        "verdict": status.verdict,
        "problems": list(status.problems),
        "states": [
            {
                "state": state,
                **{value.figure.key: value.value for value in values},
                "verdict": worst(values),
            }
            for state, values in status.states.items()
        ],
        "figures": [
            {
                "key": value.figure.key,
                "name": value.figure.words,
                # JSON has no infinity; Prometheus's own way to write it.
                "value": "+Inf" if value.value == math.inf else value.value,
                "unit": value.figure.unit,
                "verdict": value.verdict,
            }
            for value in status.values
        ],
    }
