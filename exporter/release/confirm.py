"""A chat must look stuck again and again, without any change, before it may be released. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from exporter.release.facts import Evidence, Limits


@dataclass(frozen=True, slots=True)
class _Sighting:
    """How long one chat has looked the same."""

    evidence: Evidence
    first_s: float
    last_s: float
    polls: int


class Confirmations:
    """Remembers from poll to poll what looked stuck."""

    def __init__(self) -> None:
        self._sightings: dict[UUID, _Sighting] = {}

    def reset(self) -> None:
        """Start over, because a poll failed: what happened meanwhile was not seen."""
        self._sightings = {}

    def confirm(
        self, suspects: Sequence[Evidence], now_s: float, limits: Limits, gap_s: float
    ) -> tuple[Evidence, ...]:
        """Add one poll and return what is confirmed by it, in the order given.

        Args:
            suspects: Every chat that looks stuck in this poll; any other starts over.
            now_s: The database's clock.
            limits: How many polls, over how long.
            gap_s: Polls further apart than this, or a clock set back, start over.
        """
        sightings = {s.chat_id: self._next(s.as_seen(limits.life), now_s, gap_s) for s in suspects}
        self._sightings = sightings
        return tuple(
            suspect
            for suspect in suspects
            if (seen := sightings[suspect.chat_id]).polls >= limits.confirm_polls
            and seen.last_s - seen.first_s >= limits.confirm_for_s
        )

    def _next(self, suspect: Evidence, now_s: float, gap_s: float) -> _Sighting:
        """The chat's sighting with this poll added."""
        seen = self._sightings.get(suspect.chat_id)
        if seen is None or seen.evidence != suspect or not 0 <= now_s - seen.last_s <= gap_s:
            return _Sighting(suspect, now_s, now_s, 1)
        return _Sighting(suspect, seen.first_s, now_s, seen.polls + 1)
