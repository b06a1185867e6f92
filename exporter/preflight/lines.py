"""The lines of a preflight, and what they come to. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Group = Literal["backup", "pending", "danger", "now"]
Verdict = Literal["go", "no-go", "unknown"]
MARKS = {"go": "✓", "no-go": "✗", "unknown": "?"}


@dataclass(frozen=True, slots=True)
class Line:
    """One question and its answer.

    Attributes:
        group: Which part of the preflight.
        name: What was looked at.
        verdict: `unknown` is no `go`: somebody has to look.
        found: What is there, in words.
        todo: What to do about it; empty for `go`.
        details: One line each.
    """

    group: Group
    name: str
    verdict: Verdict
    found: str
    todo: str = ""
    details: tuple[str, ...] = ()


def conclude(lines: Sequence[Line], *, is_strict: bool) -> Verdict:
    """Return no-go where one line says so, or where one is unknown and `is_strict` is set."""
    verdicts = {line.verdict for line in lines}
    if "no-go" in verdicts or (is_strict and "unknown" in verdicts):
        return "no-go"
    return "unknown" if "unknown" in verdicts or not lines else "go"


def to_document(database: str, lines: Sequence[Line], verdict: Verdict) -> dict[str, Any]:
    """Return the preflight for JSON."""
    return {"database": database, "verdict": verdict, "lines": [asdict(line) for line in lines]}


def to_text(database: str, lines: Sequence[Line], verdict: Verdict) -> str:
    """Return it for a terminal."""
    return "\n".join(_text(database, lines, verdict)) + "\n"


def to_markdown(database: str, lines: Sequence[Line], verdict: Verdict) -> str:
    """Return it as a page."""
    parts = [f"# Preflight of {database}: {verdict}", "", "| | | what | found | to do |"]
    parts.append("|---|---|---|---|---|")
    parts += [
        f"| {MARKS[line.verdict]} {line.verdict} | {line.group} | {_cell(line.name)} "
        f"| {_cell(line.found)} | {_cell(line.todo)} |"
        for line in lines
    ]
    for line in lines:
        if line.details:
            parts += ["", f"**{line.name}**", "", *(f"- {_cell(each)}" for each in line.details)]
    return "\n".join(parts) + "\n"


def _text(database: str, lines: Sequence[Line], verdict: Verdict) -> Iterator[str]:
    group = ""
    for line in lines:
        if line.group != group:
            group = line.group
            yield f"{group}:"
        yield f"  {MARKS[line.verdict]} {line.name}: {line.found}"
        yield from (f"      {detail}" for detail in line.details)
        if line.todo:
            yield f"      → {line.todo}"
    open_lines = sum(line.verdict == "unknown" for line in lines)
    yield ""
    known = f", {open_lines} unknown" if open_lines else ""
    yield f"{database}: {verdict}{known}"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "\\<")
