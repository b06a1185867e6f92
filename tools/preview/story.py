"""The simulated days: what happens when, and which moments are worth a picture."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from exporter.demo.scenarios import SCENARIOS, Rhythm

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S
# Days begin at ten in the morning; the watch begins two hours later.
START_S = datetime(2026, 11, 23, 10, tzinfo=UTC).timestamp()
WATCH_BEGINS_S = 2 * HOUR_S

_CALM = replace(SCENARIOS["calm"].rhythm, look_s=(20, 60), vanishes=0.004, break_every_s=2 * HOUR_S)


@dataclass(frozen=True, slots=True)
class Episode:
    """A trouble within a day, in hours from its beginning.

    Attributes:
        since_h, until_h: When.
        rhythm: How people live meanwhile; the day's own where None.
        chats_per_minute: Overrides the time of day; None where it does not.
        vanishing: How many operators leave at its beginning, chat in hand.
        is_down: Whether the database is down.
        release: Mode of auto-release from then on.
    """

    since_h: float
    until_h: float
    rhythm: Rhythm | None = None
    chats_per_minute: float | None = None
    vanishing: int = 0
    is_down: bool = False
    release: str | None = None


@dataclass(frozen=True, slots=True)
class Day:
    """One day; pictures are taken of moments in it."""

    name: str
    episodes: tuple[Episode, ...] = ()


_VANISHED = replace(_CALM, idle_detector=False, vanishes=0.0, vanished_s=(5 * HOUR_S, 6 * HOUR_S))
DAYS = (
    Day("before", (Episode(1, 24, release="observe"),)),
    Day("rush", (Episode(22.4, 24, chats_per_minute=2.0),)),
    Day(
        "vanished-operators",
        (
            Episode(
                20.5, 22.5, rhythm=_VANISHED, chats_per_minute=0.2, vanishing=2, release="observe"
            ),
            Episode(22.5, 24, rhythm=_VANISHED, chats_per_minute=0.2, release="enforce"),
        ),
    ),
    Day("database-down", (Episode(17.2, 17.3, is_down=True), Episode(23.6, 24, is_down=True))),
)


def episodes_at(day: Day, hour: float) -> Iterator[Episode]:
    """What goes on at that hour of the day."""
    return (e for e in day.episodes if e.since_h <= hour < e.until_h)


def rhythm_at(day: Day, hour: float) -> Rhythm:
    """How people live at that hour: few users in the night, most in the morning."""
    wave = math.cos((hour + 24 - 1) / 24 * 2 * math.pi)
    rhythm = replace(_CALM, chats_per_minute=0.3 + 0.22 * wave)
    for episode in episodes_at(day, hour):
        if episode.rhythm is not None:
            rhythm = replace(episode.rhythm, chats_per_minute=rhythm.chats_per_minute)
        if episode.chats_per_minute is not None:
            rhythm = replace(rhythm, chats_per_minute=episode.chats_per_minute)
    return rhythm
