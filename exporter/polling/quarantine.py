"""Queries at which the connection was lost: they run apart, so that the others go on.

A server-side limit, a load balancer or a backend that dies ends a connection at one query, again
and again. Such a query is asked in a poll of its own, less often each time the connection is lost
at it, and comes back to the others once it has succeeded apart often enough.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

MOST_LOSSES = 5


@dataclass(slots=True)
class _Suspect:
    """One such query.

    Attributes:
        losses: How often the connection was lost at it, at most `MOST_LOSSES`; survives its return.
        needed: Successes apart until it comes back; 0 once it is back.
        not_before: Monotonic time of the next attempt.
    """

    losses: int = 0
    needed: int = 0
    not_before: float = 0.0


class Quarantine:
    """Which queries run apart, and when.

    Args:
        monotonic: Clock in seconds.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._suspects: dict[str, _Suspect] = {}

    def holds(self, query: str) -> bool:
        """Whether a query runs apart."""
        suspect = self._suspects.get(query)
        return suspect is not None and suspect.needed > 0

    def is_due(self, query: str) -> bool:
        """Whether a query that runs apart may be tried again."""
        return self._monotonic() >= self._suspects[query].not_before

    def lose(self, query: str, interval_s: float) -> bool:
        """Note that the connection was lost at a query; return whether that is news."""
        suspect = self._suspects.setdefault(query, _Suspect())
        is_news = suspect.losses == 0
        suspect.losses = min(suspect.losses + 1, MOST_LOSSES)
        suspect.needed = 2 ** (suspect.losses - 1)
        # The first retry is in its usual turn; then each waits twice as long.
        suspect.not_before = self._monotonic() + interval_s * (2.0 ** (suspect.losses - 1) - 0.5)
        return is_news

    def succeed(self, query: str) -> bool:
        """Note a success; return whether a query that ran apart comes back with it."""
        suspect = self._suspects.get(query)
        if suspect is None:
            return False
        if suspect.needed == 0:  # it has succeeded among the others
            del self._suspects[query]
            return False
        suspect.needed -= 1
        return suspect.needed == 0

    def clear(self) -> None:
        """Forget everything, as after a new plan."""
        self._suspects.clear()
