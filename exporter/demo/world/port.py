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
        """Open a chat; it waits from then on, and the first message follows."""
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

    def beat(self, operator: UUID, chat: UUID | None, *, idle_s: float = 0.0) -> None:
        """Show that the operator's tab is open, with this chat; his last input is `idle_s` old."""
        ...

    def hand_back(self, chat: UUID, operator: UUID) -> bool:
        """Queue the operator's chat again; False if it is not his."""
        ...

    def reassign(self, chat: UUID, operator: UUID, to: UUID) -> bool:
        """Let an admin give the operator's chat to another; False if it is not his."""
        ...

    def time_out(self, chat: UUID, operator: UUID) -> bool | None:
        """Let the page of an idle operator give the chat back; None if it is not his.

        Returns whether it was queued again: at the platform's limit it is closed instead.
        """
        ...

    def close_chat(self, chat: UUID) -> None:
        """Let an admin close a chat that nobody has."""
        ...

    def remove_fault(self, chat: UUID) -> None:
        """Take a faulty chat out of sight, past the application."""
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
