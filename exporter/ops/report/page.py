"""The report as one HTML file that needs nothing else: no script, no network."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path

from exporter import __version__
from exporter.ops.report.answers import Answers, Line
from exporter.ops.report.document import Report
from exporter.ops.report.evaluation import Finding, Judged
from exporter.ops.report.plots import draw
from exporter.text import format_duration, format_time

_STYLE = Path(__file__).with_name("page.css")
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
_TONES = {"roll back": "fail", "look closer": "unknown", "keep": "pass", "too late": "soft"}


def render_page(report: Report) -> str:
    """Return the report as HTML; what came from elsewhere is escaped."""
    title = escape(f"Deployment report: {report.verdict}")
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{title}</title>",
            f"<style>{_STYLE.read_text(encoding='utf-8')}</style></head><body>",
            *_head(report),
            *_overview(report),
            *(line for each in report.judged for line in _criterion(each, report)),
            *_people(report.answers),
            f'<p class="soft">chatqueue-exporter {escape(__version__)}</p>',
            "</body></html>\n",
        )
    )


def _badge(verdict: str) -> str:
    return f'<span class="badge {verdict}">{verdict}</span>'


def _head(report: Report) -> Iterator[str]:
    passed = format_duration(report.at - report.started_at, rounded=True)
    length = format_duration(report.ends_at - report.started_at, rounded=True)
    yield f"<h1>Deployment report {_badge(report.verdict)}</h1>"
    yield f'<div class="bar"><div style="width: {report.progress:.1%}"></div></div>'
    yield "<dl>"
    for name, text in (
        ("Databases", ", ".join(report.databases)),
        ("Watch", f"{format_time(report.started_at)} to {format_time(report.ends_at)}, {length}"),
        ("Judged", f"{format_time(report.at)}, {passed} after the beginning"),
        ("Rollback until", format_time(report.rollback_until)),
    ):
        yield f"<dt>{name}</dt><dd>{escape(text)}</dd>"
    yield "</dl>"
    advice = report.advice
    yield f'<div class="advice"><strong class="{_TONES[advice.course]}">'
    yield f"Rollback: {escape(advice.course)}</strong><p>{escape(advice.summary)}</p>"
    if advice.reasons:
        yield f"<ul>{''.join(f'<li>{escape(reason)}</li>' for reason in advice.reasons)}</ul>"
    yield "</div>"


def _overview(report: Report) -> Iterator[str]:
    yield "<h2>Criteria</h2><table><tbody>"
    for each in report.judged:
        link = f'<a href="#{each.criterion.key}">{escape(each.criterion.title)}</a>'
        yield f'<tr><td class="number">{_badge(each.verdict)}</td><td>{link}</td></tr>'
    yield "</tbody></table>"


def _criterion(judged: Judged, report: Report) -> Iterator[str]:
    criterion = judged.criterion
    yield f'<section id="{criterion.key}"><header>{_badge(judged.verdict)}'
    yield f"<h3>{escape(criterion.title)}</h3></header>"
    for finding in judged.findings:
        yield from _finding(finding, report)
    yield "</section>"


def _finding(finding: Finding, report: Report) -> Iterator[str]:
    check = finding.check
    failing = " failing" if finding.verdict == "fail" else ""
    yield f'<div class="check{failing}"><p class="evidence">'
    yield f'<strong class="{finding.verdict}">{finding.verdict}</strong> {escape(check.asks)}: '
    yield f"<strong>{escape(finding.evidence)}</strong></p>"
    yield draw(finding, report.started_at.timestamp(), report.at.timestamp(), report.step_s)
    yield "<details><summary>"
    value, limit = finding.words
    yield escape(f"value {value}, limit {limit}, seen {finding.coverage:.0%}")
    yield f"</summary><pre>{escape(finding.expression)}</pre>"
    if not finding.limit_expression.isdecimal():
        yield f"<pre>{escape(finding.limit_expression)}</pre>"
    yield "</details></div>"


def _people(answers: Answers) -> Iterator[str]:
    tone = {"signed off": "pass", "refused": "fail"}.get(answers.state, "unknown")
    yield f'<h2>For people to judge <span class="badge {tone}">{answers.state}</span></h2>'
    for section, heading in (("statements", "Statement"), ("sign_offs", "Sign-off")):
        yield f"<table><thead><tr><th></th><th>{heading}</th><th>By</th><th>At</th>"
        yield "<th>Note</th></tr></thead><tbody>"
        yield from (_line(line) for line in answers.lines if line.section == section)
        yield "</tbody></table>"


def _line(line: Line) -> str:
    given = line.given
    tone = {"yes": "pass", "no": "fail"}.get(given.answer or "", "unknown")
    at = "" if given.at is None else format_time(given.at)
    cells = "".join(
        f"<td>{escape(text)}</td>" for text in (line.words, given.by or "", at, given.note or "")
    )
    badge = f'<span class="badge {tone}">{given.answer or "open"}</span>'
    return f'<tr><td class="number">{badge}</td>{cells}</tr>'
