"""The platform on PostgreSQL, as the application and its stored functions are.

One connection, reopened where it broke. What the platform refuses (a chat that is no longer the
operator's) is an answer; what cannot be requested now is `PlatformDown`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TypeVar
from uuid import UUID

import psycopg

from exporter.demo.platform import application
from exporter.demo.platform.application import IdleRelease, PlatformConnection
from exporter.demo.world.cast import next_phrase
from exporter.demo.world.rows import Rows, copy_rows

T = TypeVar("T")


class PlatformDown(Exception):
    """The platform cannot be reached now; the same request may be tried again."""


class LivePlatform:
    """A platform on a server. Every method may raise `PlatformDown`.

    Args:
        dsn: Of a role that row-level security does not stop.
        persona: The fictional user of chats that are written past the application.
        clock: The simulated time of rows that are.
    """

    def __init__(self, dsn: str, persona: UUID, clock: Callable[[], float]) -> None:
        self._dsn = dsn
        self._persona = persona
        self._clock = clock
        self._connection: PlatformConnection | None = None

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):
                self._connection.close()
            self._connection = None

    def start_chat(self, chat: UUID, user: UUID) -> None:
        """Open a chat, which waits from then on, and write a first message."""
        self._request(lambda on: application.start_chat(on, chat, user, next_phrase("real")), None)

    def write(self, chat: UUID, *, unnoticed: bool = False) -> None:
        """Let the user write; `unnoticed`: the state that should change does not."""
        write = application.write_unnoticed if unnoticed else application.write_as_user
        self._request(lambda on: write(on, chat, next_phrase("real")), None)

    def take(self, operator: UUID, *, same_chat_first: bool = False) -> UUID | None:
        """Give the operator a chat by the platform's function, or the old way; None for none."""
        take = application.assign_same_chat if same_chat_first else _take
        return self._request(lambda on: take(on, operator), None)

    def reply(self, chat: UUID, operator: UUID) -> bool:
        """Let the operator answer; False if the chat is no longer his."""
        phrase = next_phrase("fictional")
        return self._request_as_holder(
            chat, operator, lambda on: application.reply(on, chat, operator, phrase)
        )

    def beat(self, operator: UUID, chat: UUID | None, *, idle_s: float = 0.0) -> None:
        """Show that the operator's tab is open, with this chat; his last input is `idle_s` old."""

        def request(on: PlatformConnection) -> None:
            on.execute(
                "UPDATE public.operators SET last_activity = now() WHERE id = %s", (operator,)
            )
            if chat is not None:
                application.beat(on, chat, operator, idle_s=idle_s)

        self._request(request, None)

    def hand_back(self, chat: UUID, operator: UUID) -> bool:
        """Queue the operator's chat again; False if it is not his."""
        return self._request_as_holder(chat, operator, lambda on: application.unassign(on, chat))

    def reassign(self, chat: UUID, operator: UUID, to: UUID) -> bool:
        """Let an admin give the operator's chat to another; False if it is not his."""
        note = "other operator wanted"
        return self._request_as_holder(
            chat, operator, lambda on: application.reassign_as_admin(on, chat, to, note)
        )

    def time_out(self, chat: UUID, operator: UUID) -> bool | None:
        """Let the page of an idle operator give the chat back; None if it is not his.

        Returns whether it was queued again: at the platform's limit it is closed instead.
        """

        def request(on: PlatformConnection) -> bool | None:
            if not application.find_held_chat(on, operator, chat):
                return None
            return application.time_out_operator(on, chat)

        return self._request(request, None)

    def close_chat(self, chat: UUID) -> None:
        """Let an admin close a chat; one that is assigned stays open."""
        self._request(lambda on: application.force_close(on, chat), None)

    def remove_fault(self, chat: UUID) -> None:
        """Hide a faulty chat, past the application."""
        self._request(lambda on: application.remove_fault(on, chat), None)

    def set_available(self, operator: UUID, available: bool) -> None:
        """Let the operator go on a break or come back."""
        statement = """
            UPDATE public.operators SET is_available = %s, last_activity = now() WHERE id = %s
        """
        self._request(lambda on: on.execute(statement, (available, operator)), None)

    def run_idle_detector(self) -> tuple[IdleRelease, ...]:
        """Run the platform's own job once."""
        return self._request(application.run_idle_detector, ())

    def add_rows(self, rows: Rows) -> None:
        """Write rows past the application, as a faulty deployment would."""
        self._request(lambda on: copy_rows(on, rows, self._persona, self._clock()), None)

    def _request_as_holder(
        self, chat: UUID, operator: UUID, act: Callable[[PlatformConnection], None]
    ) -> bool:
        """Act if the operator holds the chat; return whether that was so."""

        def request(on: PlatformConnection) -> bool:
            if not application.find_held_chat(on, operator, chat):
                return False
            act(on)
            return True

        return self._request(request, False)

    def _request(self, request: Callable[[PlatformConnection], T], refused: T) -> T:
        """Return the platform's answer, or `refused` where it raises an error."""
        try:
            if self._connection is None:
                self._connection = psycopg.connect(
                    self._dsn,
                    autocommit=True,
                    connect_timeout=3,
                    prepare_threshold=None,
                    application_name="chatqueue demo",
                )
            return request(self._connection)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            self.close()
            raise PlatformDown(str(error)) from error
        except psycopg.Error:
            return refused


def _take(connection: PlatformConnection, operator: UUID) -> UUID | None:
    """Let the platform choose. It refuses an operator who has a chat, e.g. since the server died
    before it could answer: his browser opens that one again.
    """
    try:
        return application.assign(connection, operator)
    except psycopg.errors.RaiseException:
        return application.find_held_chat(connection, operator)
