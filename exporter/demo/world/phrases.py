"""What the simulated people write: nothing anybody wrote, and nothing personal."""

from __future__ import annotations

import itertools

_USER = ("Hello", "How was your day?", "Tell me more", "I see", "And then?", "Are you there?")
_OPERATOR = ("Hello", "Quite good, and yours?", "Well, it is a long story", "What do you think?")

_turn = itertools.count()


def say(sender_type: str) -> str:
    """Return a line for the user (`real`) or the operator (`fictional`)."""
    lines = _USER if sender_type == "real" else _OPERATOR
    return lines[next(_turn) % len(lines)]
