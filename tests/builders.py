"""Rows with exact ages, for tests of what the exporter reads.

Every `…_s` is an age in seconds on the database's clock: the row is stamped `now()` minus it. A
negative age is in the future. None leaves the column NULL. Every builder returns the row's id.
`add_…` inserts one row as it is told, without regard for the others; `make_…` inserts a consistent
whole as the platform would leave it.
"""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from psycopg import sql

from tests.servers import Platform

_operator_numbers = itertools.count(1)


def add_operator(
    platform: Platform,
    name: str | None = None,
    *,
    active: bool = True,
    available: bool = True,
    seen_s: float | None = 0,
    created_s: float = 86_400,
) -> UUID:
    """Add an operator; `seen_s` is the age of `operators.last_activity`."""
    number = next(_operator_numbers)
    return platform.value(
        """
        WITH account AS (
            INSERT INTO auth.users (id, email) VALUES (gen_random_uuid(), %(email)s) RETURNING id
        )
        INSERT INTO operators (id, name, email, is_active, is_available, last_activity, created_at)
        SELECT id, %(name)s, %(email)s, %(active)s, %(available)s,
               now() - make_interval(secs => %(seen_s)s),
               now() - make_interval(secs => %(created_s)s)
        FROM account
        RETURNING id
        """,
        {
            "name": name or f"Operator {number:02}",
            "email": f"operator-{number}@example.test",
            "active": active,
            "available": available,
            "seen_s": seen_s,
            "created_s": created_s,
        },
    )


def add_people(platform: Platform, users: int, operators: int = 0) -> None:
    """Add a persona and many users and operators at once, for chats written by one statement."""
    platform.execute(
        """
        WITH account AS (
            INSERT INTO auth.users (id, email)
            SELECT id, id || '@example.test'
            FROM (
                SELECT gen_random_uuid() AS id FROM generate_series(1, %(people)s)
            ) AS made
            RETURNING id, email
        ),
        numbered AS (SELECT id, email, row_number() OVER () AS n FROM account),
        persona AS (
            INSERT INTO fictional_users (name, age, gender, location)
            VALUES ('Persona', 25, 'female', 'Mombasa')
        ),
        operator AS (
            INSERT INTO operators (id, name, email, is_available)
            SELECT id, 'Operator ' || n, email, true FROM numbered WHERE n > %(users)s
        )
        INSERT INTO real_users (id, name, display_name, email, location, gender, looking_for, age)
        SELECT id, 'user-' || id, 'A user', email, 'Nairobi', 'male', 'female', 30
        FROM numbered
        WHERE n <= %(users)s
        """,
        {"users": users, "people": users + operators},
    )


def add_chat(
    platform: Platform,
    state: str | None = "waiting_assignment",
    *,
    active: bool | None = True,
    created_s: float = 0,
    updated_s: float | None = None,
    operator: UUID | None = None,
    assigned_s: float | None = None,
    last_operator: UUID | None = None,
    replied_s: float | None = None,
    last_message_s: float | None = None,
    message_count: int = 0,
) -> UUID:
    """Add one row of `chats` exactly as told; `updated_s` defaults to `created_s`."""
    return platform.value(
        """
        WITH persona AS (
            INSERT INTO fictional_users (name, age, gender, location)
            VALUES ('Persona', 25, 'female', 'Mombasa')
            RETURNING id
        ),
        account AS (
            INSERT INTO auth.users (id, email)
            SELECT id, id || '@example.test' FROM (SELECT gen_random_uuid() AS id) AS made
            RETURNING id, email
        ),
        customer AS (
            INSERT INTO real_users
                (id, name, display_name, email, location, gender, looking_for, age)
            SELECT id, 'user-' || id, 'A user', email, 'Nairobi', 'male', 'female', 30
            FROM account
            RETURNING id
        )
        INSERT INTO chats (
            real_user_id, fictional_user_id, chat_state, is_active, created_at, updated_at,
            assigned_operator_id, assignment_time, last_operator_id, operator_replied_at,
            last_message_at, message_count)
        SELECT customer.id, persona.id, %(state)s, %(active)s,
               now() - make_interval(secs => %(created_s)s),
               now() - make_interval(secs => %(updated_s)s),
               %(operator)s,
               now() - make_interval(secs => %(assigned_s)s),
               %(last_operator)s,
               now() - make_interval(secs => %(replied_s)s),
               now() - make_interval(secs => %(last_message_s)s),
               %(message_count)s
        FROM customer, persona
        RETURNING id
        """,
        {
            "state": state,
            "active": active,
            "created_s": created_s,
            "updated_s": created_s if updated_s is None else updated_s,
            "operator": operator,
            "assigned_s": assigned_s,
            "last_operator": last_operator,
            "replied_s": replied_s,
            "last_message_s": last_message_s,
            "message_count": message_count,
        },
    )


