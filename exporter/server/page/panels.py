"""Auto-release and the deployment watch in words. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from exporter.config.watch import Watch
from exporter.digests.scheduler import DigestScheduler
from exporter.release.releaser import Releaser
from exporter.release.state import ReleaseState
from exporter.server.page.tiles import Tone
from exporter.text import format_duration, format_time

_DECISIONS = {
    "released": "handed a chat back",
    "would_release": "would hand a chat back",
    "escalated": "left a chat to a person",
    "defect": "undid a faulty release",
}


@dataclass(frozen=True, slots=True)
class ReleaseView:
    """Auto-release in words.

    Attributes:
        tone: `ok`, or `warning` where it does not do what is configured.
        mode: Its mode and what that means.
        lines: What the latest cycle found, and a pause.
        pause: Who paused it and why, as they wrote it; None where it is not paused.
        events: Time and words of the latest decisions, newest first.
    """

    tone: Tone
    mode: str
    lines: tuple[str, ...]
    pause: tuple[str, str, str] | None
    events: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class WatchView:
    """The deployment watch.

    Attributes:
        progress: Share that has passed.
        words: How far it is.
        rollback: How long the deployment can be rolled back.
        rollback_tone: `ok` while it can.
        last: When the last digest was due; empty before the first.
    """

    progress: float
    words: str
    rollback: str
    rollback_tone: Tone
    last: str


def build_release(releaser: Releaser | None, wall_s: float) -> ReleaseView:
    """Auto-release as of its latest cycle."""
    state = ReleaseState() if releaser is None else releaser.state
    modes = {
        "off": "off: it neither looks nor changes anything",
        "observe": "observe: it says what it would do, and changes nothing",
        "enforce": "enforce: it hands stuck chats back to the queue",
    }
    lines, pause = [], None
    if state.mode != state.configured:
        lines.append(f"configured is {state.configured}")
    gauges = state.gauges
    if gauges is None and state.configured != "off":
        lines.append("it does not see the database")
    if gauges is not None:
        lines.append(f"{gauges.suspects} suspect chats")
        if gauges.would_close:
            lines.append(f"{gauges.would_close} of them need a person: a release would close them")
        if gauges.tripped:
            lines.append("the breaker has tripped: nothing is released")
        if gauges.tokens is not None:
            lines.append(f"{int(gauges.tokens)} releases allowed now")
    if state.paused_until_s is not None:
        until = datetime.fromtimestamp(state.paused_until_s, UTC)
        left_s = max(0.0, state.paused_until_s - wall_s)
        shown = format_duration(timedelta(seconds=left_s), rounded=True)
        pause = (state.paused_by, f"until {format_time(until)} ({shown} left)", state.pause_reason)
    is_held = pause or (gauges is not None and gauges.tripped)
    events = tuple(
        (f"{datetime.fromtimestamp(event.at_s, UTC):%H:%M} UTC", _DECISIONS[event.decision])
        for event in reversed(state.events)
    )
    tone: Tone = "warning" if is_held or state.mode != state.configured else "ok"
    return ReleaseView(tone, modes[state.mode], tuple(lines), pause, events)


def build_watch(watch: Watch, digests: DigestScheduler, now: datetime) -> WatchView | None:
    begun, ends, until = watch.started_at, watch.ends_at, watch.rollback_until
    if begun is None or ends is None or until is None or now < begun:
        return None
    passed = min(now, ends) - begun
    length = format_duration(watch.for_, rounded=True)
    words = f"{format_duration(passed, rounded=True)} of {length}"
    left = format_duration(max(timedelta(0), until - now), rounded=True)
    rollback = f"possible for {left} more, until {format_time(until)}"
    sent = next(iter(digests.sent.values()), None)
    return WatchView(
        progress=passed / (ends - begun),
        words=f"{words}, over" if now >= ends else words,
        rollback=rollback if now < until else f"no longer possible, since {format_time(until)}",
        rollback_tone="ok" if now < until else "unknown",
        last=f"{sent.at.astimezone(UTC):%H:%M} UTC" if sent else "",
    )
