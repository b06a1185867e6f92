"""Who is in the simulated world, what is planned for them, and what they write."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from uuid import UUID

# Invented, and nothing personal.
_PHRASES = {
    "real": ("Hello", "How was your day?", "Tell me more", "I see", "And then?", "Are you there?"),
    "fictional": ("Hello", "Quite good, and yours?", "It is a long story", "What do you think?"),
}
_numbers = itertools.count()


def next_phrase(sender_type: str) -> str:
    """Return a message of the user (`real`) or the operator (`fictional`)."""
    phrases = _PHRASES[sender_type]
    return phrases[next(_numbers) % len(phrases)]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happens at its time.

    Attributes:
        kind: Name of the world's method that it calls.
        subject: The chat or the operator it happens to; None for the platform as a whole.
        turn: The subject's turn it was planned in, after which it is void; None for never.
    """

    kind: str
    subject: UUID | None = None
    turn: int | None = None


@dataclass(slots=True)
class Operator:
    """One simulated operator.

    Attributes:
        id: As in the platform.
        pace: Factor on the time he needs; above 1 is slow.
        turn: Increases with each chat taken or left, which voids what was planned before.
        chat: The chat he has open, as far as he knows.
        away: He has left without a word: no input, no reply.
        left_at: When that was.
        tab_open: His browser goes on sending heartbeats without him.
        leaves_next: He will leave so with the next chat in hand.
    """

    id: UUID
    pace: float
    turn: int = 0
    chat: UUID | None = None
    away: bool = False
    left_at: float = 0.0
    tab_open: bool = False
    leaves_next: bool = False


@dataclass(slots=True)
class Conversation:
    """One simulated user with a chat.

    Attributes:
        turn: Increases with each message that changes whose turn it is.
        answered: The operator spoke last.
        nudges: Messages since the last answer, the first not counted.
        unnoticed: The platform has lost the return of this user and loses what follows.
        held: An operator has it.
    """

    turn: int = 0
    answered: bool = False
    nudges: int = 0
    unnoticed: bool = False
    held: bool = False
