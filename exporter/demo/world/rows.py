"""Rows of the platform's tables in seconds of the simulated clock, and how they are written.

Attributes are the tables' columns. A float is a time; None is NULL.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from psycopg import sql

from exporter.demo.platform import application
from exporter.demo.platform.application import PlatformConnection

_TABLES = ("operators", "chats", "chat_assignments", "operator_activity", "messages")


@dataclass(slots=True)
class OperatorRow:
    """A row of `operators`."""

    id: UUID
    name: str
    email: str
    last_activity: float
    is_active: bool = True
    is_available: bool = True
    total_messages: int = 0


@dataclass(slots=True)
class ChatRow:
    """A row of `chats`."""

    id: UUID
    real_user_id: UUID
    fictional_user_id: UUID
    created_at: float
    updated_at: float
    last_message_at: float | None = None
    message_count: int = 1
    is_active: bool = True
    chat_state: str | None = "waiting_assignment"
    assigned_operator_id: UUID | None = None
    assignment_time: float | None = None
    last_operator_id: UUID | None = None
    operator_replied_at: float | None = None


@dataclass(slots=True)
class AssignmentRow:
    """A row of `chat_assignments`; its `created_at` is `assigned_at`."""

    id: UUID
    chat_id: UUID
    operator_id: UUID
    assigned_at: float
    created_at: float
    released_at: float | None = None
    release_reason: str | None = None


@dataclass(slots=True)
class ActivityRow:
    """A row of `operator_activity`."""

    chat_id: UUID
    operator_id: UUID
    last_activity: float
    updated_at: float


@dataclass(slots=True)
class MessageRow:
    """A row of `messages`."""

    chat_id: UUID
    sender_type: str
    content: str
    created_at: float
    handled_by_operator_id: UUID | None = None


@dataclass(slots=True)
class Rows:
    """Rows of several tables that belong together, in the order their foreign keys demand."""

    operators: list[OperatorRow] = field(default_factory=list)
    chats: list[ChatRow] = field(default_factory=list)
    chat_assignments: list[AssignmentRow] = field(default_factory=list)
    operator_activity: list[ActivityRow] = field(default_factory=list)
    messages: list[MessageRow] = field(default_factory=list)


def copy_rows(connection: PlatformConnection, rows: Rows, persona: UUID, now: float) -> None:
    """Restore rows into the platform's tables, with the users and the persona they refer to.

    As a restored backup does it: no trigger fires, so that counts and stamps stay as given. Every
    constraint but the foreign keys holds all the while, and those hold by the rows themselves.

    Args:
        connection: Autocommit or not, it is one transaction.
        rows: What to write; times in simulated seconds.
        persona: The fictional user of every chat.
        now: The simulated time that is the database's `now()`.
    """
    with connection.transaction():
        row = connection.execute("SELECT now()").fetchone()
        assert row is not None  # noqa: S101
        epoch = row[0] - timedelta(seconds=now)
        application.add_persona(connection, persona)
        for user in {chat.real_user_id: None for chat in rows.chats}:
            application.sign_up_user(connection, user)
        for operator in rows.operators:
            application.add_account(connection, operator.id)
        connection.execute("SET LOCAL session_replication_role = replica")
        for chat in rows.chats:
            chat.fictional_user_id = persona
        for table in _TABLES:
            items = getattr(rows, table)
            if not items:
                continue
            columns = [column.name for column in dataclasses.fields(items[0])]
            statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
                sql.Identifier("public", table), sql.SQL(", ").join(map(sql.Identifier, columns))
            )
            with connection.cursor().copy(statement) as copy:
                for item in items:
                    values = [getattr(item, column) for column in columns]
                    copy.write_row([_stamp(value, epoch) for value in values])


def _stamp(value: object, epoch: datetime) -> object:
    """A simulated time as the database's; any other value as it is."""
    return epoch + timedelta(seconds=value) if isinstance(value, float) else value
