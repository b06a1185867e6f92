"""The platform on PostgreSQL, as the application and its stored functions are.

One connection, reopened where it broke. What the platform refuses (a chat that is no longer his,
a chat somebody else took) is an answer; what cannot be asked now is `PlatformDown`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TypeVar
from uuid import UUID

import psycopg
from psycopg import sql

from exporter.demo.platform import application
from exporter.demo.platform.application import IdleRelease, PlatformConnection
from exporter.demo.world.backfill import copy_rows
from exporter.demo.world.phrases import say
from exporter.demo.world.port import PlatformDown
from exporter.demo.world.rows import Rows

T = TypeVar("T")

# The old assignment: his own last chat first, and no lock.
_PICK_SAME_CHAT = """
    SELECT id FROM public.chats
    WHERE chat_state = 'waiting_assignment' AND is_active = true
    ORDER BY last_operator_id IS DISTINCT FROM %(operator)s, created_at
    LIMIT 1
"""


class LivePlatform:
    """A platform on a server.

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
        """Open a chat and write a first message."""
        self._ask(lambda on: application.start_chat(on, chat, user, say("real")), None)

    def write(self, chat: UUID, *, unnoticed: bool = False) -> None:
        """Let the user write."""
        if unnoticed:
            self._ask(lambda on: application.write_unnoticed(on, chat, say("real")), None)
        else:
            self._ask(lambda on: application.write_as_user(on, chat, say("real")), False)

    def take(self, operator: UUID, *, same_chat_first: bool = False) -> UUID | None:
        """Give the operator a chat by the platform's function, or the old way."""
        take = _take_same_chat_first if same_chat_first else _take
        return self._ask(lambda on: take(on, operator), None)

    def reply(self, chat: UUID, operator: UUID) -> bool:
        """Let the operator answer in the application's four steps, if the chat is still his."""

        def request(on: PlatformConnection) -> bool:
            if not _find_held_chat(on, operator, chat):
                return False
            application.reply(on, chat, operator, say("fictional"))
            return True

        return self._ask(request, False)

    def beat(self, operator: UUID, chat: UUID | None, *, idle_s: float = 0.0) -> None:
        """Show that the operator's tab is open."""

        def request(on: PlatformConnection) -> None:
            on.execute(
                "UPDATE public.operators SET last_activity = now() WHERE id = %s", (operator,)
            )
            if chat is not None:
                application.beat(on, chat, operator, idle_s=idle_s)

        self._ask(request, None)

    def hand_back(self, chat: UUID, operator: UUID) -> bool:
        """Queue the operator's chat again."""

        def request(on: PlatformConnection) -> bool:
            if not _find_held_chat(on, operator, chat):
                return False
            application.unassign(on, chat)
            return True

        return self._ask(request, False)

    def reassign(self, chat: UUID, operator: UUID, to: UUID) -> bool:
        """Let an admin give the operator's chat to another."""

        def request(on: PlatformConnection) -> bool:
            if not _find_held_chat(on, operator, chat):
                return False
            application.reassign_as_admin(on, chat, to, "other operator wanted")
            return True

        return self._ask(request, False)

    def time_out(self, chat: UUID, operator: UUID) -> bool | None:
        """Let the page of an idle operator give the chat back."""

        def request(on: PlatformConnection) -> bool | None:
            if not _find_held_chat(on, operator, chat):
                return None
            return application.time_out_operator(on, chat)

        return self._ask(request, None)

    def close_chat(self, chat: UUID) -> None:
        """Let an admin close a chat; one that is assigned stays open."""
        self._ask(lambda on: application.force_close(on, chat), None)

    def remove_fault(self, chat: UUID) -> None:
        """Take a faulty chat out of sight."""
        self._ask(lambda on: application.remove_fault(on, chat), None)

    def set_available(self, operator: UUID, available: bool) -> None:
        """Let the operator go on a break or come back."""
        statement = """
            UPDATE public.operators SET is_available = %s, last_activity = now() WHERE id = %s
        """
        self._ask(lambda on: on.execute(statement, (available, operator)), None)

    def run_idle_detector(self) -> tuple[IdleRelease, ...]:
        """Run the platform's own job once."""
        return self._ask(application.run_idle_detector, ())

    def add_rows(self, rows: Rows) -> None:
        """Write rows past the application."""
        self._ask(lambda on: copy_rows(on, rows, self._persona, self._clock()), None)

    def _ask(self, request: Callable[[PlatformConnection], T], refused: T) -> T:
        """Return what the platform answers, or `refused` where it says no.

        Raises:
            PlatformDown: There is no connection, or it broke.
        """
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
    before it could say which: his browser opens that one again.
    """
    try:
        return application.assign(connection, operator)
    except psycopg.errors.RaiseException:
        return _find_held_chat(connection, operator)


def _find_held_chat(
    connection: PlatformConnection, operator: UUID, chat: UUID | None = None
) -> UUID | None:
    """Return the chat the operator holds; given `chat`, only if it is that."""
    row = connection.execute(
        """
        SELECT id FROM public.chats
        WHERE assigned_operator_id = %(operator)s
          AND chat_state = 'assigned'
          AND is_active = true
          AND (%(chat)s::uuid IS NULL OR id = %(chat)s)
        LIMIT 1
        """,
        {"operator": operator, "chat": chat},
    ).fetchone()
    return row[0] if row else None


def _take_same_chat_first(connection: PlatformConnection, operator: UUID) -> UUID | None:
    """Do what the platform's assignment does, but for the choice of the chat."""
    if held := _find_held_chat(connection, operator):
        return held
    with connection.transaction():
        row = connection.execute(_PICK_SAME_CHAT, {"operator": operator}).fetchone()
        if row is None:
            return None
        values = {"operator": operator, "chat": row[0]}
        for statement in _ASSIGN_STEPS:
            connection.execute(statement, values)
    return UUID(str(row[0]))


_ASSIGN_STEPS = tuple(
    sql.SQL(statement)
    for statement in (
        """
        UPDATE public.chats
        SET chat_state = 'assigned', assigned_operator_id = %(operator)s,
            assignment_time = now(), last_operator_id = %(operator)s
        WHERE id = %(chat)s
        """,
        """
        INSERT INTO public.chat_assignments (chat_id, operator_id)
        VALUES (%(chat)s, %(operator)s)
        """,
        """
        INSERT INTO public.operator_activity (chat_id, operator_id)
        VALUES (%(chat)s, %(operator)s)
        ON CONFLICT (chat_id, operator_id) DO UPDATE SET last_activity = now()
        """,
    )
)
