"""What the platform's application writes by itself, statement by statement.

On an autocommit connection the statements of one function commit separately, as the requests of
the real application do; the short inconsistencies between them are part of the platform. Its
stored functions (`assign_chat_to_operator`, `release_and_reassign_chat`) are called by their name.
Nothing here sets `completed`: only the stored function does, at the limit of reassignments.

Source: exporter/demo/platform/sql.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

from exporter.database.statements import load_statements

PlatformConnection = Connection[TupleRow]

STATEMENTS = load_statements(__package__, "sql")
_FLOW = load_statements("exporter.ops.verify", "sql", "flow")

REPLY_STEPS = (
    STATEMENTS["reply_message"],
    _FLOW["reply_chat"],
    _FLOW["reply_assignment"],
    _FLOW["reply_heartbeat"],
    STATEMENTS["reply_count"],
)
"""An operator's reply; the three in the middle are played by `chatqueue verify --flow` too."""

UNASSIGN_STEPS = (
    STATEMENTS["unassign"],
    STATEMENTS["end_assignment"],
    _FLOW["reply_heartbeat"],
)
"""An operator's hand-back, in the platform's order."""

REASSIGN_STEPS = (
    STATEMENTS["reassign_copy"],
    STATEMENTS["assign_chat"],
    STATEMENTS["add_assignment"],
)
"""An admin's reassignment: the original row stays open for ever, and so does its heartbeat row."""


@dataclass(frozen=True, slots=True)
class IdleRelease:
    """One chat that the platform's idle detector took from its operator.

    Attributes:
        chat: Which chat.
        operator: Who had it.
        requeued: False where the platform closed the chat instead (its reassignment limit).
    """

    chat: UUID
    operator: UUID
    requeued: bool


def add_account(connection: PlatformConnection, account: UUID) -> None:
    """Create an account with the host, unless it exists."""
    connection.execute(STATEMENTS["add_account"], {"id": account})


def sign_up_user(connection: PlatformConnection, user: UUID) -> None:
    """Create a user's account and profile, unless it exists."""
    add_account(connection, user)
    connection.execute(STATEMENTS["add_user"], {"id": user})


def add_persona(connection: PlatformConnection, persona: UUID) -> None:
    """Create a fictional user, unless it exists."""
    connection.execute(STATEMENTS["add_persona"], {"id": persona})


def open_chat(connection: PlatformConnection, chat: UUID, user: UUID) -> None:
    """Let a user open a chat: it waits in the queue before anything was written.

    `chat` and `user` are the new ids; the fictional user is any that exists, or a new one.
    """
    sign_up_user(connection, user)
    row = connection.execute("SELECT id FROM public.fictional_users LIMIT 1").fetchone()
    persona = row[0] if row else chat
    add_persona(connection, persona)
    values = {"chat": chat, "user": user, "persona": persona}
    connection.execute(STATEMENTS["add_chat"], values)


def start_chat(connection: PlatformConnection, chat: UUID, user: UUID, content: str) -> None:
    """Let a user open a chat and write a first message, as two requests."""
    open_chat(connection, chat, user)
    write_as_user(connection, chat, content)


def write_as_user(connection: PlatformConnection, chat: UUID, content: str) -> bool:
    """Let the user write; returns whether that put a `waiting_real_user_reply` chat in the queue.

    Whether the chat is active is not checked: in a closed one the message is written, paid for and
    never seen. The state that was read before the message decides what happens to it. An open
    assignment is closed only where the operator is still set.
    """
    before = connection.execute(
        "SELECT chat_state, assigned_operator_id FROM public.chats WHERE id = %(chat)s",
        {"chat": chat},
    ).fetchone()
    write_unnoticed(connection, chat, content)
    if before is None or before[0] != "waiting_real_user_reply":
        return False
    connection.execute(STATEMENTS["requeue"], {"chat": chat})
    if before[1] is not None:
        reason = "real_user_replied_after_operator"
        values = {"chat": chat, "operator": before[1], "reason": reason}
        connection.execute(STATEMENTS["end_assignment"], values)
    return True


def write_unnoticed(connection: PlatformConnection, chat: UUID, content: str) -> None:
    """Let the user write while the application loses the change of state that should follow."""
    connection.execute(STATEMENTS["user_message"], {"chat": chat, "content": content})


def assign(connection: PlatformConnection, operator: UUID) -> UUID | None:
    """Let an operator take a chat by the platform's own function; None if no chat waits."""
    row = connection.execute(
        "SELECT public.assign_chat_to_operator(%(operator)s)", {"operator": operator}
    ).fetchone()
    return row[0] if row else None


def release(connection: PlatformConnection, chat: UUID, reason: str) -> bool:
    """Release a chat by the platform's own function; False if that closed the chat."""
    row = connection.execute(
        "SELECT public.release_and_reassign_chat(%(chat)s, %(reason)s)",
        {"chat": chat, "reason": reason},
    ).fetchone()
    return bool(row and row[0])


