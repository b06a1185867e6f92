"""The report as one record, and as JSON. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from exporter.ops.report.advice import Advice
from exporter.ops.report.answers import Answers, Line
from exporter.ops.report.evaluation import Finding, Judged, Verdict, worst

VERSION = "2"
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
        answers: What people answered; nothing yet, without a file of them.
    """

    databases: tuple[str, ...]
    started_at: datetime
    ends_at: datetime
    at: datetime
    rollback_until: datetime
    judged: tuple[Judged, ...]
    advice: Advice
    step_s: int = 60
    answers: Answers = field(default_factory=Answers)

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
        "people": {
            "state": report.answers.state,
            "lines": [_line(line) for line in report.answers.lines],
        },
    }


def _line(line: Line) -> Mapping[str, Any]:
    given = line.given
    return {
        "section": line.section,
        "key": line.key,
        "words": line.words,
        "answer": given.answer or "open",
        "by": given.by,
        "at": None if given.at is None else given.at.isoformat(),
        "note": given.note,
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