def add_message(
    platform: Platform,
    chat: UUID,
    sender: str = "real",
    *,
    age_s: float = 0,
    operator: UUID | None = None,
    content: str = "text",
) -> UUID:
    """Add a message of the user (`real`) or an operator (`fictional`); it touches its chat."""
    return platform.value(
        """
        INSERT INTO messages (chat_id, sender_type, content, handled_by_operator_id, created_at)
        VALUES (%(chat)s, %(sender)s, %(content)s, %(operator)s,
                now() - make_interval(secs => %(age_s)s))
        RETURNING id
        """,
        {
            "chat": chat,
            "sender": sender,
            "content": content,
            "operator": operator,
            "age_s": age_s,
        },
    )


def add_assignment(
    platform: Platform,
    chat: UUID,
    operator: UUID,
    *,
    assigned_s: float = 0,
    released_s: float | None = None,
    reason: str | None = None,
) -> UUID:
    """Add an assignment row: open, or released that long ago for a reason."""
    return platform.value(
        """
        INSERT INTO chat_assignments
            (chat_id, operator_id, assigned_at, released_at, release_reason, created_at)
        VALUES (%(chat)s, %(operator)s,
                now() - make_interval(secs => %(assigned_s)s),
                now() - make_interval(secs => %(released_s)s),
                %(reason)s,
                now() - make_interval(secs => %(assigned_s)s))
        RETURNING id
        """,
        {
            "chat": chat,
            "operator": operator,
            "assigned_s": assigned_s,
            "released_s": released_s,
            "reason": reason,
        },
    )


def add_heartbeat(
    platform: Platform,
    chat: UUID,
    operator: UUID,
    *,
    browser_s: float = 0,
    updated_s: float | None = None,
) -> UUID:
    """Add a heartbeat row: `last_activity` by the browser's clock, `updated_at` by ours."""
    return platform.value(
        """
        INSERT INTO operator_activity (chat_id, operator_id, last_activity, updated_at)
        VALUES (%(chat)s, %(operator)s,
                now() - make_interval(secs => %(browser_s)s),
                now() - make_interval(secs => %(updated_s)s))
        RETURNING id
        """,
        {
            "chat": chat,
            "operator": operator,
            "browser_s": browser_s,
            "updated_s": browser_s if updated_s is None else updated_s,
        },
    )


def make_waiting_chat(
    platform: Platform,
    *,
    age_s: float = 0,
    created_s: float | None = None,
    last_operator: UUID | None = None,
) -> UUID:
    """Make a chat whose user wrote `age_s` ago and waits since; `created_s` if it is older."""
    created_s = age_s if created_s is None else created_s
    chat = add_chat(
        platform,
        created_s=created_s,
        updated_s=age_s,
        last_operator=last_operator,
    )
    add_message(platform, chat, age_s=age_s)
    restore_stamp(platform, chat, age_s)
    return chat


