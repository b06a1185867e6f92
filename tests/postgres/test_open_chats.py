"""The facts of open chats are what their rows say, however hostile these are.

Chats, messages and assignments are drawn at random: any state and holder, and times that are
missing, infinite or ahead of the clock wherever the platform's tables allow them.
"""

from __future__ import annotations

import math
import random
from collections import defaultdict
from collections.abc import Iterable
from typing import Any
from uuid import UUID

import pytest

from tests.postgres.test_queries_support import whole_plan_of
from tests.servers import Platform

STATES = (
    *("waiting_assignment", "assigned") * 2,
    *("waiting_real_user_reply", "completed", None),
)
HOSTILE = (
    "'infinity'",
    "'-infinity'",
    "'12000-01-01 00:00+00'",
    "now() + interval '3 hours'",
    "NULL",
    "NULL",
)
CHATS = 300
Row = dict[str, Any]


def draw_time(draw: random.Random) -> str:
    """A time as SQL: mostly of the last hours, and often the same as another one."""
    if draw.random() < 0.35:
        return draw.choice(HOSTILE)
    return f"now() - interval '{draw.randrange(60) * 3} minutes'"


def fill(platform: Platform, seed: int) -> None:
    """Draw a history; only what the tables themselves refuse is impossible in it."""
    draw = random.Random(seed)
    operators = [UUID(int=draw.getrandbits(128)) for _ in range(5)]
    with platform.connect() as connection, connection.transaction():
        # Neither triggers nor foreign keys: times and states stay as they are drawn.
        connection.execute("SET LOCAL session_replication_role = replica")
        for number in range(CHATS):
            chat = UUID(int=draw.getrandbits(128))
            state = draw.choice(STATES)
            is_held = state == "assigned" or draw.random() < 0.2
            holder = draw.choice(operators) if is_held else None
            is_active = draw.choice((True, True, True, False, None))
            connection.execute(
                f"""
                INSERT INTO public.chats (
                    id, real_user_id, fictional_user_id, is_active, chat_state,
                    assigned_operator_id, assignment_time, created_at, operator_replied_at
                )
                VALUES (
                    %s, %s, gen_random_uuid(), %s, %s, %s,
                    {draw_time(draw)}, {draw_time(draw)}, now()
                )
                """.encode(),
                (chat, UUID(int=number), is_active, state, holder),
            )
            for _ in range(draw.choice((0, 0, 1, 1, 2, 3, 6))):
                connection.execute(
                    f"""
                    INSERT INTO public.messages (chat_id, sender_type, content, created_at)
                    VALUES (%s, %s, 'text', {draw_time(draw)})
                    """.encode(),
                    (chat, draw.choice(("real", "fictional"))),
                )
            for _ in range(draw.choice((0, 0, 1, 2))):
                connection.execute(
                    f"""
                    INSERT INTO public.chat_assignments (
                        chat_id, operator_id, assigned_at, released_at
                    )
                    VALUES (%s, %s, {draw_time(draw)}, {draw_time(draw)})
                    """.encode(),
                    (chat, draw.choice(operators)),
                )


def read(cursor: Any, table: str, *columns: str) -> list[Row]:
    """Rows of a table, times as Unix seconds so that infinity can be read."""
    cursor.execute(f"SELECT {', '.join(columns)} FROM {table}".encode())
    names = [column.name for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def epoch(*columns: str) -> tuple[str, ...]:
    return tuple(f"extract(EPOCH FROM {name})::float8 AS {name}" for name in columns)


def latest(times: Iterable[float | None], now: float) -> float | None:
    """The latest usable time; None where there is none."""
    usable = [at for at in times if at is not None and -math.inf < at <= now]
    return max(usable, default=None)


def recount(chat: Row, messages: list[Row], assignments: list[Row], now: float) -> Row:
    """What the columns of the facts mean, in plain words."""
    created = latest([chat["created_at"]], now)
    by_operator = [m["created_at"] for m in messages if m["sender_type"] == "fictional"]
    by_user = [m["created_at"] for m in messages if m["sender_type"] == "real"]
    answered = latest(by_operator, now)
    usable = [at for at in by_user if latest([at], now) is not None]
    unanswered = min((at for at in usable if answered is None or at > answered), default=None)
    is_undated = unanswered is None and len(usable) < len(by_user)
    if chat["chat_state"] == "waiting_assignment":
        released = latest((a["released_at"] for a in assignments), now)
        since = latest([released, unanswered], now)
    else:
        since = latest([chat["assignment_time"]], now)
        if since is None:
            opened = (a["assigned_at"] for a in assignments if a["released_at"] is None)
            since = latest(opened, now)
    return {
        "chat_id": chat["id"],
        "state": chat["chat_state"],
        "operator_id": chat["assigned_operator_id"] if chat["chat_state"] == "assigned" else None,
        "created_at": chat["created_at"],
        "assignment_time": chat["assignment_time"],
        "since": created if since is None else since,
        "answered_at": answered,
        "is_owed": unanswered is not None or is_undated,
        "unanswered_since": latest([answered, created], now) if is_undated else unanswered,
        "is_empty": chat["chat_state"] == "waiting_assignment" and not messages,
    }


@pytest.mark.parametrize("seed", range(3))
def test_the_facts_are_what_the_rows_say(platform: Platform, seed: int) -> None:
    fill(platform, seed)
    (query,) = (query for query in whole_plan_of().queries if query.name == "state_clock")
    assert query.facts is not None
    kept: defaultdict[str, dict[UUID, list[Row]]] = defaultdict(lambda: defaultdict(list))

    with platform.connect() as connection, connection.transaction(), connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        ((now,),) = cursor.execute("SELECT extract(EPOCH FROM now())::float8").fetchall()
        chats = read(
            *(cursor, "public.chats", "id", "chat_state", "assigned_operator_id", "is_active"),
            *epoch("created_at", "assignment_time"),
        )
        for table, columns in (
            ("messages", ("sender_type", *epoch("created_at"))),
            ("chat_assignments", epoch("assigned_at", "released_at")),
        ):
            for row in read(cursor, f"public.{table}", "chat_id", *columns):
                kept[table][row["chat_id"]].append(row)
        times = ("created_at", "assignment_time", "since", "answered_at", "unanswered_since")
        plain = ("chat_id", "state", "operator_id", "is_owed", "is_empty")
        facts = read(cursor, f"({query.facts.sql}) AS f", *plain, *epoch(*times))

    expected = [
        recount(chat, kept["messages"][chat["id"]], kept["chat_assignments"][chat["id"]], now)
        for chat in chats
        if chat["is_active"] and chat["chat_state"] in ("waiting_assignment", "assigned")
    ]
    assert len(expected) > CHATS / 10
    assert {row["chat_id"]: row for row in facts} == {row["chat_id"]: row for row in expected}
    assert len(facts) == len(expected)
