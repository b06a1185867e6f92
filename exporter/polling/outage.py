"""A time in which a database cannot be asked: what of it is logged, and when it is tried again."""

from __future__ import annotations

import random
from collections.abc import Callable

import structlog

from exporter.errors import DatabaseUnavailable, Reason

log = structlog.get_logger("chatqueue.poller")

FIRST_RETRY_S = 0.25
# Different texts that one outage may put into the log.
MOST_TEXTS = 10


class Outage:
    """Whether one database is out of reach, and until when it is left alone.

    Args:
        database: Name in the configuration.
        monotonic: Clock in seconds.
    """

    def __init__(self, database: str, monotonic: Callable[[], float]) -> None:
        self._database = database
        self._monotonic = monotonic
        self._random = random.Random()  # noqa: S311 - jitter
        self.clear()

    def clear(self) -> None:
        """Forget everything, as after a new plan."""
        self._since = self._retry_at = 0.0
        self._failures = 0
        self._error = DatabaseUnavailable("unknown")
        self._logged: set[tuple[Reason, str]] = set()

    @property
    def is_on(self) -> bool:
        """Whether the latest attempt failed."""
        return self._failures > 0

    def pause_s(self) -> float:
        """Return the seconds until the next attempt; 0 where it is due."""
        return max(0.0, self._retry_at - self._monotonic())

    def fail(self, error: DatabaseUnavailable, most_s: float) -> None:
        """Log a failure that is new, and wait: exponential with full jitter, at most `most_s`."""
        self._since = self._since if self.is_on else self._monotonic()
        self._failures += 1
        self._error = error
        text = (error.reason, str(error))
        if text not in self._logged and len(self._logged) < MOST_TEXTS:
            self._logged.add(text)
            log.error(
                "database is unavailable",
                database=self._database,
                reason=str(error.reason),
                error=str(error),
            )
        ceiling_s = min(most_s, FIRST_RETRY_S * 2.0 ** min(self._failures, 16))
        self._retry_at = self._monotonic() + self._random.uniform(ceiling_s / 2, ceiling_s)

    def end(self) -> None:
        """Note that the database answers."""
        if self.is_on:
            log.info(
                "database is back",
                database=self._database,
                failures=self._failures,
                unavailable_s=round(self._monotonic() - self._since, 3),
                reason=str(self._error.reason),
                error=str(self._error),
            )
        self.clear()
