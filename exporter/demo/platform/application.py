"""What the platform's application writes by itself, statement by statement.

On an autocommit connection the statements of one function commit separately, as the requests of
the real application do; the short inconsistencies between them are part of the platform. Its
stored functions (`assign_chat_to_operator`, `release_and_reassign_chat`) are called by their name.
Nothing here sets `completed`: only the stored function does, at the limit of reassignments.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import LiteralString
from uuid import UUID

import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

PlatformConnection = Connection[TupleRow]

# An operator's reply: message, state, assignment, heartbeat row, his own count (which the
# message's trigger has moved already). Tests stop between two of them.
REPLY_STEPS: tuple[LiteralString, ...] = (
    """
    INSERT INTO public.messages (chat_id, sender_type, content, handled_by_operator_id)
    VALUES (%(chat)s, 'fictional', %(content)s, %(operator)s)
    """,
    """
    UPDATE public.chats
    SET chat_state = 'waiting_real_user_reply',
        operator_replied_at = now(),
        assigned_operator_id = NULL,
        assignment_time = NULL,
        last_message_at = now(),
        message_count = message_count + 1
    WHERE id = %(chat)s
    """,
    """
    UPDATE public.chat_assignments
    SET released_at = now(), release_reason = 'operator_sent_message'
    WHERE chat_id = %(chat)s AND operator_id = %(operator)s AND released_at IS NULL
    """,
    """
    DELETE FROM public.operator_activity
    WHERE chat_id = %(chat)s AND operator_id = %(operator)s
    """,
    """
    UPDATE public.operators
    SET total_messages = total_messages + 1, last_activity = now()
    WHERE id = %(operator)s
    """,
)

# An operator's hand-back, in the platform's order.
UNASSIGN_STEPS: tuple[LiteralString, ...] = (
    """
    UPDATE public.chats
    SET chat_state = 'waiting_assignment', assigned_operator_id = NULL, assignment_time = NULL
    WHERE id = %(chat)s
    """,
    """
    UPDATE public.chat_assignments
    SET released_at = now(), release_reason = %(reason)s
    WHERE chat_id = %(chat)s AND operator_id = %(operator)s AND released_at IS NULL
    """,
    """
    DELETE FROM public.operator_activity
    WHERE chat_id = %(chat)s AND operator_id = %(operator)s
    """,
)

# An admin's reassignment to a named operator: a copied row that is released already, the chat,
# a new open row. The original row stays open for ever, and the old heartbeat row stays.
REASSIGN_STEPS: tuple[LiteralString, ...] = (
    """
    INSERT INTO public.chat_assignments
        (chat_id, operator_id, assigned_at, released_at, release_reason)
    SELECT id, assigned_operator_id, assignment_time, now(), %(reason)s
    FROM public.chats
    WHERE id = %(chat)s AND assigned_operator_id IS NOT NULL
    """,
    """
    UPDATE public.chats
    SET chat_state = 'assigned',
        assigned_operator_id = %(operator)s,
        assignment_time = now(),
        last_operator_id = %(operator)s
    WHERE id = %(chat)s
    """,
    """
    INSERT INTO public.chat_assignments (chat_id, operator_id, assigned_at)
    VALUES (%(chat)s, %(operator)s, now())
    """,
)


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
    """Create an account with the host, unless it exists; operators and users have one."""
    connection.execute(
        """
        INSERT INTO auth.users (id, email) VALUES (%(id)s, %(id)s::uuid || '@example.test')
        ON CONFLICT (id) DO NOTHING
        """,
        {"id": account},
    )


def sign_up_user(connection: PlatformConnection, user: UUID) -> None:
    """Create a user's account and profile, unless it exists."""
    add_account(connection, user)
    connection.execute(
        """
        INSERT INTO public.real_users
            (id, name, display_name, email, location, gender, looking_for, age)
        SELECT
            %(user)s, 'user-' || %(user)s::uuid, 'A user', %(user)s::uuid || '@example.test',
            'Nairobi', 'male', 'female', 30
        ON CONFLICT (id) DO NOTHING
        """,
        {"user": user},
    )


