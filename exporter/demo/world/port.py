"""What the simulated people ask of a platform, be it in memory or on PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from exporter.demo.platform.application import IdleRelease
from exporter.demo.world.rows import Rows


class PlatformDown(Exception):
    """The platform cannot be reached now; the same request may be tried again."""


class PlatformPort(Protocol):
    """The platform as its users and operators see it. Any method may raise `PlatformDown`."""

    def start_chat(self, chat: UUID, user: UUID) -> None:
        """Open a chat with a first message."""
        ...

    def write(self, chat: UUID, *, unnoticed: bool = False) -> None:
        """Let the user write; `unnoticed`: the state that should change does not."""
        ...

    def take(self, operator: UUID, *, same_chat_first: bool = False) -> UUID | None:
        """Give the operator a chat; None if there is none for him."""
        ...

    def reply(self, chat: UUID, operator: UUID) -> bool:
        """Let the operator answer; False if the chat is no longer his."""
        ...

    def beat(self, operator: UUID, chat: UUID | None) -> None:
        """Show that the operator is there, with this chat open."""
        ...

    def hand_back(self, chat: UUID, operator: UUID, admin_note: str | None = None) -> bool:
        """Queue the operator's chat again, by himself or an admin; False if it is not his."""
        ...

    def complete(self, chat: UUID) -> None:
        """End the conversation."""
        ...

    def set_available(self, operator: UUID, available: bool) -> None:
        """Let the operator go on a break or come back."""
        ...

    def run_idle_detector(self) -> Sequence[IdleRelease]:
        """Run the platform's own job once."""
        ...

    def add_rows(self, rows: Rows) -> None:
        """Write rows past the application, as a faulty deploy would."""
        ...
