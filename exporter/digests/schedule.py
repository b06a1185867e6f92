"""When a digest is due: a pure function of when the watch began."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from exporter.config.watch import Watch
from exporter.digests.announcements import Kind, announcement_times

_HOUR = timedelta(hours=1)

SEEN_LATE = timedelta(minutes=2)
"""How long after its beginning a watch that is started by command may be seen."""

MAX_LATE = timedelta(minutes=10)
"""A digest that was due longer ago, while no daemon ran, is left out."""


def digest_times(watch: Watch) -> Iterator[datetime]:
    """Yield the scheduled times of a watch's digests, in order; the last is its end."""
    if watch.started_at is None or watch.ends_at is None:
        return
    first, afterwards = watch.digests.first_hour, watch.digests.afterwards
    if first is None and afterwards is None:
        return
    hour = watch.started_at + _HOUR
    if first is not None:
        yield from _repeat(watch.started_at, first, min(hour, watch.ends_at))
    # The hour itself belongs to both schedules; it comes first where the hourly one is off.
    if hour < watch.ends_at:
        yield hour
    if afterwards is not None:
        yield from _repeat(hour, afterwards, watch.ends_at)
    yield watch.ends_at


def _repeat(since: datetime, interval: timedelta, until: datetime) -> Iterator[datetime]:
    time = since + interval
    while time < until:
        yield time
        time += interval


def due_time(
    watch: Watch, last: datetime | None, awake_since: datetime, now: datetime
) -> datetime | None:
    """Return the scheduled time of the digest to send now; None where none is due.

    Of several that have passed only the latest is sent: old digests help no longer.

    Args:
        watch: Of the configuration.
        last: The scheduled time of this watch's last digest, if that is known.
        awake_since: Since when this process may have sent digests, used where `last` is unknown.
        now: The time.
    """
    passed = [time for time in digest_times(watch) if time <= now]
    after = awake_since if last is None else last
    if not passed or passed[-1] <= after or now - passed[-1] > MAX_LATE:
        return None
    return passed[-1]


def due_announcements(
    watch: Watch, known: Sequence[str] | None, awake_since: datetime, now: datetime
) -> tuple[Kind, ...]:
    """Return the kinds of announcements to make now.

    Args:
        watch: In force.
        known: What was due before; None where that is unknown.
        awake_since: Since when this process may have made some, used where `known` is None. A
            watch that is started by command has begun a little before it is seen.
        now: The time.
    """
    return tuple(
        kind
        for kind, at in announcement_times(watch)
        if at <= now
        and now - at <= MAX_LATE
        and (at > awake_since - SEEN_LATE if known is None else kind not in known)
    )


def next_time(watch: Watch, now: datetime) -> datetime | None:
    """Return the first digest or announcement that is still to come; None where there is none."""
    times = [*digest_times(watch), *(at for _, at in announcement_times(watch))]
    return min((time for time in times if time > now), default=None)