def make_assigned_chat(
    platform: Platform,
    operator: UUID | None = None,
    *,
    age_s: float = 0,
    heartbeat_s: float | None = 0,
    waited_s: float = 10,
    created_s: float | None = None,
    past_turns: int = 0,
) -> UUID:
    """Make a chat that an operator took `age_s` ago, after its user had waited `waited_s`.

    Args:
        platform: Where.
        operator: Who; a new operator by default.
        age_s: Age of the assignment.
        heartbeat_s: Age of the last heartbeat on both clocks; None for no heartbeat row.
        waited_s: How long before the assignment the user's unanswered message came.
        created_s: Age of the chat; by default that of the user's message.
        past_turns: Earlier assignments of the chat, each ended by a reply.
    """
    operator = operator or add_operator(platform)
    asked_s = age_s + waited_s
    chat = add_chat(
        platform,
        "assigned",
        created_s=asked_s if created_s is None else created_s,
        updated_s=age_s,
        operator=operator,
        assigned_s=age_s,
        last_operator=operator,
    )
    for turn in range(past_turns, 0, -1):
        earlier_s = asked_s + 60 * turn
        add_message(platform, chat, age_s=earlier_s + 40)
        add_message(platform, chat, "fictional", age_s=earlier_s, operator=operator)
        add_assignment(
            platform,
            chat,
            operator,
            assigned_s=earlier_s + 30,
            released_s=earlier_s,
            reason="operator_sent_message",
        )
    add_message(platform, chat, age_s=asked_s)
    add_assignment(platform, chat, operator, assigned_s=age_s)
    if heartbeat_s is not None:
        add_heartbeat(platform, chat, operator, browser_s=heartbeat_s)
    restore_stamp(platform, chat, age_s)
    return chat


def make_replied_chat(
    platform: Platform, operator: UUID | None = None, *, age_s: float = 0, handled_s: float = 30
) -> UUID:
    """Make a chat that an operator answered `age_s` ago and whose user has not written since."""
    operator = operator or add_operator(platform)
    asked_s = age_s + handled_s
    chat = add_chat(
        platform,
        "waiting_real_user_reply",
        created_s=asked_s,
        updated_s=age_s,
        last_operator=operator,
        replied_s=age_s,
    )
    add_message(platform, chat, age_s=asked_s)
    add_message(platform, chat, "fictional", age_s=age_s, operator=operator)
    add_assignment(
        platform,
        chat,
        operator,
        assigned_s=asked_s,
        released_s=age_s,
        reason="operator_sent_message",
    )
    restore_stamp(platform, chat, age_s)
    return chat


@contextlib.contextmanager
def restoring(platform: Platform) -> Iterator[None]:
    """Write rows as they are restored from a backup: in one transaction, and no trigger fires."""
    with platform.connection.transaction():
        platform.execute("SET LOCAL session_replication_role = replica")
        yield


def restore_stamp(platform: Platform, chat: UUID, updated_s: float) -> None:
    """Let a chat have been untouched for so long, as a restored backup has it.

    Only without triggers: on the platform every update and every message touches the chat.
    """
    with restoring(platform):
        platform.execute(
            "UPDATE chats SET updated_at = now() - make_interval(secs => %s) WHERE id = %s",
            [updated_s, chat],
        )


def set_config(platform: Platform, key: str, value: Any) -> None:
    """Set a row of `platform_config` to a JSON value; a Python str becomes a JSON string."""
    platform.execute(
        """
        INSERT INTO platform_config (key, value) VALUES (%(key)s, %(value)s)
        ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value
        """,
        {"key": key, "value": json.dumps(value)},
    )


def make_role(
    platform: Platform,
    suffix: str,
    *,
    select: bool = True,
    policies: bool = False,
    bypass_rls: bool = False,
) -> str:
    """Make a login role for one test and return its name; it goes with the test's database.

    Args:
        platform: The test's database; use `platform.dsn_as(role)` or `platform.connect(role)`.
        suffix: End of the role's name.
        select: Grant SELECT on all of the platform's relations.
        policies: Give it a policy that shows all rows of every table.
        bypass_rls: Let it bypass row-level security.
    """
    name = f"{platform.database}_{suffix}"
    role = sql.Identifier(name)
    run = platform.connection.execute
    bypass = sql.SQL("BYPASSRLS" if bypass_rls else "NOBYPASSRLS")
    run(sql.SQL("CREATE ROLE {} LOGIN {}").format(role, bypass))
    if select:
        run(sql.SQL("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}").format(role))
    if policies:
        for (table,) in platform.fetch(
            "SELECT relname FROM pg_class"
            " WHERE relnamespace = 'public'::regnamespace AND relrowsecurity"
        ):
            run(
                sql.SQL("CREATE POLICY {} ON public.{} FOR SELECT TO {} USING (true)").format(
                    role, sql.Identifier(table), role
                )
            )
    return name
