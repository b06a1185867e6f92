"""When a digest is due: a pure function of when the watch began."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from exporter.config.watch import Watch

_HOUR = timedelta(hours=1)

MAX_LATE = timedelta(minutes=10)
"""A moment that passed longer ago, while nobody was there to tell, is left out."""


def digest_moments(watch: Watch) -> Iterator[datetime]:
    """Yield the moments of a watch's digests, in order; the last is its end."""
    if watch.started_at is None or watch.ends_at is None:
        return
    first, afterwards = watch.digests.first_hour, watch.digests.afterwards
    if first is None and afterwards is None:
        return
    hour = watch.started_at + _HOUR
    if first is not None:
        yield from _each(watch.started_at, first, min(hour, watch.ends_at))
    # The hour itself belongs to both rhythms; it comes first where the hourly one is off.
    if hour < watch.ends_at:
        yield hour
    if afterwards is not None:
        yield from _each(hour, afterwards, watch.ends_at)
    yield watch.ends_at


def _each(since: datetime, interval: timedelta, until: datetime) -> Iterator[datetime]:
    moment = since + interval
    while moment < until:
        yield moment
        moment += interval


def due_moment(
    watch: Watch, last: datetime | None, awake_since: datetime, now: datetime
) -> datetime | None:
    """Return the moment to tell of now; None where there is none.

    Of several that have passed only the latest is told: a heap of old digests helps nobody.

    Args:
        watch: Of the configuration.
        last: The last moment told of in this watch, if that is known.
        awake_since: Since when this process may have told of moments, used where `last` is not
            known.
        now: The time.
    """
    passed = [moment for moment in digest_moments(watch) if moment <= now]
    after = awake_since if last is None else last
    if not passed or passed[-1] <= after or now - passed[-1] > MAX_LATE:
        return None
    return passed[-1]


def next_moment(watch: Watch, now: datetime) -> datetime | None:
    """Return the first moment that is still to come; None where there is none."""
    return next((moment for moment in digest_moments(watch) if moment > now), None)
