"""What is announced of a deployment and its watch: when, and in which words. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal, get_args

from exporter.config.watch import Watch
from exporter.notify.notices import Notice
from exporter.text import format_duration, format_time

EVENT = "announcement"
Kind = Literal["planned", "started", "done", "rolled-back", "deadline", "over"]
BY_HAND: tuple[Kind, ...] = get_args(Kind)[:4]
"""What a person announces; the others the daemon does, and `started` both."""

BEFORE_DEADLINE = timedelta(hours=1)
_TITLES = {
    "planned": "Deployment planned",
    "started": "The deployment has begun and is watched",
    "done": "The deployment is done",
    "rolled-back": "The deployment was rolled back",
    "deadline": "One hour left to roll the deployment back",
    "over": "The watch after the deployment is over",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the report says at a time.

    Attributes:
        lines: In words, the verdict first.
        document: The whole report as JSON takes it; empty where there is none.
    """

    lines: tuple[str, ...] = ()
    document: Mapping[str, Any] = field(default_factory=dict)


def announcement_times(watch: Watch) -> Iterator[tuple[Kind, datetime]]:
    """Yield what the daemon announces of a watch and when, in order."""
    begun, ends, until = watch.started_at, watch.ends_at, watch.rollback_until
    if begun is None or ends is None or until is None:
        return
    yield "started", begun
    # Of a shorter time everybody was told at its beginning; a watch that was stopped has none.
    if begun < until - BEFORE_DEADLINE < ends:
        yield "deadline", until - BEFORE_DEADLINE
    yield "over", ends


def build_announcement(
    kind: Kind,
    databases: Sequence[str],
    watch: Watch,
    verdict: Verdict | None = None,
    *,
    window: str = "",
    message: str = "",
) -> Notice:
    """Return the notice of an announcement.

    Args:
        kind: What is announced.
        databases: Whom it concerns.
        watch: In force; may not have begun.
        verdict: Of the report, for the deadline and the end.
        window: When it is planned, in words.
        message: In one's own words, in front of everything.
    """
    title = f"{_TITLES[kind]}: {window}" if window else _TITLES[kind]
    lines = [*([message] if message else []), *_describe_times(kind, watch)]
    if verdict is not None:
        lines += verdict.lines
    return Notice(
        EVENT,
        f"{', '.join(databases)}: {title}",
        tuple(lines),
        {
            "database": ", ".join(databases),
            "reason": message,
            "kind": kind,
            "window": window,
            "report": dict(verdict.document) if verdict is not None else {},
        },
    )


def _describe_times(kind: Kind, watch: Watch) -> Iterator[str]:
    """What follows for the watch and for a rollback."""
    ends, until = watch.ends_at, watch.rollback_until
    if kind == "planned" or ends is None or until is None:
        if kind in ("planned", "started"):
            length, within = map(format_duration, (watch.for_, watch.rollback_within))
            yield f"It is watched for {length} and can be rolled back for {within}."
    elif kind in ("started", "done"):
        yield f"Rollback possible until {format_time(until)}, watched until {format_time(ends)}."
    elif kind == "deadline":
        yield f"Rollback possible until {format_time(until)}."