def reply(connection: PlatformConnection, chat: UUID, operator: UUID, content: str) -> None:
    """Let the operator answer: `REPLY_STEPS`, each a request."""
    values = {"chat": chat, "operator": operator, "content": content}
    _execute_each(connection, REPLY_STEPS, values)


def beat(
    connection: PlatformConnection,
    chat: UUID,
    operator: UUID,
    *,
    idle_s: float = 0.0,
    skew_s: float = 0.0,
) -> None:
    """Send the heartbeat of an open tab, which makes the row again where it is gone.

    Args:
        connection: Where.
        chat: The chat that is open.
        operator: Whose browser.
        idle_s: Seconds since the last mouse or key input, which is what `last_activity` says.
        skew_s: How far the browser's clock is ahead.
    """
    values = {"chat": chat, "operator": operator, "ago_s": idle_s - skew_s}
    row = connection.execute(STATEMENTS["find_heartbeat"], values).fetchone()
    connection.execute(STATEMENTS["move_heartbeat" if row else "add_heartbeat"], values)


def unassign(connection: PlatformConnection, chat: UUID, reason: str = "manual_unassign") -> None:
    """Let the operator hand the chat back: it is queued again whatever its past turns."""
    row = connection.execute(
        "SELECT assigned_operator_id FROM public.chats WHERE id = %(chat)s", {"chat": chat}
    ).fetchone()
    values = {"chat": chat, "operator": row and row[0], "reason": reason}
    _execute_each(connection, UNASSIGN_STEPS, values)


def reassign_as_admin(
    connection: PlatformConnection, chat: UUID, operator: UUID, note: str
) -> None:
    """Let an admin give the chat to a named operator, with the platform's own flaws.

    Neither availability nor a chat that the operator already has is checked.
    """
    reason = f"manual_reassignment_by_admin:{note}"
    values = {"chat": chat, "operator": operator, "reason": reason}
    _execute_each(connection, REASSIGN_STEPS, values)


def force_close(connection: PlatformConnection, chat: UUID) -> None:
    """Let an admin close a chat: its state stays what it was.

    Raises:
        psycopg.errors.CheckViolation: It is assigned, which an inactive chat cannot be without
            an operator; nothing has changed.
    """
    connection.execute(STATEMENTS["close_chat"], {"chat": chat})


def block_user(connection: PlatformConnection, user: UUID) -> None:
    """Let an admin block a user, then close his chats.

    Raises:
        psycopg.errors.CheckViolation: One of them is assigned: he is blocked by then, and all of
            them stay active.
    """
    connection.execute(
        "UPDATE public.real_users SET is_active = false WHERE id = %(user)s", {"user": user}
    )
    connection.execute(STATEMENTS["close_chats_of_user"], {"user": user})


def remove_fault(connection: PlatformConnection, chat: UUID) -> None:
    """Hide a faulty chat by hand, as no part of the application can."""
    connection.execute(STATEMENTS["remove_fault"], {"chat": chat})


def run_idle_detector(connection: PlatformConnection) -> tuple[IdleRelease, ...]:
    """Run the platform's own job once; chats whose release fails are skipped."""
    released = []
    for chat, operator in connection.execute(STATEMENTS["idle_chats"]).fetchall():
        with contextlib.suppress(psycopg.errors.DataError, psycopg.errors.RaiseException):
            requeued = release(connection, chat, "idle_timeout")
            released.append(IdleRelease(chat, operator, requeued))
    return tuple(released)


def time_out_operator(connection: PlatformConnection, chat: UUID) -> bool:
    """Let the operator's own page give an idle chat back; False if that closed the chat."""
    return release(connection, chat, "operator_idle_timeout")


def find_held_chat(
    connection: PlatformConnection, operator: UUID, chat: UUID | None = None
) -> UUID | None:
    """Return the chat the operator holds; given `chat`, only if it is that one."""
    values = {"operator": operator, "chat": chat}
    row = connection.execute(STATEMENTS["find_held_chat"], values).fetchone()
    return row[0] if row else None


def assign_same_chat(connection: PlatformConnection, operator: UUID) -> UUID | None:
    """Assign as the platform did before its fix: without a lock, the operator's last chat first."""
    if held := find_held_chat(connection, operator):
        return held
    with connection.transaction():
        row = connection.execute(STATEMENTS["choose_same_chat"], {"operator": operator}).fetchone()
        if row is None:
            return None
        steps = (STATEMENTS[name] for name in ("assign_chat", "add_assignment", "open_heartbeat"))
        _execute_each(connection, steps, {"operator": operator, "chat": row[0]})
    return UUID(str(row[0]))


def _execute_each(
    connection: PlatformConnection, statements: Iterable[str], values: dict[str, Any]
) -> None:
    for statement in statements:
        connection.execute(statement, values)
