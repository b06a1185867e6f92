"""Criteria and a Prometheus → a verdict on each, with its evidence.

What is not known is never a pass: no data, too little of it, no number, no answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

from exporter.ops.report.criteria import BASELINE_S, COVERAGE, MIN_COVERAGE, Check, Criterion, Scope
from exporter.ops.report.prometheus import PrometheusError, PrometheusUnreachable, Series
from exporter.text import say_duration, say_number

Verdict = Literal["pass", "fail", "unknown"]
Points = tuple[tuple[float, float], ...]

_MAX_NAMED = 5


class Asks(Protocol):
    """What answers PromQL: `exporter.ops.report.prometheus.Client`, or a test's own."""

    def ask(self, expression: str, at_s: float) -> tuple[Series, ...]:
        """Return an expression's series at one moment."""
        ...

    def ask_range(
        self, expression: str, since_s: float, until_s: float, step_s: int
    ) -> tuple[Series, ...]:
        """Return an expression's series over a time."""
        ...


@dataclass(frozen=True, slots=True)
class Finding:
    """One check, judged.

    Attributes:
        check: What was asked.
        verdict: Its answer.
        value: The worst found; None where it is not known.
        limit: None where it is not known.
        coverage: Share of the watch's minutes in which the metric was there.
        evidence: Why this verdict, in words.
        expression: The PromQL of the value.
        limit_expression: The PromQL of the limit.
        points: The figure over time; empty where there is none.
    """

    check: Check
    verdict: Verdict
    value: float | None
    limit: float | None
    coverage: float
    evidence: str
    expression: str
    limit_expression: str
    points: Points = ()


@dataclass(frozen=True, slots=True)
class Judged:
    """One criterion, judged.

    Attributes:
        criterion: What has to hold.
        verdict: The worst of its findings.
        findings: One a check.
    """

    criterion: Criterion
    verdict: Verdict
    findings: tuple[Finding, ...]


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """Return fail where one fails, else unknown where one is unknown; nothing is unknown."""
    if "fail" in verdicts:
        return "fail"
    return "unknown" if "unknown" in verdicts or not verdicts else "pass"


def judge(criteria: Sequence[Criterion], asks: Asks, scope: Scope) -> tuple[Judged, ...]:
    """Judge every criterion.

    Args:
        criteria: What has to hold.
        asks: Where the figures are.
        scope: Databases and time.
    """
    once = _UntilUnreachable(asks)
    judged = []
    for criterion in criteria:
        findings = tuple(_judge_check(check, once, scope) for check in criterion.checks)
        verdict = worst([finding.verdict for finding in findings])
        judged.append(Judged(criterion, verdict, findings))
    return tuple(judged)


class _UntilUnreachable:
    """Asks no more once there was no answer: each further question would wait as long."""

    def __init__(self, asks: Asks) -> None:
        self._asks = asks
        self._gone: PrometheusUnreachable | None = None

    def ask(self, expression: str, at_s: float) -> tuple[Series, ...]:
        """As the one asked."""
        self._check()
        try:
            return self._asks.ask(expression, at_s)
        except PrometheusUnreachable as error:
            self._gone = error
            raise

    def ask_range(
        self, expression: str, since_s: float, until_s: float, step_s: int
    ) -> tuple[Series, ...]:
        """As the one asked."""
        self._check()
        try:
            return self._asks.ask_range(expression, since_s, until_s, step_s)
        except PrometheusUnreachable as error:
            self._gone = error
            raise

    def _check(self) -> None:
        if self._gone is not None:
            raise PrometheusUnreachable(str(self._gone))


def _judge_check(check: Check, asks: Asks, scope: Scope) -> Finding:
    """Ask everything that one check needs."""
    expression = check.fill(check.value, scope)
    unknown = Finding(
        check, "unknown", None, None, 0.0, "", expression, check.fill(check.limit, scope)
    )
    try:
        return _judge_answers(unknown, asks, scope)
    except PrometheusError as error:
        return replace(unknown, evidence=f"Prometheus could not be asked: {error}")


def _judge_answers(unknown: Finding, asks: Asks, scope: Scope) -> Finding:
    """Weigh the value against the limit, if there is enough of both."""
    check = unknown.check
    found = replace(
        unknown,
        coverage=_number(asks.ask(check.fill(COVERAGE, scope), scope.at_s)) or 0.0,
        points=_points(
            asks.ask_range(check.fill(check.plot, scope), scope.begun_s, scope.at_s, scope.step_s)
        ),
    )
    series = asks.ask(found.expression, scope.at_s)
    values = [each.points[0][1] for each in series]
    if found.coverage == 0:
        return replace(found, evidence=f"no data: {check.metric} was never there")
    if not values or not all(math.isfinite(value) for value in values):
        return replace(found, evidence=f"not to be judged: {check.idle}")
    value = max(values) if check.relation == "at most" else min(values)
    found = replace(found, value=value)
    limit = _limit(found, asks, scope)
    if isinstance(limit, str):
        return replace(found, evidence=limit)
    found = replace(found, limit=limit)
    is_good = value <= limit if check.relation == "at most" else value >= limit
    evidence = _evidence(check, value, limit, series)
    if not is_good:
        return replace(found, verdict="fail", evidence=evidence)
    if found.coverage < MIN_COVERAGE:
        seen = f"only {found.coverage:.0%} of the time was seen"
        return replace(found, evidence=f"{evidence}, but {seen}, {MIN_COVERAGE:.0%} needed")
    return replace(found, verdict="pass", evidence=evidence)


def _limit(found: Finding, asks: Asks, scope: Scope) -> float | str:
    """The limit, or why it is not known."""
    check = found.check
    if check.limit.isdecimal():
        return float(check.limit)
    if check.is_compared:
        before = replace(scope, begun_s=scope.begun_s - BASELINE_S, window_s=BASELINE_S)
        seen = _number(asks.ask(check.fill(COVERAGE, before), scope.begun_s)) or 0.0
        if seen < MIN_COVERAGE:
            day = say_duration(BASELINE_S)
            return f"nothing to compare with: {seen:.0%} of the {day} before was seen"
    limit = _number(asks.ask(found.limit_expression, scope.at_s))
    if limit is None or not math.isfinite(limit):
        return "the limit is not known"
    return limit


def _number(series: Sequence[Series]) -> float | None:
    """The value of the only series; None of none."""
    return series[0].points[0][1] if series else None


def _points(series: Sequence[Series]) -> Points:
    """The points of the only series, those that are no number left out."""
    if not series:
        return ()
    return tuple((at, value) for at, value in series[0].points if math.isfinite(value))


def _evidence(check: Check, value: float, limit: float, series: Sequence[Series]) -> str:
    """Value and limit in words, and the labels of what is past it."""
    named = sorted(
        ((each.points[0][1], ", ".join(each.labels.values())) for each in series if each.labels),
        reverse=True,
    )
    parts = [f"{name} {say_value(check, number)}" for number, name in named if number > limit]
    more = f", and {len(parts) - _MAX_NAMED} more" if len(parts) > _MAX_NAMED else ""
    which = f" ({', '.join(parts[:_MAX_NAMED])}{more})" if parts else ""
    return f"{say_value(check, value)}{which}, good is {check.relation} {say_value(check, limit)}"


def say_value(check: Check, value: float | None) -> str:
    """Say a check's value in its unit; a dash where it is not known."""
    if value is None:
        return "-"
    if check.unit == "ratio":
        return f"{value:.1%}"
    return say_number(value)
