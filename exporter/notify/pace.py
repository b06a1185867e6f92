"""When a failed request is tried again, and when it is given up."""

from __future__ import annotations

import email.utils
import random
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True)
class Pace:
    """How patiently one notice is sent.

    Attributes:
        first_s: The wait after the first failure; doubled after each further one.
        most_s: The longest wait, short of what the receiver itself asks for.
        give_up_s: How long one notice is tried, from its first request.
    """

    first_s: float = 1.0
    most_s: float = 60.0
    give_up_s: float = 900.0

    def wait_s(self, failures: int, asked_s: float | None, elapsed_s: float) -> float | None:
        """Return the time until the next request, or None to give up.

        Args:
            failures: Of this notice so far; at least 1.
            asked_s: What the receiver asked for, if it did; honoured up to the last attempt.
            elapsed_s: Since the first request.
        """
        left_s = self.give_up_s - elapsed_s
        if left_s <= 0:
            return None
        # Half of it at random, so that many daemons do not come back in step.
        spread = random.uniform(0.5, 1.0)  # noqa: S311  # not a secret
        backoff_s = min(self.most_s, self.first_s * 2.0 ** min(failures - 1, 30)) * spread
        return min(left_s, max(backoff_s, asked_s or 0.0))


def read_retry_after(value: str | None, now: datetime | None = None) -> float | None:
    """Return the seconds that a header Retry-After asks for; None without a readable one.

    Args:
        value: Seconds or an HTTP date.
        now: What a date is relative to.
    """
    text = (value or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        until = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    if until.tzinfo is None:
        until = until.replace(tzinfo=UTC)
    return max(0.0, (until - (now or datetime.now(UTC))).total_seconds())