def add_persona(connection: PlatformConnection, persona: UUID) -> None:
    """Create a fictional user, unless it exists."""
    connection.execute(
        """
        INSERT INTO public.fictional_users (id, name, age, gender, location)
        VALUES (%(persona)s, 'Persona', 25, 'female', 'Mombasa')
        ON CONFLICT (id) DO NOTHING
        """,
        {"persona": persona},
    )


def open_chat(connection: PlatformConnection, chat: UUID, user: UUID) -> None:
    """Let a user open a chat: it waits in the queue before anything was written.

    `chat` and `user` are the new ids; the fictional user is any that exists, or a new one.
    """
    sign_up_user(connection, user)
    row = connection.execute("SELECT id FROM public.fictional_users LIMIT 1").fetchone()
    persona = row[0] if row else chat
    add_persona(connection, persona)
    connection.execute(
        """
        INSERT INTO public.chats (id, real_user_id, fictional_user_id)
        VALUES (%(chat)s, %(user)s, %(persona)s)
        ON CONFLICT DO NOTHING
        """,
        {"chat": chat, "user": user, "persona": persona},
    )


def start_chat(connection: PlatformConnection, chat: UUID, user: UUID, content: str) -> None:
    """Let a user open a chat and write a first message, as two requests."""
    open_chat(connection, chat, user)
    write_as_user(connection, chat, content)


def write_as_user(connection: PlatformConnection, chat: UUID, content: str) -> bool:
    """Let the user write; returns whether that put a `waiting_real_user_reply` chat in the queue.

    Whether the chat is active is not asked: in a closed one the message is written, paid for and
    seen by nobody. What happens to the state goes by the state that was read before the message.
    An assignment that is still open is closed only where the operator is still set.
    """
    before = connection.execute(
        "SELECT chat_state, assigned_operator_id FROM public.chats WHERE id = %(chat)s",
        {"chat": chat},
    ).fetchone()
    write_unnoticed(connection, chat, content)
    if before is None or before[0] != "waiting_real_user_reply":
        return False
    connection.execute(
        """
        UPDATE public.chats
        SET chat_state = 'waiting_assignment',
            assigned_operator_id = NULL,
            assignment_time = NULL,
            last_message_at = now()
        WHERE id = %(chat)s
        """,
        {"chat": chat},
    )
    if before[1] is not None:
        connection.execute(
            """
            UPDATE public.chat_assignments
            SET released_at = now(), release_reason = 'real_user_replied_after_operator'
            WHERE chat_id = %(chat)s AND operator_id = %(operator)s AND released_at IS NULL
            """,
            {"chat": chat, "operator": before[1]},
        )
    return True


def write_unnoticed(connection: PlatformConnection, chat: UUID, content: str) -> None:
    """Let the user write while the application loses the change of state that should follow."""
    connection.execute(
        """
        INSERT INTO public.messages (chat_id, sender_type, content)
        VALUES (%(chat)s, 'real', %(content)s)
        """,
        {"chat": chat, "content": content},
    )


def assign(connection: PlatformConnection, operator: UUID) -> UUID | None:
    """Let an operator take a chat by the platform's own function; None if nothing waits."""
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
    for step in REPLY_STEPS:
        connection.execute(step, values)


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
    row = connection.execute(
        """
        SELECT id FROM public.operator_activity
        WHERE chat_id = %(chat)s AND operator_id = %(operator)s
        """,
        values,
    ).fetchone()
    if row is not None:
        connection.execute(
            """
            UPDATE public.operator_activity
            SET last_activity = now() - make_interval(secs => %(ago_s)s)
            WHERE chat_id = %(chat)s AND operator_id = %(operator)s
            """,
            values,
        )
        return
    connection.execute(
        """
        INSERT INTO public.operator_activity (chat_id, operator_id, last_activity)
        VALUES (
            %(chat)s, %(operator)s, now() - make_interval(secs => %(ago_s)s)
        )
        """,
        values,
    )


