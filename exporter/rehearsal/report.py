"""What a rehearsal found, as text, JSON and Markdown. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any

from exporter.rehearsal.migrations import Applied
from exporter.text import format_duration, format_number

_ADVICE = (
    "Measured on this machine, on a copy that nobody used. Production may be several times "
    "slower: its disks differ, others use it, and a lock has to wait for those who hold it."
)


@dataclass(frozen=True, slots=True)
class Step:
    """One step and its outcome.

    Attributes:
        name: What was done.
        ok: Whether it went as it should.
        duration_s: How long it took.
        found: The outcome in words.
        details: One line each; what is wrong, where it is not ok.
    """

    name: str
    ok: bool
    duration_s: float
    found: str
    details: tuple[str, ...] = ()


@dataclass(slots=True)
class Report:
    """A rehearsal, as far as it came.

    Attributes:
        database: Name in the configuration.
        production_version: The server's major version.
        scratch_version: Of the server it was played on.
        source: What the copy was made of.
        steps: In their order.
        migrations: Those of the first pass.
        rows: Table to rows in the copy and about so many in production; None where unknown.
    """

    database: str
    production_version: int
    scratch_version: int
    source: str
    steps: list[Step] = field(default_factory=list)
    migrations: list[Applied] = field(default_factory=list)
    rows: dict[str, tuple[int, int | None]] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether every step went as it should."""
        return bool(self.steps) and all(step.ok for step in self.steps)


def expect_in_production(applied: Applied, rows: Mapping[str, tuple[int, int | None]]) -> str:
    """Return what production should expect of a migration, in words.

    Args:
        applied: How it went on the copy.
        rows: Table to rows in the copy and in production.
    """
    factor = growth(applied, rows)
    if factor is None:
        return "unknown: the copy holds no rows"
    if not factor:
        return f"about {_seconds(applied.duration_s)}, whatever the size of the tables"
    return f"about {_seconds(applied.duration_s * factor)} or longer"


def growth(applied: Applied, rows: Mapping[str, tuple[int, int | None]]) -> float | None:
    """Return how many times as many rows production has in what a migration touches.

    At least 1; 0 where it touches no table with rows, None where the copy holds none.
    """
    touched = {
        name.partition(".")[2]
        for name in (
            *(lock.relation for lock in applied.locks),
            *(rewrite.relation for rewrite in applied.rewrites),
        )
    }
    growths = [(here, there) for name, (here, there) in rows.items() if name in touched and there]
    if not growths:
        return 0.0
    if any(here == 0 for here, _ in growths):
        return None
    return max(1.0, *(there / here for here, there in growths))


def to_document(report: Report) -> dict[str, Any]:
    """Return the report for JSON."""
    migrations = [
        {
            **asdict(applied),
            "expect": expect_in_production(applied, report.rows),
            "growth": growth(applied, report.rows),
        }
        for applied in report.migrations
    ]
    rows = {
        name: {"copy": here, "production": there} for name, (here, there) in report.rows.items()
    }
    return {"ok": report.ok, **asdict(report), "migrations": migrations, "rows": rows}


def to_text(report: Report) -> str:
    """Return the report for a terminal of 80 columns."""
    return "\n".join(_text_lines(report)) + "\n"


def to_markdown(report: Report) -> str:
    """Return the report as a page."""
    verdict = "it went as it should" if report.ok else "it did not go as it should"
    lines = [
        f"# Rehearsal of {report.database}: {verdict}",
        "",
        _describe_source(report),
        "",
        "| | step | took | outcome |",
        "|---|---|---|---|",
        *(
            f"| {_mark(step)} | {step.name} | {_seconds(step.duration_s)} | {step.found} |"
            for step in report.steps
        ),
    ]
    for step in report.steps:
        if step.details:
            lines += ["", f"**{step.name}**", "", *(f"- {detail}" for detail in step.details)]
    lines += ["", "## Migrations", ""]
    lines += ["| file | took here | expect | locks | wrote |", "|---|---|---|---|---|"]
    for applied in report.migrations:
        cells = (
            applied.name,
            _seconds(applied.duration_s),
            expect_in_production(applied, report.rows),
            "<br>".join(_lock_lines(applied)) or "none",
            "<br>".join(_rewrite_lines(applied)) or "no rows",
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", _ADVICE, "", "## Rows", "", "| table | copy | production |", "|---|---|---|"]
    lines += [
        f"| {name} | {here:,} | {_about(there)} |" for name, (here, there) in report.rows.items()
    ]
    return "\n".join(lines) + "\n"


def _text_lines(report: Report) -> Iterator[str]:
    yield _describe_source(report)
    yield ""
    for step in report.steps:
        yield f"{_mark(step)} {step.name:<34} {_seconds(step.duration_s):>8}  {step.found}"
        yield from (f"    {detail}" for detail in step.details)
    for applied in report.migrations:
        yield ""
        yield f"{applied.name}: {_seconds(applied.duration_s)} here"
        yield f"  in production {expect_in_production(applied, report.rows)}"
        yield from (f"  {line}" for line in (*_lock_lines(applied), *_rewrite_lines(applied)))
    if report.migrations:
        yield ""
        yield from _wrap(_ADVICE)
    yield ""
    yield "The rehearsal went as it should." if report.ok else "The rehearsal failed."


def _describe_source(report: Report) -> str:
    return (
        f"{report.database}: PostgreSQL {report.production_version}, "
        f"played on {report.scratch_version} from {report.source}"
    )


def _lock_lines(applied: Applied) -> Iterator[str]:
    for lock in applied.locks:
        if lock.blocks != "nobody":
            held = _seconds(lock.held_s) if lock.held_s else "a moment"
            where = f", line {lock.line}" if lock.line else ""
            yield f"locks {lock.relation} against {lock.blocks} for {held} ({lock.mode}{where})"


def _rewrite_lines(applied: Applied) -> Iterator[str]:
    for rewrite in applied.rewrites:
        whole = ", the whole table anew" if rewrite.is_whole else ""
        yield f"writes {format_number(rewrite.rows)} rows of {rewrite.relation}{whole}"


def _about(rows: int | None) -> str:
    return "unknown" if rows is None else f"about {rows:,}"


def _mark(step: Step) -> str:
    return "✓" if step.ok else "✗"


def _seconds(duration_s: float) -> str:
    if duration_s < 10:
        return f"{duration_s:.1f}s" if duration_s >= 0.1 else f"{duration_s * 1000:.0f}ms"
    return format_duration(timedelta(seconds=duration_s), rounded=True)


def _wrap(text: str) -> list[str]:
    lines, line = [], ""
    for word in text.split():
        if len(line) + len(word) >= 79:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    return [*lines, line]
