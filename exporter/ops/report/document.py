"""The report as one record, and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from exporter.ops.report.advice import Advice
from exporter.ops.report.criteria import JUDGED_BY_PEOPLE, SIGNERS
from exporter.ops.report.evaluation import Finding, Judged, Verdict, worst

VERSION = "1"
"""Of the JSON; another one when a field changes its meaning or goes away."""


@dataclass(frozen=True, slots=True)
class Report:
    """The verdict on a deployment at one time of its watch.

    Attributes:
        databases: Their names.
        started_at: Beginning of the watch.
        ends_at: Its end.
        at: The time judged.
        rollback_until: The rollback deadline.
        judged: Every criterion.
        advice: Whether to roll back.
        step_s: Time between two points of the plots.
    """

    databases: tuple[str, ...]
    started_at: datetime
    ends_at: datetime
    at: datetime
    rollback_until: datetime
    judged: tuple[Judged, ...]
    advice: Advice
    step_s: int = 60

    @property
    def verdict(self) -> Verdict:
        """The worst of all criteria."""
        return worst([each.verdict for each in self.judged])

    @property
    def progress(self) -> float:
        """Share of the watch that has passed."""
        return (self.at - self.started_at) / (self.ends_at - self.started_at)


def as_json(report: Report) -> dict[str, Any]:
    """Return the report as JSON takes it; times in ISO 8601, UTC."""
    return {
        "version": VERSION,
        "databases": list(report.databases),
        "started_at": report.started_at.isoformat(),
        "ends_at": report.ends_at.isoformat(),
        "at": report.at.isoformat(),
        "rollback_until": report.rollback_until.isoformat(),
        "verdict": report.verdict,
        "advice": {
            "course": report.advice.course,
            "summary": report.advice.summary,
            "reasons": list(report.advice.reasons),
        },
        "criteria": [
            {
                "key": each.criterion.key,
                "title": each.criterion.title,
                "verdict": each.verdict,
                "checks": [_finding(finding) for finding in each.findings],
            }
            for each in report.judged
        ],
        "judged_by_people": list(JUDGED_BY_PEOPLE),
        "signers": list(SIGNERS),
    }


def _finding(finding: Finding) -> Mapping[str, Any]:
    return {
        "asks": finding.check.asks,
        "verdict": finding.verdict,
        "value": finding.value,
        "relation": finding.check.relation,
        "limit": finding.limit,
        "coverage": finding.coverage,
        "evidence": finding.evidence,
        "expression": finding.expression,
        "limit_expression": finding.limit_expression,
    }
