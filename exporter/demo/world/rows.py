"""Rows of the platform's tables, stamped in seconds of the simulated clock.

Attributes are the tables' columns. A time is a float; None is NULL.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID


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
