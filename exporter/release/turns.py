"""Which suspects one poll may try: a bounded number, and none for ever before another. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from uuid import UUID

from exporter.release.facts import Evidence

ATTEMPTS_PER_CYCLE = 20
"""Held chats are tried again at every poll; this bounds what that costs when many are held."""


class Turns:
    """Remembers when each suspect was last tried.

    Those that were never tried come first, then those whose last attempt is the longest ago. So of
    `n` suspects each is tried once in `n / ATTEMPTS_PER_CYCLE` polls, rounded up, however many of
    them can never be released; and a new one goes before all that were tried.
    """

    def __init__(self) -> None:
        self._tried_at_s: dict[UUID | None, float] = {}

    def next(self, suspects: Sequence[Evidence]) -> list[Evidence]:
        """Return those that this poll may try, in the order given."""
        by_turn = sorted(suspects, key=lambda c: self._tried_at_s.get(c.assignment_id, -math.inf))
        turn = {chat.assignment_id for chat in by_turn[:ATTEMPTS_PER_CYCLE]}
        return [chat for chat in suspects if chat.assignment_id in turn]

    def note(self, chat: Evidence, now_s: float) -> None:
        """Remember that a chat is tried now, by the database's clock."""
        self._tried_at_s[chat.assignment_id] = now_s

    def forget_others(self, assignments: Collection[UUID | None]) -> None:
        """Forget every assignment but these."""
        kept = self._tried_at_s.items()
        self._tried_at_s = {key: at_s for key, at_s in kept if key in assignments}
