"""The report as Markdown. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from exporter.ops.report.answers import Answers, Line
from exporter.ops.report.document import Report
from exporter.text import format_duration, format_time

MARKS = {"pass": "✔", "fail": "✘", "unknown": "?"}
_ANSWERED = {"yes": "✔ yes", "no": "✘ no", None: "open"}


def render_markdown(report: Report) -> str:
    """Return the report as GitHub's Markdown; what came from elsewhere is escaped."""
    return "\n".join((*_head(report), *_criteria(report), *_people(report.answers))) + "\n"


def _head(report: Report) -> Iterator[str]:
    passed = format_duration(report.at - report.started_at, rounded=True)
    length = format_duration(report.ends_at - report.started_at, rounded=True)
    yield f"# Deployment report: {report.verdict}"
    yield ""
    yield f"- Databases: {escape(', '.join(report.databases))}"
    yield f"- Watch: {format_time(report.started_at)} to {format_time(report.ends_at)} ({length})"
    yield f"- Judged: {format_time(report.at)}, {passed} after the beginning"
    yield f"- Rollback: **{report.advice.course}**. {escape(report.advice.summary)}"
    yield from (f"  - {escape(reason)}" for reason in report.advice.reasons)
    yield ""


def _criteria(report: Report) -> Iterator[str]:
    yield "## Criteria"
    yield ""
    yield "| | criterion | verdict |"
    yield "|---|---|---|"
    for each in report.judged:
        yield f"| {MARKS[each.verdict]} | {escape(each.criterion.title)} | {each.verdict} |"
    for each in report.judged:
        yield ""
        yield f"### {MARKS[each.verdict]} {escape(each.criterion.title)}: {each.verdict}"
        yield ""
        yield "| | measured | value | limit | seen | evidence |"
        yield "|---|---|---|---|---|---|"
        for finding in each.findings:
            value, limit = finding.words
            yield (
                f"| {MARKS[finding.verdict]} | {escape(finding.check.asks)} "
                f"| {value} | {limit} | {finding.coverage:.0%} "
                f"| {escape(finding.evidence)} |"
            )
        yield ""
        yield "```promql"
        yield from dict.fromkeys(finding.expression for finding in each.findings)
        yield "```"


def _people(answers: Answers) -> Iterator[str]:
    yield ""
    yield f"## For people to judge: {answers.state}"
    for section, heading in (("statements", "statement"), ("sign_offs", "sign-off")):
        yield ""
        yield f"| {heading} | answer | by | at | note |"
        yield "|---|---|---|---|---|"
        yield from (_line(line) for line in answers.lines if line.section == section)


def _line(line: Line) -> str:
    given = line.given
    at = "" if given.at is None else format_time(given.at)
    cells = (line.words, _ANSWERED[given.answer], given.by or "", at, given.note or "")
    return f"| {' | '.join(map(escape, cells))} |"


def escape(text: str) -> str:
    """Keep Markdown and HTML from reading a text as anything but itself, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>|#~&])", r"\\\1", " ".join(text.split()))
