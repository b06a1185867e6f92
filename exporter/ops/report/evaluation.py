"""Criteria and a Prometheus → a verdict on each, with its evidence.

What is unknown is never a pass: no data, too little of it, no number, no answer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Literal

from exporter.ops.report.criteria import BASELINE_S, COVERAGE, MIN_COVERAGE, Check, Criterion, Scope
from exporter.ops.report.prometheus import Client, PrometheusError, Series
from exporter.plots import Points
from exporter.text import format_duration, format_value

Verdict = Literal["pass", "fail", "unknown"]

_MAX_NAMED = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One check, judged.

    Attributes:
        check: What was measured.
        verdict: Its answer.
        value: The worst; None where it is unknown.
        limit: None where it is unknown.
        coverage: Share of the watch's minutes in which the metric was there.
        evidence: Why this verdict, in words.
        expression: The PromQL of the value.
        limit_expression: The PromQL of the limit.
        points: The value over time; empty where there is none.
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

    @property
    def words(self) -> tuple[str, str]:
        """Value and limit in words."""
        unit = self.check.unit
        limit = f"{self.check.relation} {format_value(self.limit, unit)}"
        return format_value(self.value, unit), limit


@dataclass(frozen=True, slots=True)
class Judged:
    """One criterion, judged.

    Attributes:
        criterion: What has to hold.
        verdict: The worst of its findings.
        findings: One per check.
    """

    criterion: Criterion
    verdict: Verdict
    findings: tuple[Finding, ...]


def worst(verdicts: Sequence[Verdict]) -> Verdict:
    """Return fail where one fails, else unknown where one is unknown; nothing is unknown."""
    if "fail" in verdicts:
        return "fail"
    return "unknown" if "unknown" in verdicts or not verdicts else "pass"


def judge(criteria: Sequence[Criterion], client: Client, scope: Scope) -> tuple[Judged, ...]:
    """Judge every criterion.

    Args:
        criteria: What has to hold.
        client: Of the Prometheus that has the metrics.
        scope: Databases and time.
    """
    judged = []
    for criterion in criteria:
        findings = tuple(_judge_check(check, client, scope) for check in criterion.checks)
        verdict = worst([finding.verdict for finding in findings])
        judged.append(Judged(criterion, verdict, findings))
    return tuple(judged)


def _judge_check(check: Check, client: Client, scope: Scope) -> Finding:
    """Query everything that one check needs."""
    expression = check.fill(check.value, scope)
    unknown = Finding(
        check, "unknown", None, None, 0.0, "", expression, check.fill(check.limit, scope)
    )
    try:
        return _judge_answers(unknown, client, scope)
    except PrometheusError as error:
        return replace(unknown, evidence=f"Prometheus could not be queried: {error}")


def _judge_answers(unknown: Finding, client: Client, scope: Scope) -> Finding:
    """Weigh the value against the limit, if there is enough of both."""
    check = unknown.check
    plot = check.fill(check.plot, scope)
    found = replace(
        unknown,
        coverage=_number(client.query(check.fill(COVERAGE, scope), scope.at_s)) or 0.0,
        points=_points(client.query_range(plot, scope.begun_s, scope.at_s, scope.step_s)),
    )
    series = client.query(found.expression, scope.at_s)
    values = [each.points[0][1] for each in series]
    if found.coverage == 0:
        return replace(found, evidence=f"no data: {check.figure.metric} was never there")
    if not values or not all(math.isfinite(value) for value in values):
        return replace(found, evidence=f"not to be judged: {check.idle}")
    value = max(values) if check.relation == "at most" else min(values)
    found = replace(found, value=value)
    limit = _limit(found, client, scope)
    if isinstance(limit, str):
        return replace(found, evidence=limit)
    found = replace(found, limit=limit)
    is_good = value <= limit if check.relation == "at most" else value >= limit
    evidence = _evidence(found, limit, series)
    if not is_good:
        return replace(found, verdict="fail", evidence=evidence)
    if found.coverage < MIN_COVERAGE:
        seen = f"only {found.coverage:.0%} of the time was seen"
        return replace(found, evidence=f"{evidence}, but {seen}, {MIN_COVERAGE:.0%} needed")
    return replace(found, verdict="pass", evidence=evidence)


def _limit(found: Finding, client: Client, scope: Scope) -> float | str:
    """The limit, or why it is unknown."""
    check = found.check
    if check.limit.isdecimal():
        return float(check.limit)
    if check.is_compared:
        before = replace(scope, begun_s=scope.begun_s - BASELINE_S, window_s=BASELINE_S)
        seen = _number(client.query(check.fill(COVERAGE, before), scope.begun_s)) or 0.0
        if seen < MIN_COVERAGE:
            day = format_duration(timedelta(seconds=BASELINE_S))
            return f"nothing to compare with: {seen:.0%} of the {day} before was seen"
    limit = _number(client.query(found.limit_expression, scope.at_s))
    if limit is None or not math.isfinite(limit):
        return "the limit is unknown"
    return limit


def _number(series: Sequence[Series]) -> float | None:
    """The value of the only series; None of none."""
    return series[0].points[0][1] if series else None


def _points(series: Sequence[Series]) -> Points:
    """The points of the only series, those that are no number left out."""
    if not series:
        return ()
    return tuple((at, value) for at, value in series[0].points if math.isfinite(value))


def _evidence(found: Finding, limit: float, series: Sequence[Series]) -> str:
    """Value and limit in words, and the labels of what is past it."""
    check, (shown, good) = found.check, found.words
    named = sorted(
        ((each.points[0][1], ", ".join(each.labels.values())) for each in series if each.labels),
        reverse=True,
    )
    parts = [f"{name} {format_value(each, check.unit)}" for each, name in named if each > limit]
    more = f", and {len(parts) - _MAX_NAMED} more" if len(parts) > _MAX_NAMED else ""
    which = f" ({', '.join(parts[:_MAX_NAMED])}{more})" if parts else ""
    return f"{shown}{which}, good is {good}"
