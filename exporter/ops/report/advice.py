"""Whether to roll back, and why. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from exporter.ops.report.evaluation import Judged
from exporter.text import format_duration, format_time

Course = Literal["roll back", "look closer", "keep", "too late"]


@dataclass(frozen=True, slots=True)
class Advice:
    """What to do about the deployment now.

    Attributes:
        course: In a word or two.
        summary: One sentence.
        reasons: One for each criterion that asks for it; empty where all is well.
    """

    course: Course
    summary: str
    reasons: tuple[str, ...] = ()


def advise(judged: Sequence[Judged], at: datetime, until: datetime) -> Advice:
    """Return the advice at a time.

    Args:
        judged: Every criterion.
        at: The time judged.
        until: The rollback deadline.
    """
    failed, unknown = (_reasons(judged, verdict) for verdict in ("fail", "unknown"))
    deadline = format_time(until)
    if at >= until:
        rest = "what fails has to be repaired going forward" if failed else "nothing fails"
        return Advice("too late", f"The rollback deadline passed at {deadline}; {rest}.", failed)
    left = f"{format_duration(until - at, rounded=True)} are left, until {deadline}"
    if failed:
        return Advice("roll back", f"Roll back, or know why not: {left}.", failed)
    if unknown or not judged:
        summary = f"Nothing fails, but not everything is known: {left} to find out."
        return Advice("look closer", summary, unknown)
    return Advice("keep", f"No reason to roll back; {left}.")


def _reasons(judged: Sequence[Judged], verdict: str) -> tuple[str, ...]:
    """The findings with that verdict, in words, by criterion."""
    return tuple(
        f"{each.criterion.title}: "
        + "; ".join(f"{f.check.asks}: {f.evidence}" for f in each.findings if f.verdict == verdict)
        for each in judged
        if each.verdict == verdict
    )
