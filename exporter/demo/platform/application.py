"""What the platform's application writes by itself, statement by statement.

On an autocommit connection the statements of one function commit separately, as the requests of
the real application do; the short inconsistencies between them are part of the platform. Its
stored functions (`assign_chat_to_operator`, `release_and_reassign_chat`) are called by their name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import LiteralString
from uuid import UUID

from psycopg import Connection
from psycopg.rows import TupleRow

PlatformConnection = Connection[TupleRow]

# An operator's reply: message, state, assignment, heartbeat row. Tests stop between two of them.
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


def start_chat(connection: PlatformConnection, chat: UUID, user: UUID, content: str) -> None:
    """Let a user open a chat with a first message; `chat` and `user` are the new ids.

    The fictional user is any that exists, or a new one.
    """
    connection.execute(
        """
        INSERT INTO public.real_users (id, name) VALUES (%(user)s, 'A user')
        ON CONFLICT (id) DO NOTHING
        """,
        {"user": user},
    )
    connection.execute(
        """
        WITH present AS (SELECT id FROM public.fictional_users LIMIT 1),
        added AS (
            INSERT INTO public.fictional_users (name)
            SELECT 'Persona' WHERE NOT EXISTS (SELECT FROM present)
            RETURNING id
        )
        INSERT INTO public.chats
            (id, real_user_id, fictional_user_id, last_message_at, message_count)
        SELECT %(chat)s, %(user)s, id, now(), 1
        FROM (SELECT id FROM present UNION ALL SELECT id FROM added) AS persona
        ON CONFLICT (id) DO NOTHING
        """,
        {"chat": chat, "user": user},
    )
    _insert_user_message(connection, chat, content)


def write_as_user(connection: PlatformConnection, chat: UUID, content: str) -> bool:
    """Let the user write; returns whether that put a `waiting_real_user_reply` chat in the queue.

    An assignment that is still open then, since the application died between two steps of the
    operator's reply, ends with the reason `real_user_replied_after_operator`.
    """
    _insert_user_message(connection, chat, content)
    connection.execute(
        """
        UPDATE public.chats
        SET last_message_at = now(), message_count = message_count + 1
        WHERE id = %(chat)s
        """,
        {"chat": chat},
    )
    requeued = connection.execute(
        """
        UPDATE public.chats
        SET chat_state = 'waiting_assignment', assigned_operator_id = NULL, assignment_time = NULL
        WHERE id = %(chat)s AND chat_state = 'waiting_real_user_reply' AND is_active = true
        """,
        {"chat": chat},
    )
    if requeued.rowcount == 0:
        return False
    connection.execute(
        """
        UPDATE public.chat_assignments
        SET released_at = now(), release_reason = 'real_user_replied_after_operator'
        WHERE chat_id = %(chat)s AND released_at IS NULL
        """,
        {"chat": chat},
    )
    return True


def write_unnoticed(connection: PlatformConnection, chat: UUID, content: str) -> None:
    """Let the user write while the application loses the change of state that should follow."""
    _insert_user_message(connection, chat, content)
    connection.execute(
        """
        UPDATE public.chats
        SET last_message_at = now(), message_count = message_count + 1
        WHERE id = %(chat)s
        """,
        {"chat": chat},
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
    """Let the operator answer: the four steps of `REPLY_STEPS`, each a statement of its own."""
    values = {"chat": chat, "operator": operator, "content": content}
    for step in REPLY_STEPS:
        connection.execute(step, values)


def beat(
    connection: PlatformConnection, chat: UUID, operator: UUID, *, skew_s: float = 0.0
) -> bool:
    """Send the browser's heartbeat, its clock `skew_s` seconds ahead; False if the row is gone."""
    beaten = connection.execute(
        """
        UPDATE public.operator_activity
        SET last_activity = clock_timestamp() + make_interval(secs => %(skew_s)s)
        WHERE chat_id = %(chat)s AND operator_id = %(operator)s
        """,
        {"chat": chat, "operator": operator, "skew_s": skew_s},
    )
    return beaten.rowcount > 0


def unassign(connection: PlatformConnection, chat: UUID, reason: str = "manual_unassign") -> None:
    """Let the operator hand the chat back: it is queued again whatever its past turns."""
    _close_assignment(connection, chat, reason)
    _clear_operator(connection, chat)


def reassign_as_admin(connection: PlatformConnection, chat: UUID, note: str) -> None:
    """Let an admin take the chat from its operator, with the platform's own flaw.

    It inserts a second, already released assignment row and leaves the first open for ever.
    """
    connection.execute(
        """
        INSERT INTO public.chat_assignments
            (chat_id, operator_id, assigned_at, released_at, release_reason)
        SELECT id, assigned_operator_id, now(), now(), %(reason)s
        FROM public.chats
        WHERE id = %(chat)s AND assigned_operator_id IS NOT NULL
        """,
        {"chat": chat, "reason": f"manual_reassignment_by_admin:{note}"},
    )
    _clear_operator(connection, chat)


def complete(connection: PlatformConnection, chat: UUID) -> None:
    """End the conversation."""
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
    """Run the platform's own job once: release what has no heartbeat for `idle_timeout_minutes`.

    It goes by `last_activity`, the browser's clock, and releases by the platform's function.
    """
    overdue = connection.execute(
        """
        SELECT c.id, c.assigned_operator_id
        FROM public.chats c
        JOIN public.operator_activity a
          ON a.chat_id = c.id AND a.operator_id = c.assigned_operator_id
        WHERE c.chat_state = 'assigned'
          AND c.is_active = true
          AND a.last_activity < now() - make_interval(
              secs => 60 * coalesce(
                  (SELECT (value #>> '{}')::double precision
                   FROM public.platform_config WHERE key = 'idle_timeout_minutes'),
                  5))
        ORDER BY a.last_activity
        """
    ).fetchall()
    return tuple(
        IdleRelease(chat, operator, release(connection, chat, "idle_timeout"))
        for chat, operator in overdue
    )


def _insert_user_message(connection: PlatformConnection, chat: UUID, content: str) -> None:
    connection.execute(
        """
        INSERT INTO public.messages (chat_id, sender_type, content)
        VALUES (%(chat)s, 'real', %(content)s)
        """,
        {"chat": chat, "content": content},
    )


def _close_assignment(connection: PlatformConnection, chat: UUID, reason: str) -> None:
    connection.execute(
        """
        UPDATE public.chat_assignments a
        SET released_at = now(), release_reason = %(reason)s
        FROM public.chats c
        WHERE c.id = %(chat)s
          AND a.chat_id = c.id
          AND a.operator_id = c.assigned_operator_id
          AND a.released_at IS NULL
        """,
        {"chat": chat, "reason": reason},
    )


def _clear_operator(connection: PlatformConnection, chat: UUID) -> None:
    """Queue the chat again and delete the heartbeat row of whoever had it."""
    connection.execute(
        """
        DELETE FROM public.operator_activity a
        USING public.chats c
        WHERE c.id = %(chat)s AND a.chat_id = c.id AND a.operator_id = c.assigned_operator_id
        """,
        {"chat": chat},
    )
    connection.execute(
        """
        UPDATE public.chats
        SET chat_state = 'waiting_assignment', assigned_operator_id = NULL, assignment_time = NULL
        WHERE id = %(chat)s
        """,
        {"chat": chat},
    )
