"""How a request can end, and what becomes of a notice: the words of the metrics' labels."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

FAILURES = ("connection", "timeout", "status")
"""Why a request failed; a label of `chatqueue_notifications_failed_requests_total`."""


class Outcome(StrEnum):
    """What became of a notice; a label of `chatqueue_notifications_total`."""

    DELIVERED = "delivered"
    REJECTED = "rejected"
    """The receiver will not take it, however often it is sent."""
    EXPIRED = "expired"
    """It was tried until it was given up."""
    DROPPED = "dropped"
    """It was not tried to the end: the queue was full, or the daemon or the webhook came to its."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one request.

    Attributes:
        failure: One of FAILURES; empty when the notice was delivered.
        words: For people; without the URL.
        is_final: Whether another request would end the same.
        asked_s: How long the receiver asked to be left alone, if it did.
    """

    failure: str
    words: str
    is_final: bool = False
    asked_s: float | None = None
