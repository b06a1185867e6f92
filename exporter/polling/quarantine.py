"""Queries at which the connection was lost: they run apart, so that the others go on.

A server-side limit, a load balancer or a backend that dies ends a connection at one query, again
and again. Such a query is asked in a poll of its own, less often each time the connection is lost
at it, and comes back to the others once it has succeeded apart often enough.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from exporter.errors import DatabaseUnavailable

log = structlog.get_logger("chatqueue.poller")

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
        database: Name in the configuration.
        monotonic: Clock in seconds.
    """

    def __init__(self, database: str, monotonic: Callable[[], float]) -> None:
        self._database = database
        self._monotonic = monotonic
        self._suspects: dict[str, _Suspect] = {}

    def holds(self, query: str) -> bool:
        """Whether a query runs apart."""
        suspect = self._suspects.get(query)
        return suspect is not None and suspect.needed > 0

    def is_due(self, query: str) -> bool:
        """Whether a query that runs apart may be tried again."""
        return self._monotonic() >= self._suspects[query].not_before

    def lose(self, query: str, interval_s: float, error: DatabaseUnavailable) -> None:
        """Let a query at which the connection was lost run apart from now on."""
        suspect = self._suspects.setdefault(query, _Suspect())
        if suspect.losses == 0:
            log.warning(
                "connection lost at a query, which runs apart until it has succeeded",
                database=self._database,
                query=query,
                reason=str(error.reason),
                error=str(error),
            )
        suspect.losses = min(suspect.losses + 1, MOST_LOSSES)
        suspect.needed = 2 ** (suspect.losses - 1)
        # The first retry is in its usual turn; then each waits twice as long.
        suspect.not_before = self._monotonic() + interval_s * (2.0 ** (suspect.losses - 1) - 0.5)

    def succeed(self, query: str) -> None:
        """Note a success, with which a query that ran apart may come back."""
        suspect = self._suspects.get(query)
        if suspect is None:
            return
        if suspect.needed == 0:  # it has succeeded among the others
            del self._suspects[query]
            return
        suspect.needed -= 1
        if suspect.needed == 0:
            log.info("query is back", database=self._database, query=query)

    def clear(self) -> None:
        """Forget everything, as after a new plan."""
        self._suspects.clear()