def unassign(connection: PlatformConnection, chat: UUID, reason: str = "manual_unassign") -> None:
    """Let the operator hand the chat back: it is queued again whatever its past turns."""
    row = connection.execute(
        "SELECT assigned_operator_id FROM public.chats WHERE id = %(chat)s", {"chat": chat}
    ).fetchone()
    values = {"chat": chat, "operator": row and row[0], "reason": reason}
    for step in UNASSIGN_STEPS:
        connection.execute(step, values)


def reassign_as_admin(
    connection: PlatformConnection, chat: UUID, operator: UUID, note: str
) -> None:
    """Let an admin give the chat to a named operator, with the platform's own flaws.

    Neither whether he is available nor whether he has a chat is asked; the first assignment row
    stays open for ever.
    """
    reason = f"manual_reassignment_by_admin:{note}"
    values = {"chat": chat, "operator": operator, "reason": reason}
    for step in REASSIGN_STEPS:
        connection.execute(step, values)


def force_close(connection: PlatformConnection, chat: UUID) -> None:
    """Let an admin close a chat: its state stays what it was.

    Raises:
        psycopg.errors.CheckViolation: It is assigned, which an inactive chat cannot be without
            an operator; nothing has changed.
    """
    connection.execute(
        """
        UPDATE public.chats
        SET is_active = false, assigned_operator_id = NULL, assignment_time = NULL
        WHERE id = %(chat)s
        """,
        {"chat": chat},
    )


def block_user(connection: PlatformConnection, user: UUID) -> None:
    """Let an admin block a user, then close his chats.

    Raises:
        psycopg.errors.CheckViolation: One of them is assigned: he is blocked by then, and all of
            them stay active.
    """
    connection.execute(
        "UPDATE public.real_users SET is_active = false WHERE id = %(user)s", {"user": user}
    )
    connection.execute(
        """
        UPDATE public.chats
        SET is_active = false, assigned_operator_id = NULL, assignment_time = NULL
        WHERE real_user_id = %(user)s AND is_active = true
        """,
        {"user": user},
    )


def remove_fault(connection: PlatformConnection, chat: UUID) -> None:
    """Take a faulty chat out of sight by hand, as no part of the application can."""
    connection.execute(
        """
        UPDATE public.chats
        SET chat_state = 'completed',
            is_active = false,
            assigned_operator_id = NULL,
            assignment_time = NULL
        WHERE id = %(chat)s
        """,
        {"chat": chat},
    )


def run_idle_detector(connection: PlatformConnection) -> tuple[IdleRelease, ...]:
    """Run the platform's own job once; chats whose release fails are passed over.

    A chat is idle where its `assignment_time` is older than `idle_timeout_minutes` and the
    operator's last input is too, or is not known at all.
    """
    overdue = connection.execute(
        """
        SELECT c.id, c.assigned_operator_id
        FROM public.chats AS c
        LEFT JOIN public.operator_activity AS a
            ON a.chat_id = c.id AND a.operator_id = c.assigned_operator_id
        CROSS JOIN LATERAL (
            SELECT now() - make_interval(secs => 60 * coalesce(
                (
                    SELECT (value #>> '{}')::double precision
                    FROM public.platform_config
                    WHERE key = 'idle_timeout_minutes'
                ),
                5
            )) AS since
        ) AS idle
        WHERE
            c.chat_state = 'assigned'
            AND c.is_active = true
            AND c.assignment_time < idle.since
            AND (a.last_activity IS NULL OR a.last_activity < idle.since)
        ORDER BY c.assignment_time
        """
    ).fetchall()
    released = []
    for chat, operator in overdue:
        with contextlib.suppress(psycopg.errors.DataError, psycopg.errors.RaiseException):
            requeued = release(connection, chat, "idle_timeout")
            released.append(IdleRelease(chat, operator, requeued))
    return tuple(released)


def time_out_operator(connection: PlatformConnection, chat: UUID) -> bool:
    """Let the operator's own page give an idle chat back; False if that closed the chat."""
    return release(connection, chat, "operator_idle_timeout")
