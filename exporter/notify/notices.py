"""Notices, and what takes them. Pure but for the clock and the notice's own id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID, uuid4

TEST = "test"
"""An event that every webhook hears, for trying it."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something people should hear of; never a message's text or a customer's data.

    Attributes:
        event: One of `exporter.config.notify.EVENTS`, or TEST; decides which webhooks hear of it.
        title: What happened, in one line.
        lines: Whom it concerns, why, and what is to be done; a line each, plain text.
        fields: The same for programs, as JSON takes it; `database`, `chat`, `operator` and
            `reason` are placeholders of texts of one's own.
        id: The same at every attempt, so that a receiver recognises a repetition.
        at: When it happened.
    """

    event: str
    title: str
    lines: tuple[str, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    id: UUID = field(default_factory=uuid4)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


class Notifier(Protocol):
    """Takes what people should hear of; returns at once and never raises."""

    def notify(self, notice: Notice) -> None:
        """Queue a notice for the webhooks that take its event."""
        ...


class NullNotifier:
    """Drops every notice."""

    def notify(self, notice: Notice) -> None:
        """Do nothing."""
