"""What a releaser remembers of assignments from poll to poll; a restart may lose it. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from exporter.release.facts import Decision, Evidence, Limits

ATTEMPTS_PER_CYCLE = 20
"""Held chats are tried again at every poll; this bounds what that costs when many are held."""


@dataclass(frozen=True, slots=True)
class _Sighting:
    """How long one assignment has looked stuck in the same way."""

    evidence: Evidence
    first_s: float
    last_s: float
    polls: int


@dataclass(slots=True)
class Record:
    """What is remembered of one assignment; the releaser notes in it what it does.

    Attributes:
        sighting: None where it did not look stuck in the latest poll.
        tried_at_s: When it was last tried, by the database's clock.
        answer: What the latest attempt came to, and on which evidence.
        is_escalated: Whether it was handed to a person.
    """

    sighting: _Sighting | None = None
    tried_at_s: float = -math.inf
    answer: tuple[Evidence, Decision] | None = None
    is_escalated: bool = False


class Memory:
    """Remembers each assignment's confirmation, attempts, answer and escalation."""

    def __init__(self) -> None:
        self._records: dict[UUID | None, Record] = {}

    def keep(self, assignments: Collection[UUID | None]) -> None:
        """Forget every assignment but these."""
        self._records = {key: r for key, r in self._records.items() if key in assignments}

    def reset_confirmations(self) -> None:
        """Start over, because a poll failed: what happened meanwhile was not seen."""
        for record in self._records.values():
            record.sighting = None

    def reset_answers(self) -> None:
        """Let every answer be news again, because the limits are others."""
        for record in self._records.values():
            record.answer = None

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
        sightings = {
            suspect.assignment_id: _add_poll(
                self.of(suspect).sighting, suspect.as_seen(limits.life), now_s, gap_s
            )
            for suspect in suspects
        }
        for key, record in self._records.items():
            record.sighting = sightings.get(key)
        return tuple(
            suspect
            for suspect in suspects
            if (seen := sightings[suspect.assignment_id]).polls >= limits.confirm_polls
            and seen.last_s - seen.first_s >= limits.confirm_for_s
        )

    def choose_attempts(self, confirmed: Sequence[Evidence]) -> list[Evidence]:
        """Return those that this poll may try, in the order given.

        Those that were never tried come first, then those whose last attempt is the longest ago.
        So of `n` suspects each is tried once in `n / ATTEMPTS_PER_CYCLE` polls, rounded up, however
        many of them can never be released; and a new one goes before all that were tried.
        """
        oldest_first = sorted(confirmed, key=lambda chat: self.of(chat).tried_at_s)
        chosen = {chat.assignment_id for chat in oldest_first[:ATTEMPTS_PER_CYCLE]}
        return [chat for chat in confirmed if chat.assignment_id in chosen]

    def of(self, chat: Evidence) -> Record:
        """Return the record of a chat's assignment; an empty one where there was none."""
        return self._records.setdefault(chat.assignment_id, Record())


def _add_poll(seen: _Sighting | None, suspect: Evidence, now_s: float, gap_s: float) -> _Sighting:
    """The sighting with this poll added."""
    if seen is None or seen.evidence != suspect or not 0 <= now_s - seen.last_s <= gap_s:
        return _Sighting(suspect, now_s, now_s, 1)
    return _Sighting(suspect, seen.first_s, now_s, seen.polls + 1)
